"""Models that are not the host's own in the hands of its memory manager."""

import comfy.model_management
import comfy.model_patcher
import torch


class Managed(torch.nn.Module):
    """A module of transformers in a plain one: the host notes the device on what it manages, and theirs has a
    device of its own that cannot be set.
    """

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner


def managed(model: torch.nn.Module) -> comfy.model_patcher.ModelPatcher:
    """What moves a model to the device and away."""
    return comfy.model_patcher.ModelPatcher(
        Managed(model),
        load_device=comfy.model_management.get_torch_device(),
        offload_device=comfy.model_management.unet_offload_device(),
    )


def to_device(patcher: comfy.model_patcher.ModelPatcher) -> None:
    comfy.model_management.load_models_gpu([patcher], force_full_load=True)


def stop_if_asked() -> None:
    """Raises the host's exception once the user has interrupted."""
    comfy.model_management.throw_exception_if_processing_interrupted()
