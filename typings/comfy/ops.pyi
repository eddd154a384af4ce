from typing import Any

import torch

def cast_bias_weight(
    s: torch.nn.Module, input: torch.Tensor, offloadable: bool = False
) -> tuple[Any, Any, Any]: ...
def uncast_bias_weight(s: torch.nn.Module, weight: Any, bias: Any, offload_stream: Any) -> None: ...
