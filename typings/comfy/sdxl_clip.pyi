from typing import Any

import torch

class SDXLTokenizer:
    def __init__(self, **settings: Any) -> None: ...

class SDXLClipModel(torch.nn.Module):
    clip_l: Any
    clip_g: Any
    dtypes: set[torch.dtype | None]
