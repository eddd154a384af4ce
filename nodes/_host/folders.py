"""Folders of the pack's own files among the host's models."""

import os
import re
from collections.abc import Container, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

import folder_paths

from ...zsamb_core.files.json_file import read_settings
from ...zsamb_core.messages import quoted, short

TRANSFORMERS = "transformers"  # the folder type


def register(name: str, extensions: tuple[str, ...], saved: bool = False) -> None:
    """A folder type under models/ and, for what the pack saves, under output/. Folders that other packs or
    extra_model_paths named for it stay, and stay first.
    """
    for parent in (folder_paths.models_dir, *([folder_paths.get_output_directory()] if saved else [])):
        folder_paths.add_model_folder_path(name, str(Path(parent) / name))
    paths, known = folder_paths.folder_names_and_paths[name]
    folder_paths.folder_names_and_paths[name] = (paths, {*known, *extensions})


def files(name: str) -> list[str]:
    return folder_paths.get_filename_list(name)


def places(name: str) -> str:
    """The folders of a folder type, as a message names them."""
    return ", ".join(folder_paths.get_folder_paths(name))


def find(name: str, file: str, node: str, example: str = "") -> Path:
    """Raises ValueError that lists where it was looked for. ``example``: what to get, and from where."""
    path = folder_paths.get_full_path(name, file)
    if path is None:
        message = (
            f"{node}: the file {quoted(file)} was not found, expected it in one of {places(name)}. {example}"
        )
        raise ValueError(message.rstrip())
    return Path(path)


def places_for(name: str, prefix: str, extension: str, node: str, plain: str) -> Iterator[Path]:
    """Paths for a new file under output/, by the host's rules for a prefix, numbered on from the highest
    number there. The host's own counter is no help: behind a prefix that ends in a slash it stays at 1.
    ``plain``: the name where the prefix is empty. Raises ValueError for a prefix that is no place there.
    """
    root = Path(folder_paths.get_output_directory()) / name

    def place(number: int) -> Path:
        return Path(folder) / f"{stem}_{number:05}_{extension}"

    try:
        folder, stem, *_ = folder_paths.get_save_image_path(prefix.strip() or plain, str(root))
        if stem in ("", ".", ".."):
            raise ValueError("it names no file")
        first = 1 + max((int(m[1]) for f in os.listdir(folder) if (m := numbered(stem, f))), default=0)
        with suppress(FileNotFoundError):  # any other error is a name that the system cannot have
            os.lstat(place(first))
    except Exception as error:  # the host raises a bare one for a folder outside
        raise ValueError(
            f"{node}: filename_prefix is {quoted(prefix)}, which cannot be a place under {root}"
            f" ({short(error)}), expected a name such as {plain}, or a folder and a name: ink/{plain}."
        ) from error
    return map(place, count(first))


def numbered(stem: str, file: str) -> re.Match[str] | None:
    """The number of a file that this stem was saved to, in any case where the system knows none."""
    stem, file = os.path.normcase(stem), os.path.normcase(file)
    return re.match(rf"{re.escape(stem)}_([0-9]{{1,9}})_", file)


def name_in(name: str, path: Path) -> str:
    """As the loaders list a file that was saved."""
    return path.relative_to(Path(folder_paths.get_output_directory()) / name).as_posix()


def model_folders(kinds: Container[str]) -> list[str]:
    """The folders ``model`` or ``author/model`` of these model types under the transformers folders; no
    deeper, since the host asks at every start and refresh.
    """
    names = set()
    for root in map(Path, folder_paths.get_folder_paths(TRANSFORMERS)):
        for pattern in ("*/config.json", "*/*/config.json"):
            for config in root.glob(pattern):
                try:
                    kind = read_settings(config.parent, config.name).get("model_type")
                except ValueError:
                    continue
                if isinstance(kind, str) and kind in kinds:
                    names.add(config.parent.relative_to(root).as_posix())
    return sorted(names)


def model_folder(name: str, node: str, example: str, file: str = "config.json") -> Path:
    """Raises ValueError that lists where it was looked for. ``example``: what to get, from Hugging Face."""
    roots = folder_paths.get_folder_paths(TRANSFORMERS)
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
