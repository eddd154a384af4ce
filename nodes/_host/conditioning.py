"""Conditioning with one row per picture."""

import torch
from comfy.conds import CONDCrossAttn


def encode_rows(clip, lines: list[str]):
    """One CONDITIONING whose row i is the encoded ``lines[i]``. Raises ValueError for a CLIP with scheduled
    hooks.
    """
    encoded = [clip.encode_from_tokens_scheduled(clip.tokenize(line)) for line in lines]
    if any(len(entries) != 1 for entries in encoded):
        raise ValueError(
            "Prompt Set: the clip input carries a schedule of hooks, expected a plain CLIP. Remove the"
            " hooks, or encode each prompt with CLIP Text Encode."
        )
    # Prompts of different length are repeated to a common one, as the host does: attention does not notice.
    first, *rest = (CONDCrossAttn(entries[0][0]) for entries in encoded)
    details = encoded[0][0][1].copy()
    details["pooled_output"] = torch.cat([entries[0][1]["pooled_output"] for entries in encoded])
    return [[first.concat(rest), details]]


def average(conditionings):
    """The weighted mean of (CONDITIONING, weight), by their first entries, as the host's ConditioningAverage
    has it: shorter ones are filled up with zeros. Everything else is the heaviest one's.
    """
    entries = [(conditioning[0], weight) for conditioning, weight in conditionings]
    length = max(entry[0].shape[1] for entry, _ in entries)
    details = dict(max(entries, key=lambda pair: pair[1])[0][1])
    tokens = sum(w * torch.nn.functional.pad(e[0], (0, 0, 0, length - e[0].shape[1])) for e, w in entries)
    pooled = [(entry[1].get("pooled_output"), weight) for entry, weight in entries]
    if all(p is not None for p, _ in pooled):
        details["pooled_output"] = sum(w * p for p, w in pooled)
    return [[tokens, details]]
