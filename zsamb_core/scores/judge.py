"""Image encoders that judge style: DINO and DINOv2 by their CLS token, CLIP by its projected embedding.

Models are transformers folders. Pictures are (n, H, W, 3) in 0..1.
"""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..files.json_file import read_settings
from ..finite import require_finite
from ..prompts import plain_words
from ..transformers_folder import (
    Kind,
    load_image_processor,
    load_tokenizer,
    load_whole,
    loading,
    of_transformers,
    type_of,
)

KIND = Kind(
    {"vit": "ViT (DINO)", "dinov2": "DINOv2", "clip": "CLIP"},
    "facebook/dino-vitb8",
    "config.json, preprocessor_config.json and model.safetensors",
)
PUBLISHED, OWN = "published (squash)", "the model's own"
AT_ONCE = 16  # pictures in one pass
Prepare = Callable[[list[Image.Image]], Tensor]


class VisionModel(NamedTuple):
    """``kind``: of ``KIND.types``; ``model``: transformers' module; ``side`` of its input in pixels; ``mean``
    and ``std`` of its normalization; ``resample``: PIL's number of its filter; ``own``: the model authors'
    preprocessing, pictures to pixels (n, 3, h, w); of a CLIP ``tokenizer``: texts to token rows (n, 77), cut
    there, and ``tokens``: how many a text has, uncut.
    """

    kind: str
    model: Any
    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resample: int
    own: Prepare
    tokenizer: Callable[[list[str]], Tensor] | None = None
    tokens: Callable[[str], int] | None = None

    def prepared(self, pictures: list[Image.Image], preprocessing: str) -> Tensor:
        """(n, 3, h, w). "published": every picture squashed to the model's square, as the evaluations of
        StyleAligned and Z-SASLM do it (with ViT-B/8, 224); else as the model's authors do.
        """
        if preprocessing == OWN:
            return self.own(pictures)
        square = [p.resize((self.side, self.side), Image.Resampling(self.resample)) for p in pictures]
        pixels = torch.from_numpy(np.stack([np.asarray(p, np.float32) for p in square])) / 255
        return ((pixels - torch.tensor(self.mean)) / torch.tensor(self.std)).movedim(-1, 1)

    @torch.no_grad()
    def embed(self, pixels: Tensor) -> Tensor:
        """(n, D) in fp32 on the CPU, from prepared pixels."""
        parameter = next(self.model.parameters())
        pixels = pixels.to(parameter.device, parameter.dtype)
        if self.kind == "clip":
            vision = self.model.vision_model(pixel_values=pixels).pooler_output
            embeds = self.model.visual_projection(vision)
        else:
            embeds = self.model(pixel_values=pixels).last_hidden_state[:, 0]
        return torch.as_tensor(embeds).float().cpu()

    @torch.no_grad()
    def embed_text(self, texts: list[str]) -> Tensor:
        """(n, D) of the texts' words, in the space of the pictures. Raises ValueError for a model without a
        text encoder, and for a text without a word.
        """
        if self.tokenizer is None:
            raise ValueError(
                f"the model is a {KIND.types[self.kind]} without a text encoder, expected a CLIP"
            )
        words = [plain_words(text) for text in texts]
        if "" in words:
            text = texts[words.index("")]
            raise ValueError(f"the prompt {text!r} has no words to score, expected text such as a cat")
        parameter = next(self.model.parameters())
        states = self.model.text_model(input_ids=self.tokenizer(words).to(parameter.device)).pooler_output
        return torch.as_tensor(self.model.text_projection(states)).float().cpu()

    def read(self, text: str) -> tuple[int, int]:
        """(tokens that the text encoder reads of a text's words, tokens that they have), both with the start
        and the end.
        """
        assert self.tokens is not None and self.tokenizer is not None
        words = plain_words(text)
        count = self.tokens(words)
        return min(count, self.tokenizer([words]).shape[1]), count


def as_pictures(images: Tensor, name: str = "images") -> list[Image.Image]:
    """(n, H, W, 3 or more) in 0..1 to PIL's; a fourth channel is dropped. Raises ValueError, with the input's
    ``name``, for what is no picture: another shape, or values that are no numbers, which would turn black.
    """
    if images.ndim != 4 or images.shape[-1] < 3 or not images.numel():
        raise ValueError(f"{name} has shape {tuple(images.shape)}, expected pictures (n, H, W, 3)")
    for number, image in enumerate(images, 1):
        require_finite(image[..., :3], f"{name}, picture {number} of {len(images)},")
    levels = (images[..., :3].clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return [Image.fromarray(level) for level in levels]


def embed_all(
    model: VisionModel, pictures: list[Image.Image], preprocessing: str = PUBLISHED
) -> Iterator[Tensor]:
    """Embeddings of all pictures, each once, ``AT_ONCE`` in a pass: what a pass gives, so that the caller
    can show progress and stop.
    """
    for i in range(0, len(pictures), AT_ONCE):
        yield model.embed(model.prepared(pictures[i : i + AT_ONCE], preprocessing))


def load_vision_model(folder: str | Path) -> VisionModel:
    """A transformers folder: ``config.json``, weights, ``preprocessor_config.json``; for a CLIP its
    tokenizer too. Raises ValueError that names the folder, what was found and what was expected.
    """
    folder = Path(folder)
    kind = type_of(folder, KIND)
    settings = read_settings(folder, "preprocessor_config.json")
    model = load_whole(
        of_transformers("AutoModel"), folder, KIND.types[kind], lambda k: "pooler" in k or "position_ids" in k
    )
    processor = load_image_processor(folder, KIND.types[kind])
    with loading(folder, KIND.types[kind]):
        side = 224 if kind == "dinov2" else int(vision_config(model).image_size)
        mean, std = (tuple(float(x) for x in settings[f"image_{name}"]) for name in ("mean", "std"))
        if not all(len(x) == 3 and all(map(math.isfinite, x)) for x in (mean, std)) or 0 in std:
            raise ValueError(f"image_mean is {mean} and image_std {std}, expected three numbers each")
        resample = int(Image.Resampling(int(settings.get("resample") or Image.Resampling.BICUBIC)))
    tokenizer = load_tokenizer(folder, KIND.types[kind]) if kind == "clip" else None
    length = int(model.config.text_config.max_position_embeddings) if kind == "clip" else 0

    def own(pictures: list[Image.Image]) -> Tensor:
        return torch.as_tensor(
            np.stack([processor(p, return_tensors="np")["pixel_values"][0] for p in pictures])
        )

    def tokens(texts: list[str]) -> Tensor:
        assert tokenizer is not None
        settings = {"padding": "max_length", "truncation": True, "max_length": length, "return_tensors": "pt"}
        return torch.as_tensor(tokenizer(texts, **settings)["input_ids"])

    def count(text: str) -> int:
        assert tokenizer is not None
        return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    texts = (tokens, count) if tokenizer is not None else ()
    return VisionModel(kind, model, side, mean, std, resample, own, *texts)


def vision_config(model: Any) -> Any:
    return getattr(model.config, "vision_config", model.config)
