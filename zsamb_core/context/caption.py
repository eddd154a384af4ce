"""Captions by BLIP (Li, Li, Xiong, Hoi, arXiv 2201.12086), as Z-SASLM takes the text of a picture."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image

from ..files.json_file import read_settings
from ..messages import short
from ..transformers_folder import (
    Kind,
    load_image_processor,
    load_tokenizer,
    load_whole,
    of_transformers,
    type_of,
)
from .generation import StopCheck, on_every_token

KIND = Kind(
    {"blip": "BLIP for captions"},
    "Salesforce/blip-image-captioning-base",
    "config.json, preprocessor_config.json, the tokenizer's files and pytorch_model.bin",
)
CLASS = "BlipForConditionalGeneration"
AT_ONCE = 8  # pictures in one pass


class CaptionModel(NamedTuple):
    """transformers' model, image processor and tokenizer."""

    model: Any
    processor: Any
    tokenizer: Any

    @torch.no_grad()
    def captions(
        self, pictures: list[Image.Image], prefix: str, length: int, beams: int, stop_check: StopCheck
    ) -> Iterator[list[str]]:
        """A caption of each picture, ``AT_ONCE`` in a pass: what a pass gives. Each begins with ``prefix``,
        has at most ``length`` more tokens, and is the likeliest of ``beams`` (1: greedy). ``stop_check`` is
        called after every token.
        """
        parameter = next(self.model.parameters())
        for i in range(0, len(pictures), AT_ONCE):
            part = pictures[i : i + AT_ONCE]
            inputs = {"pixel_values": self.processor(part, return_tensors="pt")["pixel_values"]}
            if prefix.strip():
                words = self.tokenizer([prefix.strip()] * len(part), return_tensors="pt")
                inputs |= {name: words[name] for name in ("input_ids", "attention_mask")}
            inputs = {name: value.to(parameter.device) for name, value in inputs.items()}
            ids = self.model.generate(
                **inputs,
                max_new_tokens=length,
                num_beams=beams,
                do_sample=False,
                stopping_criteria=on_every_token(stop_check),
            )
            yield self.tokenizer.batch_decode(ids, skip_special_tokens=True)


def as_sentence(caption: str) -> str:
    """One line that ends with a full stop, as the published code writes captions; "" stays ""."""
    text = " ".join(caption.split())
    return text if not text or text.endswith((".", "!", "?")) else f"{text}."


def load_caption_model(folder: str | Path) -> CaptionModel:
    """Raises ValueError that names the folder, what was found and what was expected."""
    folder = Path(folder)
    what = KIND.types[type_of(folder, KIND)]
    made = read_settings(folder, "config.json").get("architectures") or [CLASS]
    if not isinstance(made, list) or CLASS not in made:
        first = short(made[0] if isinstance(made, list) else made)
        raise ValueError(
            f"{folder.name} is a {first}, expected a {CLASS}: a BLIP that was made for captions."
        )
    model = load_whole(of_transformers(CLASS), folder, what, lambda k: "position_ids" in k)
    return CaptionModel(model, load_image_processor(folder, what), load_tokenizer(folder, what))
