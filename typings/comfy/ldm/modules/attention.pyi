from typing import Any

import torch

class SpatialTransformer(torch.nn.Module):
    transformer_blocks: torch.nn.ModuleList

class BasicTransformerBlock(torch.nn.Module): ...

attention_basic: Any
attention_pytorch: Any

def get_attn_precision(attn_precision: Any, current_dtype: torch.dtype) -> torch.dtype | None: ...
def optimized_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    heads: int,
    mask: torch.Tensor | None = None,
    attn_precision: Any = None,
    **kwargs: Any,
) -> torch.Tensor: ...
