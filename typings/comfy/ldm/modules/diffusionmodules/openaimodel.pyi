from typing import Any

import torch

class ResBlock(torch.nn.Module): ...

class UNetModel(torch.nn.Module):
    def __init__(self, **settings: Any) -> None: ...
