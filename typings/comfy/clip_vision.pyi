from typing import Any

import torch

from .model_patcher import ModelPatcher

class ClipVisionModel:
    patcher: ModelPatcher
    model: Any
    config: dict[str, Any]
    model_type: str
    image_size: int
    image_mean: list[float]
    image_std: list[float]
    load_device: torch.device
    def __init__(self, json_config: dict[str, Any]) -> None: ...
    def load_sd(self, sd: dict[str, torch.Tensor]) -> tuple[list[str], list[str]]: ...
    def encode_image(self, image: torch.Tensor, crop: bool = True) -> Any: ...

def load(ckpt_path: str) -> ClipVisionModel | None: ...
