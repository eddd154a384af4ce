"""CLAP from a transformers folder."""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..transformers_folder import LOCAL, Kind, load_tokenizer, load_whole, loading, of_transformers, type_of
from .music import MusicModel

KIND = Kind(
    {"clap": "CLAP"},
    "laion/clap-htsat-unfused",
    "all .json files, merges.txt and model.safetensors or pytorch_model.bin",
)


class TransformersClap(NamedTuple):
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
        inputs = self.features(track.numpy(), sampling_rate=self.rate, return_tensors="pt")
        device = next(self.model.parameters()).device
        embeds = self.model.get_audio_features(**{name: value.to(device) for name, value in inputs.items()})
        return _tensor(embeds)[0].float().cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Tensor:
        inputs = self.tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
        device = next(self.model.parameters()).device
        names = ("input_ids", "attention_mask")
        embeds = self.model.get_text_features(**{name: inputs[name].to(device) for name in names})
        return _tensor(embeds).float().cpu()


def _tensor(output: Any) -> Tensor:
    """transformers 4 gives the embedding, 5 an output that holds it."""
    return output if isinstance(output, Tensor) else torch.as_tensor(output.pooler_output)


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
