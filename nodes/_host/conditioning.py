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
