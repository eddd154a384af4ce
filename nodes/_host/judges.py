"""Vision models in the hands of the host's memory manager."""

from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.sd1_clip
import comfy.utils
import folder_paths
import torch

from ...zsamb_core.vision_model import AT_ONCE, VisionModel, as_pictures, embed_all, load_vision_model

FOLDER = "transformers"
DEMO = {"demo DINO": "dino", "demo CLIP": "clip"}


class Held(torch.nn.Module):
    """A module of transformers in a plain one: the host notes the device on what it manages, and theirs has a
    device of its own that cannot be set.
    """

    def __init__(self, inner: torch.nn.Module):
        super().__init__()
        self.inner = inner


@dataclass(frozen=True)
class Judge:
    """A vision model, and what moves it to the device and away. ``name`` as the loader lists it."""

    name: str
    vision: VisionModel
    patcher: comfy.model_patcher.ModelPatcher


def listed() -> list[str]:
    """The demo's judges, and the folders ``model`` or ``author/model`` with a ``config.json`` under the
    transformers folders; no deeper, since the host asks at every start and refresh.
    """
    found = set()
    for root in map(Path, folder_paths.get_folder_paths(FOLDER)):
        for pattern in ("*/config.json", "*/*/config.json"):
            found |= {config.parent.relative_to(root).as_posix() for config in root.glob(pattern)}
    return [*DEMO, *sorted(found)]


def folder_of(name: str, node: str) -> Path:
    """Raises ValueError that lists where it was looked for."""
    roots = folder_paths.get_folder_paths(FOLDER)
    for root in roots:
        if (Path(root) / name / "config.json").is_file():
            return Path(root) / name
    raise ValueError(
        f"{node}: the folder {name!r} with a config.json was not found, expected it in one of"
        f" {', '.join(roots)}. Get a model such as facebook/dino-vitb8 from Hugging Face: config.json,"
        " preprocessor_config.json and model.safetensors."
    )


def load_judge(name: str, node: str) -> Judge:
    """Raises ValueError for a folder that is no vision model."""
    if name in DEMO:
        from ...demo.judges import demo_judge

        tokenizer = Path(comfy.sd1_clip.__file__).parent / "sd1_tokenizer"
        vision = demo_judge(DEMO[name], tokenizer)
    else:
        vision = load_vision_model(folder_of(name, node))
    device = comfy.model_management.get_torch_device()
    patcher = comfy.model_patcher.ModelPatcher(
        Held(vision.model), load_device=device, offload_device=comfy.model_management.unet_offload_device()
    )
    return Judge(name, vision, patcher)


def embed(judge: Judge, images: list[torch.Tensor], preprocessing: str) -> torch.Tensor:
    """(n, D) of all pictures of the IMAGEs, each once, with the host's progress bar; can be interrupted."""
    pictures = [picture for image in images for picture in as_pictures(image)]
    comfy.model_management.load_models_gpu([judge.patcher], force_full_load=True)
    progress = comfy.utils.ProgressBar(len(pictures)) if len(pictures) > AT_ONCE else None
    found = []
    for part in embed_all(judge.vision, pictures, preprocessing):
        comfy.model_management.throw_exception_if_processing_interrupted()
        found.append(part)
        if progress:
            progress.update(len(part))
    return torch.cat(found)


def embed_texts(judge: Judge, texts: list[str]) -> torch.Tensor:
    comfy.model_management.load_models_gpu([judge.patcher], force_full_load=True)
    return judge.vision.embed_text(texts)
