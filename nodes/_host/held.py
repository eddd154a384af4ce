"""Models that are not the host's own in the hands of its memory manager."""

from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import folder_paths
import torch

from ...zsamb_core.json_file import read_settings
from ...zsamb_core.said import quoted

FOLDER = "transformers"


class Held(torch.nn.Module):
    """A module of transformers in a plain one: the host notes the device on what it manages, and theirs has a
    device of its own that cannot be set.
    """

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner


def hold(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """What moves a model to the device and away."""
    return comfy.model_patcher.ModelPatcher(
        Held(model),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def to_device(patcher: comfy.model_patcher.ModelPatcher) -> None:
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)


def stop_if_asked() -> None:
    """Raises the host's exception once the user has interrupted."""
    comfy.model_management.throw_exception_if_processing_interrupted()


def model_folders(kinds) -> list[str]:
    """The folders ``model`` or ``author/model`` of these model types under the transformers folders; no
    deeper, since the host asks at every start and refresh.
    """
    found = set()
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        for pattern in ("*/config.json", "*/*/config.json"):
            for config in root.glob(pattern):
                try:
                    kind = read_settings(config.parent, config.name).get("model_type")
                except ValueError:
                    continue
                if isinstance(kind, str) and kind in kinds:
                    found.add(config.parent.relative_to(root).as_posix())
    return sorted(found)


def said_of(path_of, name, node: str) -> bool | str:
    """For a loader's ``validate_inputs``, in place of the host's look into the list: True where ``path_of``
    finds what ``name`` means, else what is wrong, before anything runs.
    """
    if name is None:  # comes by a link, and is looked at when it is there
        return True
    try:
        path_of(name, node)
    except ValueError as error:
        return str(error)
    return True


def stamp_of(path_of, name, node: str) -> str:
    """For a loader's ``fingerprint_inputs``: changes when a file does, is replaced, comes or goes, even by
    one that is older. The name of what is no file.
    """
    path = path_of(name, node) if name is not None else None
    if path is None:
        return name or ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def model_folder(name: str, node: str, example: str, file: str = "config.json") -> Path:
    """Raises ValueError that lists where it was looked for. ``example``: what to get, from Hugging Face."""
    roots = folder_paths.get_folder_paths(FOLDER)
    if Path(name).anchor or ".." in Path(name).parts:
        raise ValueError(
            f"{node}: the name {quoted(name)} leads elsewhere, expected a folder in {', '.join(roots)}."
        )
    for root in roots:
        if (Path(root) / name / file).is_file():
            return Path(root) / name
    raise ValueError(
        f"{node}: the folder {quoted(name)} with a {file} was not found, expected it in one of"
        f" {', '.join(roots)}."
        f" {example}"
    )
