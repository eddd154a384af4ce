"""What a pickle of tensors would make, told before anything is made: PyTorch's own restricted reader runs no
code, but it does whatever else a pickle asks for, such as `bytearray(3e9)`.

`scan` goes through the instructions as that reader does, and keeps descriptions in place of tensors. It
knows the instructions, the functions and the sizes that saved weights need; all else is refused. What comes
out may be read by ``torch.load(weights_only=True)``: it takes no more memory than the file accounts for.
"""

import math
import pickletools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, BinaryIO

import torch

STEPS = 1_000_000  # instructions, and elements that they go through; a tensor takes about 30
LONGEST = 1_000  # characters of a name
DIMENSIONS = 64
Args = tuple[Any, ...]


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


@dataclass
class Scanned:
    """``tree``: the object, with `Described` in place of tensors; ``storages`` by their keys."""

    tree: Any
    storages: dict[str, Storage]


_MARK = object()
_NUMPY = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_PARAMETER = "torch.nn.parameter.Parameter"
_SIMPLE = (str, int, float, bool, type(None))


def scan(stream: BinaryIO) -> Scanned:
    """The next pickle of a stream, which is left at its end. Raises Damaged, Foreign and Oversized."""
    machine = _Machine()
    try:
        for opcode, value, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                if len(machine.stack) != 1 or machine.stack[0] is _MARK:
                    raise Damaged("it ends in the middle")
                return Scanned(machine.stack[0], machine.storages)
            machine.step(opcode.name, value)
    except (Damaged, Foreign, Oversized):
        raise
    except Exception as error:  # a damaged pickle fails in many ways
        raise Damaged(str(error)) from error
    raise Damaged("it has no end")


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    steps: int = 0

    def step(self, name: str, value: Any) -> None:
        self.spend(1)
        if (constant := _CONSTANTS.get(name)) is not None:
            self.stack.append(constant())
        elif name in _VALUES:
            self.stack.append(value)
        elif (do := _DOINGS.get(name)) is not None:
            do(self, value)
        else:
            raise Foreign(f"the instruction {name}")

    def spend(self, count: int) -> None:
        self.steps += count
        if self.steps > STEPS:
            raise Oversized(f"it has more than {STEPS:,} instructions")

    def pop(self) -> Any:
        found = self.stack.pop()
        if found is _MARK:
            raise Damaged("it ends in the middle")
        return found

    def popped(self) -> list[Any]:
        """All behind the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        found = self.stack[at + 1 :]
        del self.stack[at:]
        return found

    def put(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Foreign("entries of something that has none")
        for key, value in pairs:
            target[plain(key)] = value

    def store(self, value: Args) -> Storage:
        """What a persistent id stands for: ("storage", type, key, device, elements), and, in the older
        format, a part of another storage or None.
        """
        kind, typ, key, _, count, *view = value
        width = _width(typ)
        if kind != "storage" or width is None or not isinstance(key, str) or not _is_size(count):
            raise Foreign("data of an unknown kind")
        if view not in ([], [None]):
            raise Foreign("a part of another tensor's data")
        found = Storage(key, count, width)
        if self.storages.setdefault(key, found).size < found.size:
            raise Oversized("one piece of data is said to have two sizes")
        return found

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Named) or not isinstance(args, tuple):
            raise Foreign("a call of something that is no function")
        self.stack.append(self.called(function.name, args))

    def called(self, name: str, args: Args) -> Any:
        if (make := _CALLS.get(name)) is None:
            raise Foreign(f"the function {name}")
        self.spend(sum(len(a) for a in args if isinstance(a, (str, bytes, list, tuple, dict, set))))
        return make(self, *args)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, dict) and isinstance(state, dict):
            self.spend(len(state))
            if all(isinstance(key, str) for key in state):
                return  # attributes, which nobody looks at
        elif (
            target == Harmless("numpy.dtype")
            and isinstance(state, tuple)
            and all(isinstance(x, _SIMPLE) for x in state)
            and state[2:5] == (None, None, None)
        ):
            return
        raise Foreign("a state of something that has none")


def plain(key: Any) -> Any:
    """A dict's key: tuples within tuples take for ever to be hashed."""
    if not isinstance(key, _SIMPLE):
        raise Foreign(f"a {type(key).__name__} as a name")
    if isinstance(key, str) and len(key) > LONGEST:
        raise Oversized(f"a name of {len(key):,} characters")
    return key


def _is_size(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**48


def _width(typ: Any) -> int | None:
    """Bytes of an element, of a storage's type or a dtype; None for what is neither."""
    if not isinstance(typ, Named) or not typ.name.startswith("torch."):
        return None
    if typ.name == "torch.storage.UntypedStorage":
        return 1
    name = typ.name.removeprefix("torch.")
    dtype = _STORAGES.get(name) or getattr(torch, name, None)
    return dtype.itemsize if isinstance(dtype, torch.dtype) else None


def _tensor(_: _Machine, storage: Any, offset: Any, size: Any, stride: Any, *rest: Any) -> Described:
    """Of `torch._utils._rebuild_tensor` and its later versions. A tensor that does not lie within its storage
    would make PyTorch enlarge the latter.
    """
    if not isinstance(storage, Storage) or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Foreign("a tensor without data")
    width = storage.width
    if len(rest) > 2 and isinstance(rest[2], Named):  # the third version names the type here
        if (own := _width(rest[2])) is None:
            raise Foreign(f"the number format {rest[2].name}")
        width = own
    _refuse_shape(size, stride, offset)
    there = storage.size
    last = offset + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    if 0 not in size and (last + 1) * width > there:
        raise Oversized("a tensor is larger than its data")
    found = Described(size, width, True)
    return found if found.size <= there else replace(found, whole=False)


def _refuse_shape(size: Args, stride: Args, offset: Any = 0) -> None:
    if len(size) != len(stride) or len(size) > DIMENSIONS or not _is_size(offset):
        raise Damaged("a tensor without a shape")
    if not all(map(_is_size, (*size, *stride))):
        raise Damaged("a tensor without a shape")


def _without_values(_: _Machine, dtype: Any, size: Any, stride: Any, *__: Any) -> Described:
    width = _width(dtype)
    if width is None or not isinstance(size, tuple) or not isinstance(stride, tuple):
        raise Foreign("a tensor without data")
    _refuse_shape(size, stride)
    return Described(size, width, False)


def _parameter(_: _Machine, data: Any, *__: Any) -> Described:
    if not isinstance(data, Described):
        raise Foreign("a parameter without data")
    return data


def _of_type(machine: _Machine, function: Any, typ: Any, args: Any, _: Any) -> Described:
    """A tensor, or a parameter, with attributes."""
    if not isinstance(function, Named) or function.name not in _REBUILT or not isinstance(args, tuple):
        raise Foreign("a tensor that is made by another function")
    if typ not in (Named("torch.Tensor"), Named(_PARAMETER)):
        raise Foreign("a tensor of another type")
    found = machine.called(function.name, args)
    assert isinstance(found, Described)
    return found


def _ordered(_: _Machine, *args: Any) -> dict[Any, Any]:
    pairs = args[0] if args else []
    return {plain(key): value for key, value in (pairs.items() if isinstance(pairs, dict) else pairs)}


def _size(_: _Machine, numbers: Any) -> Args:
    return tuple(numbers)


def _encoded(_: _Machine, text: Any, coding: Any) -> bytes:
    """How bytes are written in older pickles."""
    if not isinstance(text, str) or coding not in ("latin1", "latin-1"):
        raise Foreign("a text in another coding")
    return text.encode("latin-1")


def _set(_: _Machine, elements: Any = ()) -> set[Any]:
    return {plain(element) for element in elements}


def _small(what: str) -> Callable[..., Harmless]:
    def make(_: _Machine, *args: Any) -> Harmless:
        if not all(isinstance(arg, _SIMPLE) for arg in args):
            raise Foreign(f"a {what} of something")
        return Harmless(what)

    return make


def _numpy_type(_: _Machine, name: Any, *rest: Any) -> Harmless:
    if not isinstance(name, str) or not re.fullmatch(r"[fiubc?][0-9]{0,2}", name):
        raise Foreign("a number format of numpy's")
    return Harmless("numpy.dtype")


def _numpy_number(_: _Machine, dtype: Any, data: Any) -> Harmless:
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
_CALLS: dict[str, Callable[..., Any]] = {
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
_KNOWN = {*_CALLS, _PARAMETER, "torch.Tensor"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set, "MARK": lambda: _MARK,
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "NONE": lambda: None,
}  # fmt: skip
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}


def _global(machine: _Machine, value: str) -> None:
    found = Named(value.replace(" ", "."))
    if found.name not in _KNOWN and _width(found) is None:
        raise Foreign(f"the name {found.name}")
    machine.stack.append(found)


def _persistent(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    if not isinstance(value, tuple) or len(value) not in (5, 6):
        raise Foreign("data of an unknown kind")
    machine.stack.append(machine.store(value))


def _last(count: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        found = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(found)))

    return make


def _append(machine: _Machine, items: list[Any]) -> None:
    target = machine.stack[-1]
    if not isinstance(target, list):
        raise Foreign("entries of something that has none")
    target.extend(items)


def _set_item(machine: _Machine, _: Any) -> None:
    value, key = machine.pop(), machine.pop()
    machine.put([(key, value)])


def _set_items(machine: _Machine, _: Any) -> None:
    items = machine.popped()
    machine.put(zip(items[::2], items[1::2], strict=True))


def _remember(machine: _Machine, index: int) -> None:
    if machine.stack[-1] is _MARK:
        raise Damaged("it ends in the middle")
    machine.memo[index] = machine.stack[-1]


_DOINGS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, value: None,
    "GLOBAL": _global,
    "BINPERSID": _persistent,
    "REDUCE": lambda machine, _: machine.reduce(),
    "BUILD": lambda machine, _: machine.build(),
    "TUPLE": lambda machine, _: machine.stack.append(tuple(machine.popped())),
    "TUPLE1": _last(1),
    "TUPLE2": _last(2),
    "TUPLE3": _last(3),
    "APPEND": lambda machine, _: _append(machine, [machine.pop()]),
    "APPENDS": lambda machine, _: _append(machine, machine.popped()),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "BINPUT": _remember,
    "LONG_BINPUT": _remember,
    "BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
    "LONG_BINGET": lambda machine, index: machine.stack.append(machine.memo[index]),
}
