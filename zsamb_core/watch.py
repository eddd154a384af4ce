"""A way out of a transformers model's generation."""

from collections.abc import Callable
from typing import Any

import torch

Watch = Callable[[], None]


def on_every_token(watch: Watch) -> Any:
    """Stopping criteria for ``generate`` that never stop, but call ``watch`` after every token; what it
    raises ends the generation.
    """
    from transformers import StoppingCriteriaList

    def look(input_ids: torch.Tensor, scores: torch.Tensor, **_: Any) -> torch.Tensor:
        watch()
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    return StoppingCriteriaList([look])
