"""What a pickle of tensors may name and call, and descriptions of what that would make."""

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch

LONGEST = 1_000  # characters of a name
DIMENSIONS = 64
Args = tuple[Any, ...]
Call = Callable[[str, Args], Any]  # of a function of `CALLS`, by its name


class Damaged(ValueError):
    """Not a pickle, or one that is cut short."""


class Foreign(ValueError):
    """A pickle that asks for something else than tensors, numbers and texts."""


class Oversized(ValueError):
    """A pickle that asks for more than the file can account for."""


@dataclass(frozen=True)
class Storage:
    """``count`` elements of ``width`` bytes, kept under ``key`` in the file."""

    key: str
    count: int
    width: int

    @property
    def size(self) -> int:
        """In bytes."""
        return self.count * self.width


@dataclass(frozen=True)
class Described:
    """A tensor to be, of ``width`` bytes an element. ``whole``: every element has a place of its own in the
    data; not so where there is no data, or where few numbers are said to be many.
    """

    shape: tuple[int, ...]
    width: int
    whole: bool

    @property
    def size(self) -> int:
        """In bytes."""
        return math.prod(self.shape) * self.width


@dataclass(frozen=True)
class Named:
    """A function or a type, by its module and name."""

    name: str


@dataclass(frozen=True)
class Harmless:
    """Something small that nobody looks at: a device, a number of numpy's."""

    what: str


_NUMPY = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_PARAMETER = "torch.nn.parameter.Parameter"
SIMPLE = (str, int, float, bool, type(None))


def key_of(key: Any) -> Any:
    """A dict's key: tuples within tuples take for ever to be hashed."""
    if not isinstance(key, SIMPLE):
        raise Foreign(f"a {type(key).__name__} as a name")
    if isinstance(key, str) and len(key) > LONGEST:
        raise Oversized(f"a name of {len(key):,} characters")
    return key


def is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def width_of(typ: Any) -> int | None:
    """Bytes of an element, of a storage's type or a dtype; None for what is neither."""
    if not isinstance(typ, Named) or not typ.name.startswith("torch."):
        return None
    if typ.name == "torch.storage.UntypedStorage":
        return 1
    name = typ.name.removeprefix("torch.")
    dtype = _STORAGES.get(name) or getattr(torch, name, None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else None


def _tensor(_: Call, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Described:
    """Of `torch._utils._rebuild_tensor` and its later versions. A tensor that does not lie within its storage
    would make PyTorch enlarge the latter.
    """
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Foreign("a tensor without data")
    width = storage.width
    if len(rest) > 2 and isinstance(rest[2], Named):  # the third version names the type here
        if (own := width_of(rest[2])) is None:
            raise Foreign(f"the number format {rest[2].name}")
        width = own
    _refuse_shape(size, stride, offset)
    there = storage.size
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * width > there:
        raise Oversized("a tensor is larger than its data")
    tensor = Described(size, width, True)
    return tensor if tensor.size <= there else replace(tensor, whole=False)


def _refuse_shape(size: Args, stride: Args, offset: Any = 0) -> None:
    if len(size) != len(stride) or len(size) > DIMENSIONS or not is_size(offset):
        raise Damaged("a tensor without a shape")
    if not all(map(is_size, (*size, *stride))):
        raise Damaged("a tensor without a shape")


def _without_values(_: Call, dtype: Any, size: Any, stride: Any, *__: Any) -> Described:
    width = width_of(dtype)
    if width is None or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Foreign("a tensor without data")
    _refuse_shape(size, stride)
    return Described(size, width, False)


def _parameter(_: Call, data: Any, *__: Any) -> Described:
    if not isinstance(data, Described):
        raise Foreign("a parameter without data")
    return data


def _of_type(call: Call, function: Any, typ: Any, args: Any, _: Any) -> Described:
    """A tensor, or a parameter, with attributes."""
    if not isinstance(function, Named) or function.name not in _REBUILT or not isinstance(args, tuple):
        raise Foreign("a tensor that is made by another function")
    if typ not in (Named("torch.Tensor"), Named(_PARAMETER)):
        raise Foreign("a tensor of another type")
    tensor = call(function.name, args)
    assert isinstance(tensor, Described)
    return tensor


def _ordered(_: Call, *args: Any) -> dict[Any, Any]:
    pairs = args[0] if args else []
    return {key_of(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _size(_: Call, numbers: Any) -> Args:
    return tuple(numbers)


def _encoded(_: Call, text: Any, coding: Any) -> bytes:
    """How bytes are written in older pickles."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Foreign("a text in another coding")
    return text.encode("latin-1")


def _set(_: Call, elements: Any = ()) -> set[Any]:
    return {key_of(element) for element in elements}


def _small(what: str) -> Callable[..., Harmless]:
    def make(_: Call, *args: Any) -> Harmless:
        if not all(isinstance(arg, SIMPLE) for arg in args):
            raise Foreign(f"a {what} of something")
        return Harmless(what)

    return make


def _numpy_type(_: Call, name: Any, *rest: Any) -> Harmless:
    if not isinstance(name, str) or not re.fullmatch(r"[fiubc?][0-9]{0,2}", name):
        raise Foreign("a number format of numpy's")
    return Harmless("numpy.dtype")


def _numpy_number(_: Call, dtype: Any, data: Any) -> Harmless:
    if dtype != Harmless("numpy.dtype") or not isinstance(data, (bytes, str)) or len(data) > 64:
        raise Foreign("a number of numpy's")
    return Harmless("a number")


_STORAGES = {
    "FloatStorage": torch.float32, "DoubleStorage": torch.float64, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool, "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}  # fmt: skip
_REBUILT: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_tensor_v3": _tensor,
    "torch._utils._rebuild_meta_tensor_no_storage": _without_values,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
}
CALLS: dict[str, Callable[..., Any]] = {
    **_REBUILT,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "collections.OrderedDict": _ordered,
    "collections.Counter": _ordered,
    "torch.Size": _size,
    "torch.device": _small("device"),
    "_codecs.encode": _encoded,
    "builtins.set": _set,
    "__builtin__.set": _set,
    "numpy.dtype": _numpy_type,
    **dict.fromkeys(_NUMPY, _numpy_number),
}
KNOWN = {*CALLS, _PARAMETER, "torch.Tensor"}
