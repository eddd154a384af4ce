from collections.abc import Callable
from typing import Any, TypeVar

import torch

Self = TypeVar("Self", bound="ModelPatcher")

class ModelPatcher:
    model: Any  # the host's BaseModel, or what a pack hands over
    model_options: dict[str, Any]
    object_patches: dict[str, Any]
    wrappers: dict[str, dict[str, list[Callable[..., Any]]]]
    load_device: torch.device
    current_hooks: Any
    cached_patcher_init: tuple[Callable[..., ModelPatcher], tuple[Any, ...]]
    def __init__(
        self, model: Any, load_device: torch.device, offload_device: torch.device, size: int = 0
    ) -> None: ...
    def clone(self: Self) -> Self: ...
    def is_dynamic(self) -> bool: ...
    def get_model_object(self, name: str) -> Any: ...
    def add_object_patch(self, name: str, obj: Any) -> None: ...
    def add_wrapper_with_key(self, wrapper_type: str, key: str, wrapper: Callable[..., Any]) -> None: ...
    def set_model_attn1_replace(
        self, patch: Callable[..., Any], block_name: str, number: int, transformer_index: int | None = None
    ) -> None: ...
    def set_model_attn2_replace(
        self, patch: Callable[..., Any], block_name: str, number: int, transformer_index: int | None = None
    ) -> None: ...

class CoreModelPatcher(ModelPatcher): ...
