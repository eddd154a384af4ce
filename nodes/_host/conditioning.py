"""Conditioning with one row per picture."""

import logging
import math
from collections.abc import Iterable

import torch

from .types import Clip, Conditioning


def encode_rows(clip: Clip, lines: list[str]) -> Conditioning:
    """One CONDITIONING whose row i is the encoded ``lines[i]``. Shorter ones are filled up to the longest
    with the encoder's empty pieces. Raises ValueError for a CLIP with scheduled hooks.
    """
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(line)) for line in lines]
    if any(len(entries) != 1 for entries in encoded):
        raise ValueError(
            "Prompt Set: the clip input carries a schedule of hooks, expected a plain CLIP. Remove the"
            " hooks, or encode each prompt with CLIP Text Encode."
        )
    tokens = [entries[0][0] for entries in encoded]
    longest = max(row.shape[1] for row in tokens)
    if any(row.shape[1] < longest for row in tokens):
        # The host repeats positive and negative to a common multiple, which changes nothing in attention. Of
        # prompts of 1 to 7 pieces that would make 420.
        empty = clip.encode_from_tokens_scheduled(clip.tokenize(""))[0][0]
        tokens = [filled(row, empty, longest) for row in tokens]
    details = encoded[0][0][1].copy()
    details["pooled_output"] = torch.cat([entries[0][1]["pooled_output"] for entries in encoded])
    return [[torch.cat(tokens), details]]


def filled(tokens: torch.Tensor, empty: torch.Tensor, length: int) -> torch.Tensor:
    """(1, T, C) up to ``length`` with ``empty`` (1, P, C) as often as it takes: what the host gives for the
    same text with empty pieces behind, which it weighs like any other text of weight 1.
    """
    left = length - tokens.shape[1]
    times = math.ceil(left / empty.shape[1])
    return torch.cat([tokens, empty.repeat(1, times, 1)[:, :left]], 1)


def one_prompt(conditioning: Conditioning, name: str, node: str) -> None:
    """Log that of several prompts, a Prompt Set's, one picture takes the first."""
    rows = max((len(tokens) for tokens, _ in conditioning), default=0)
    if rows > 1:
        logging.warning(
            f"{node}: {name} holds {rows} prompts, and this is one picture: the first of them is taken."
        )


def average(conditionings: Iterable[tuple[Conditioning, float]]) -> Conditioning:
    """The weighted mean of (CONDITIONING, weight), by their first entries, as the host's ConditioningAverage
    has it: shorter ones are filled up with zeros. Everything else is the heaviest one's. Raises ValueError
    for prompts of different models.
    """
    entries = [(conditioning[0], weight) for conditioning, weight in conditionings]
    widths = sorted({entry[0].shape[-1] for entry, _ in entries})
    if len(widths) > 1:
        raise ValueError(
            f"the references' prompts have tokens of {' and '.join(map(str, widths))} channels, expected one"
            " number, as of one model. Make all references with one kind of model."
        )
    length = max(entry[0].shape[1] for entry, _ in entries)
    details = dict(max(entries, key=lambda pair: pair[1])[0][1])
    tokens = sum(w * torch.nn.functional.pad(e[0], (0, 0, 0, length - e[0].shape[1])) for e, w in entries)
    pooled = [(entry[1].get("pooled_output"), weight) for entry, weight in entries]
    if all(p is not None for p, _ in pooled):
        details["pooled_output"] = sum(w * p for p, w in pooled)
    return [[tokens, details]]
