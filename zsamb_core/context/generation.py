"""A way out of a transformers model's generation."""

from collections.abc import Callable
from typing import Any

import torch

from ..transformers_folder import of_transformers

Watch = Callable[[], None]


def on_every_token(watch: Watch, begun: Watch | None = None) -> Any:
    """Stopping criteria for ``generate`` that never stop, but call ``watch`` after every token, and ``begun``
    after the first of each generation; what they raise ends the generation.
    """
    StoppingCriteriaList = of_transformers("StoppingCriteriaList")
    length = 0

    def look(input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        nonlocal length
        watch()
        if begun and (not length or input_ids.shape[-1] <= length):
            begun()
        length = input_ids.shape[-1]
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([look])
