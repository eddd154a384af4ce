"""Import the host's model classes outside its server, for training and measuring.

What is trained is the host's own UNet and autoencoder, so what is trained is what runs.
"""

import os
import sys
from pathlib import Path

import torch
from torch import nn

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def import_host() -> None:
    """Put ``COMFYUI_PATH`` on the path and start the host's modules on CUDA where there is one, else on the
    CPU.

    Raises RuntimeError when ``COMFYUI_PATH`` is not a ComfyUI.
    """
    path = Path(os.environ.get("COMFYUI_PATH", ""))
    if not (path / "comfy" / "model_management.py").is_file():
        raise RuntimeError(
            f"COMFYUI_PATH is {str(path)!r}, expected a folder that holds ComfyUI's main.py and comfy/. "
            "Run this through `nox -s train`, which finds or fetches one."
        )
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
    args.use_pytorch_cross_attention = True


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def initialize(module: nn.Module) -> nn.Module:
    """Give the host's layers torch's default initial weights; the host itself leaves them unset."""
    for child in module.modules():
        for kind in (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.Embedding):
            if isinstance(child, kind):
                kind.reset_parameters(child)
    return module.requires_grad_(True)
