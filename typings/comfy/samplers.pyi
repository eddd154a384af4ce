from collections.abc import Callable
from typing import Any

import torch

from .model_patcher import ModelPatcher

SAMPLER_NAMES: list[str]
SCHEDULER_NAMES: list[str]

class KSAMPLER:
    def __init__(self, sampler_function: Callable[..., torch.Tensor]) -> None: ...

class KSampler:
    sigmas: torch.Tensor
    def __init__(
        self,
        model: ModelPatcher,
        steps: int,
        device: torch.device,
        sampler: str | None = None,
        scheduler: str | None = None,
        denoise: float | None = None,
    ) -> None: ...

class CFGGuider:
    def __init__(self, model_patcher: ModelPatcher) -> None: ...
    def set_conds(self, positive: Any, negative: Any) -> None: ...
    def set_cfg(self, cfg: float) -> None: ...
    def sample(
        self,
        noise: torch.Tensor,
        latent_image: torch.Tensor,
        sampler: KSAMPLER,
        sigmas: torch.Tensor,
        callback: Callable[..., None] | None = None,
        disable_pbar: bool = False,
        seed: int | None = None,
    ) -> torch.Tensor: ...

def sampler_object(name: str) -> KSAMPLER: ...
def calculate_sigmas(model_sampling: Any, scheduler_name: str, steps: int) -> torch.Tensor: ...
def encode_model_conds(
    model_function: Any,
    conds: list[dict[str, Any]],
    noise: torch.Tensor,
    device: torch.device,
    prompt_type: str,
    **kwargs: Any,
) -> list[dict[str, Any]]: ...
