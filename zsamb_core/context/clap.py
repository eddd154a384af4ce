"""CLAP from a transformers folder."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..transformers_folder import LOCAL, Kind, load_tokenizer, load_whole, loading, of_transformers, type_of
from .music import MusicModel

KIND = Kind(
    {"clap": "CLAP"},
    "laion/clap-htsat-unfused",
    "all .json files, merges.txt and model.safetensors or pytorch_model.bin",
)


@dataclass(frozen=True)
class TransformersClap:
    """transformers' model, feature extractor and tokenizer."""

    model: Any
    features: Any
    tokenizer: Any
    rate: int
    window: int

    @property
    def scale(self) -> float:
        return float(self.model.logit_scale_a.detach().exp())

    @torch.no_grad()
    def embed_sound(self, track: Tensor) -> Tensor:
        given = self.features(track.numpy(), sampling_rate=self.rate, return_tensors="pt")
        device = next(self.model.parameters()).device
        found = self.model.get_audio_features(**{name: value.to(device) for name, value in given.items()})
        return _tensor(found)[0].float().cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Tensor:
        given = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        device = next(self.model.parameters()).device
        names = ("input_ids", "attention_mask")
        found = self.model.get_text_features(**{name: given[name].to(device) for name in names})
        return _tensor(found).float().cpu()


def _tensor(found: Any) -> Tensor:
    """transformers 4 gives the embedding, 5 an output that holds it."""
    return found if isinstance(found, Tensor) else torch.as_tensor(found.pooler_output)


def load_clap(folder: str | Path) -> MusicModel:
    """Raises ValueError that names the folder, what was found and what was expected."""
    folder = Path(folder)
    what = KIND.types[type_of(folder, KIND)]
    model = load_whole(of_transformers("ClapModel"), folder, what, lambda k: "position_ids" in k)
    extractor = of_transformers("ClapFeatureExtractor")
    with loading(folder, what):
        features = extractor.from_pretrained(folder, **LOCAL)
    tokenizer = load_tokenizer(folder, what)
    return TransformersClap(
        model, features, tokenizer, int(features.sampling_rate), int(features.nb_max_samples)
    )
