"""Summaries by T5 (Raffel et al., arXiv 1910.10683), as Z-SASLM merges its texts."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .transformers_folder import kind_of, load_tokenizer, load_whole
from .watch import Watch, on_every_token

KINDS = {"t5": "T5"}
# As T5 was trained; the published code writes a capital S, which T5 has not learnt.
PREFIX = "summarize: "
# The published settings.
PUBLISHED = {"max_length": 50, "min_length": 5, "length_penalty": 1.5, "num_beams": 4, "early_stopping": True}


@dataclass(frozen=True)
class SummaryModel:
    """transformers' model and tokenizer."""

    model: Any
    tokenizer: Any

    @torch.no_grad()
    def summaries(self, texts: list[str], watch: Watch) -> Iterator[str]:
        """A summary of each, one by one. ``watch`` is called after every token."""
        device = next(self.model.parameters()).device
        for text in texts:
            given = self.tokenizer(PREFIX + text, return_tensors="pt", truncation=True)
            ids = self.model.generate(
                input_ids=given["input_ids"].to(device),
                attention_mask=given["attention_mask"].to(device),
                do_sample=False,
                stopping_criteria=on_every_token(watch),
                **PUBLISHED,
            )
            yield " ".join(self.tokenizer.decode(ids[0], skip_special_tokens=True).split())


def load_summary_model(folder: str | Path) -> SummaryModel:
    """Raises ValueError that names the folder, what was found and what was expected."""
    folder = Path(folder)
    kind = kind_of(folder, KINDS, "google-t5/t5-small")
    import transformers

    model = load_whole(
        transformers.T5ForConditionalGeneration,
        folder,
        KINDS[kind],
        # The token table stands in for all of these where a file has it alone.
        lambda k: k.endswith("embed_tokens.weight") or k == "lm_head.weight",
    )
    return SummaryModel(model, load_tokenizer(folder, KINDS[kind]))
