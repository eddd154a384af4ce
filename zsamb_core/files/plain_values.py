"""Nested values with tensors in them, as JSON beside a table of tensors: nothing in it can be run."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ..messages import quoted

DEEPEST = 16  # levels
DTYPES = {
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16,
    torch.int8, torch.uint8, torch.bool,
}  # fmt: skip


def taken_apart(value: Any, tensors: dict[str, Tensor], what: str, place: str, depth: int = 0) -> Any:
    """``value`` as JSON that `put_together` reads. Its tensors come into ``tensors``, named by their
    ``place`` in it; one that is there twice comes in once.

    Lists are lists; ``{"tuple": [...]}``, ``{"dict": {...}}`` and ``{"tensor": name}`` are what they say.
    Raises ValueError, with ``what`` (a subject, such as "the prompt"), for anything but tensors, numbers,
    texts, None, and lists, tuples and dicts of these.
    """
    if isinstance(value, Tensor):
        return {"tensor": _named(_storable(value, what), tensors, place)}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{what} is {value}, expected a number")
        return value
    if type(value) not in (list, tuple, dict):
        raise ValueError(f"{what} is a {type(value).__name__}, which no file keeps")
    if depth == DEEPEST:
        raise ValueError(f"{what} is nested more than {DEEPEST} levels deep")
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str):
                raise ValueError(f"{what} has a name that is {quoted(name, 40)}, expected texts alone")
        inner = {
            name: taken_apart(v, tensors, f"{what}: {name}", f"{place}.{name}", depth + 1)
            for name, v in value.items()
        }
        return {"dict": inner}
    row = [taken_apart(v, tensors, what, f"{place}.{i}", depth + 1) for i, v in enumerate(value)]
    return row if isinstance(value, list) else {"tuple": row}


def put_together(value: Any, tensors: Mapping[str, Tensor], depth: int = 0) -> Any:
    """The value that `taken_apart` made ``value`` of. A tensor that is named twice is one. Raises ValueError
    for what it did not make.
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"a number is {value}")
        return value
    if depth > DEEPEST:
        raise ValueError(f"nested more than {DEEPEST} levels deep")
    if isinstance(value, list):
        return [put_together(v, tensors, depth + 1) for v in value]
    if isinstance(value, dict) and len(value) == 1:
        ((kind, inner),) = value.items()
        if kind == "tensor" and isinstance(inner, str) and inner in tensors:
            return tensors[inner]
        if kind == "tuple" and isinstance(inner, list):
            return tuple(put_together(v, tensors, depth + 1) for v in inner)
        if kind == "dict" and isinstance(inner, dict):
            return {name: put_together(v, tensors, depth + 1) for name, v in inner.items()}
    raise ValueError(f"{quoted(value, 80)} stands where a value is expected")


def _storable(tensor: Tensor, what: str) -> Tensor:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta or tensor.dtype not in DTYPES:
        kind = str(tensor.dtype).removeprefix("torch.")
        raise ValueError(f"{what} is a tensor of kind {kind}, which no file keeps")
    return tensor


def _named(tensor: Tensor, tensors: dict[str, Tensor], place: str) -> str:
    for name, known in tensors.items():
        if known is tensor:
            return name
    while place in tensors:  # names with dots in them
        place += "_"
    tensors[place] = tensor
    return place
