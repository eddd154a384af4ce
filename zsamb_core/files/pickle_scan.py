"""What a pickle of tensors would make, told before anything is made: PyTorch's own restricted reader runs no
code, but it does whatever else a pickle asks for, such as `bytearray(3e9)`.

`scan` goes through the instructions as that reader does, and keeps descriptions in place of tensors. It
knows the instructions, the functions and the sizes that saved weights need; all else is refused. What comes
out may be read by ``torch.load(weights_only=True)``: it takes no more memory than the file accounts for.
"""

import pickletools
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from .pickle_calls import (
    CALLS,
    KNOWN,
    SIMPLE,
    Args,
    Damaged,
    Foreign,
    Harmless,
    Named,
    Oversized,
    Storage,
    is_size,
    key_of,
    width_of,
)

STEPS = 1_000_000  # instructions, and elements that they go through; a tensor takes about 30


@dataclass
class Scanned:
    """``tree``: the object, with `Described` in place of tensors; ``storages`` by their keys."""

    tree: Any
    storages: dict[str, Storage]


_MARK = object()


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
        value = self.stack.pop()
        if value is _MARK:
            raise Damaged("it ends in the middle")
        return value

    def popped(self) -> list[Any]:
        """All behind the last mark."""
        at = len(self.stack) - 1
        while self.stack[at] is not _MARK:
            at -= 1
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def put(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise Foreign("entries of something that has none")
        for key, value in pairs:
            target[key_of(key)] = value

    def store(self, value: Args) -> Storage:
        """What a persistent id stands for: ("storage", type, key, device, elements), and, in the older
        format, a part of another storage or None.
        """
        kind, typ, key, _, count, *view = value
        width = width_of(typ)
        if kind != "storage" or width is None or not isinstance(key, str) or not is_size(count):
            raise Foreign("data of an unknown kind")
        if view not in ([], [None]):
            raise Foreign("a part of another tensor's data")
        storage = Storage(key, count, width)
        if self.storages.setdefault(key, storage).size < storage.size:
            raise Oversized("one piece of data is said to have two sizes")
        return storage

    def reduce(self) -> None:
        args, function = self.pop(), self.pop()
        if not isinstance(function, Named) or not isinstance(args, tuple):
            raise Foreign("a call of something that is no function")
        self.stack.append(self.called(function.name, args))

    def called(self, name: str, args: Args) -> Any:
        if (make := CALLS.get(name)) is None:
            raise Foreign(f"the function {name}")
        self.spend(sum(len(a) for a in args if isinstance(a, (str, bytes, list, tuple, dict, set))))
        return make(self.called, *args)

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if isinstance(target, dict) and isinstance(state, dict):
            self.spend(len(state))
            if all(isinstance(key, str) for key in state):
                return  # attributes, which nobody looks at
        elif (
            target == Harmless("numpy.dtype")
            and isinstance(state, tuple)
            and all(isinstance(x, SIMPLE) for x in state)
            and state[2:5] == (None, None, None)
        ):
            return
        raise Foreign("a state of something that has none")


_CONSTANTS: dict[str, Callable[[], Any]] = {
    "EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple, "EMPTY_SET": set, "MARK": lambda: _MARK,
    "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "NONE": lambda: None,
}  # fmt: skip
_VALUES = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"}


def _global(machine: _Machine, value: str) -> None:
    named = Named(value.replace(" ", "."))
    if named.name not in KNOWN and width_of(named) is None:
        raise Foreign(f"the name {named.name}")
    machine.stack.append(named)


def _persistent(machine: _Machine, _: Any) -> None:
    value = machine.pop()
    if not isinstance(value, tuple) or len(value) not in (5, 6):
        raise Foreign("data of an unknown kind")
    machine.stack.append(machine.store(value))


def _last(count: int) -> Callable[[_Machine, Any], None]:
    def make(machine: _Machine, _: Any) -> None:
        items = [machine.pop() for _ in range(count)]
        machine.stack.append(tuple(reversed(items)))

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
