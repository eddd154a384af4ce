from typing import Any

import torch

class SDTokenizer:
    def __init__(self, **settings: Any) -> None: ...
    def tokenize_with_weights(self, text: str) -> list[list[Any]]: ...

class SDClipModel(torch.nn.Module):
    def __init__(self, **settings: Any) -> None: ...
