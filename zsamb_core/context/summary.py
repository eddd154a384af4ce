"""Summaries by T5 (Raffel et al., arXiv 1910.10683), as Z-SASLM merges its texts."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..files.json_file import read_settings
from ..files.safetensors_file import opened
from ..transformers_folder import Kind, load_tokenizer, load_whole, of_transformers, type_of
from .generation import StopCheck, on_every_token

KIND = Kind({"t5": "T5"}, "google-t5/t5-small", "all .json files, spiece.model and model.safetensors")
# As T5 was trained; the published code writes a capital S, which T5 has not learnt.
PREFIX = "summarize: "
# The published settings.
PUBLISHED = {"max_length": 50, "min_length": 5, "length_penalty": 1.5, "num_beams": 4, "early_stopping": True}


class SummaryModel(NamedTuple):
    """transformers' model and tokenizer."""

    model: Any
    tokenizer: Any

    def read(self, text: str) -> tuple[int, int]:
        """(tokens that the model reads of a text, tokens that it has)."""
        count = len(self.tokenizer(PREFIX + text, truncation=False)["input_ids"])
        return min(count, int(self.tokenizer.model_max_length)), count

    @torch.no_grad()
    def summaries(self, texts: list[str], stop_check: StopCheck) -> Iterator[str]:
        """A summary of each, one by one. ``stop_check`` is called after every token."""
        device = next(self.model.parameters()).device
        for text in texts:
            inputs = self.tokenizer(PREFIX + text, return_tensors="pt", truncation=True)
            ids = self.model.generate(
                input_ids=inputs["input_ids"].to(device),
                attention_mask=inputs["attention_mask"].to(device),
                do_sample=False,
                stopping_criteria=on_every_token(stop_check),
                **PUBLISHED,
            )
            yield " ".join(self.tokenizer.decode(ids[0], skip_special_tokens=True).split())


def refuse_without_head(folder: Path) -> None:
    """A T5 whose head is its own needs it in the file: newer transformers puts the token table there instead,
    without a word. Raises ValueError.
    """
    file = folder / "model.safetensors"
    if read_settings(folder, "config.json").get("tie_word_embeddings", True) or not file.is_file():
        return
    with opened(file) as weights:
        if "lm_head.weight" not in weights.keys():  # noqa: SIM118, it is no dict
            raise ValueError(
                f"{folder.name}: the weights lack lm_head.weight, which config.json says is not tied."
                " Expected the whole model; get it again from its source."
            )


def load_summary_model(folder: str | Path) -> SummaryModel:
    """Raises ValueError that names the folder, what was found and what was expected."""
    folder = Path(folder)
    what = KIND.types[type_of(folder, KIND)]
    model = load_whole(
        of_transformers("T5ForConditionalGeneration"),
        folder,
        what,
        lambda k: k.endswith("embed_tokens.weight"),  # the shared token table stands in for these
    )
    refuse_without_head(folder)
    return SummaryModel(model, load_tokenizer(folder, what))
