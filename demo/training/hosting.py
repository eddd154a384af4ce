"""Import the host's model classes outside its server, for training and measuring.

What is trained is the host's own UNet and autoencoder, so what is trained is what runs.
"""

from pathlib import Path

import torch
from torch import nn

from zsamb_train.host import import_host

__all__ = ["WEIGHTS", "device", "import_host", "initialize"]

WEIGHTS = Path(__file__).resolve().parents[1] / "weights"


def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def initialize(module: nn.Module) -> nn.Module:
    """Give the host's layers torch's default initial weights; the host itself leaves them unset."""
    for child in module.modules():
        for kind in (nn.Conv2d, nn.Linear, nn.GroupNorm, nn.LayerNorm, nn.Embedding):
            if isinstance(child, kind):
                kind.reset_parameters(child)
    return module.requires_grad_(True)
