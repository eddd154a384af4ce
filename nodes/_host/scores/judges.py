"""Vision models in the hands of the host's memory manager."""

import inspect
import logging
from pathlib import Path

import comfy.model_patcher
import comfy.sd1_clip
import comfy.utils
import torch

from ....zsamb_core.scores.judge import AT_ONCE, KIND, VisionModel, as_pictures, embed_all, load_vision_model
from ..memory import managed, stop_if_asked, to_device
from ..model_source import Source

DEMO = {"demo DINO": "dino", "demo CLIP": "clip"}
SOURCE = Source(KIND, load_vision_model)


class Judge:
    """A vision model, and what moves it to the device and away. ``name`` as the loader lists it."""

    def __init__(self, name: str, vision: VisionModel, patcher: comfy.model_patcher.ModelPatcher) -> None:
        self.name, self.vision, self.patcher = name, vision, patcher


def listed() -> list[str]:
    """The recommended folder, there or not, the demo's judges, and the folders with one of transformers."""
    return list(dict.fromkeys([KIND.example, *DEMO, *SOURCE.listed()]))


def folder_of(name: str, node: str) -> Path | None:
    """None for the demo's. Raises ValueError for what is no name, and for what is not there, with where it
    was looked for.
    """
    if isinstance(name, str) and name in DEMO:
        return None
    return SOURCE.path(name, node)


def load_judge(name: str, node: str) -> Judge:
    """Raises ValueError for what is not there, or no vision model."""
    folder = folder_of(name, node)
    if folder is None:
        from ....demo.judges import demo_judge

        tokenizer = Path(inspect.getfile(comfy.sd1_clip.SDTokenizer)).parent / "sd1_tokenizer"
        vision = demo_judge(DEMO[name], tokenizer)
    else:
        vision = load_vision_model(folder)
    return Judge(name, vision, managed(vision.model))


def embed(judge: Judge, images: dict[str, torch.Tensor], preprocessing: str) -> torch.Tensor:
    """(n, D) of all pictures of the IMAGEs by input, each once, with the host's progress bar; can
    be interrupted. Raises ValueError for what is no picture, with the input.
    """
    pictures = [picture for name, image in images.items() for picture in as_pictures(image, name)]
    to_device(judge.patcher)
    progress = comfy.utils.ProgressBar(len(pictures)) if len(pictures) > AT_ONCE else None
    embeds = []
    for part in embed_all(judge.vision, pictures, preprocessing):
        stop_if_asked()
        embeds.append(part)
        if progress:
            progress.update(len(part))
    return torch.cat(embeds)


def embed_texts(judge: Judge, texts: list[str], node: str) -> tuple[torch.Tensor, list[dict[str, int]]]:
    """(n, D) of the texts' words; and for each text that is longer than the model reads: its number from 1,
    its tokens, and how many are read. A line in the log says so too.
    """
    to_device(judge.patcher)
    embeds, cut = judge.vision.embed_text(texts), []
    for number, text in enumerate(texts, 1):
        read, count = judge.vision.read(text)
        if read < count:
            logging.warning(
                "%s: prompt %d has %d tokens, and %s reads %d: what is behind them is not scored.",
                node, number, count, judge.name, read,
            )  # fmt: skip
            cut.append({"prompt": number, "tokens": count, "read": read})
    return embeds, cut
