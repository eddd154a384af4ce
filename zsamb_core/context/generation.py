"""A way out of a transformers model's generation."""

from collections.abc import Callable
from typing import Any

import torch

from ..transformers_folder import of_transformers

StopCheck = Callable[[], None]  # raises where the user has stopped the run


def on_every_token(stop_check: StopCheck, begun: Callable[[], None] | None = None) -> Any:
    """Stopping criteria for ``generate`` that never say stop. They call ``stop_check`` after every token, and
    ``begun`` after the first of each generation; what these raise ends the generation.
    """
    StoppingCriteriaList = of_transformers("StoppingCriteriaList")
    length = 0

    def look(input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        nonlocal length
        stop_check()
        if begun and (not length or input_ids.shape[-1] <= length):
            begun()
        length = input_ids.shape[-1]
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([look])
