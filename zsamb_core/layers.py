"""A UNet's attention layers: how they are named, written and read, and which of them share.

A block is (name, number) as the host has it, ("input", 4) and so on. People write ``input 4``, and
``input 4.0`` for its first layer.
"""

import re
from collections.abc import Iterable
from typing import NamedTuple

Block = tuple[str, int]


class Layer(NamedTuple):
    """A layer of the block (``name``, ``number``), at its ``position`` there. Equal to the plain tuple."""

    name: str
    number: int
    position: int

    @property
    def block(self) -> Block:
        return self.name, self.number


# The attention blocks of the two families, by the host's names, in execution order.
SDXL_BLOCKS: tuple[Block, ...] = (
    *(("input", i) for i in (4, 5, 7, 8)),
    ("middle", 0),
    *(("output", i) for i in range(6)),
)
SD15_BLOCKS: tuple[Block, ...] = (
    *(("input", i) for i in (1, 2, 4, 5, 7, 8)),
    ("middle", 0),
    *(("output", i) for i in range(3, 12)),
)
_RANGE = r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?"
_NAMED = rf"([a-z]+)[ _]*(?:{_RANGE}(?:\.{_RANGE})?)?"


class Named(NamedTuple):
    """What one name means: blocks called ``name``, with any number where ``numbers`` is None; of each the
    layers at ``positions``, or the whole block.
    """

    name: str
    numbers: range | None
    positions: range | None


def read_name(text: str) -> Named | None:
    """``output``, ``output 1``, ``output_0-2``, ``output 1.4`` or ``output 1.0-4``, in lower case; None for
    what is no such name. A range that runs backwards is empty.
    """
    match = re.fullmatch(_NAMED, text)
    return match and Named(match[1], _range(match[2], match[3]), _range(match[4], match[5]))


def _range(first: str | None, last: str | None) -> range | None:
    return None if first is None else range(int(first), int(last or first) + 1)


def block_name(block: Block, position: int | None = None) -> str:
    """``output 1``, or ``output 1.4`` for the layer at a ``position``."""
    name, number = block
    return f"{name} {number}" if position is None else f"{name} {number}.{position}"


def block_names(blocks: Iterable[Block]) -> str:
    """``input 4, input 5``: each block once, in the order given."""
    return ", ".join(map(block_name, dict.fromkeys(blocks)))


def published_order(layers: Iterable[Layer]) -> list[Layer]:
    """Layers as the published code counts them: down, up, then middle."""
    return sorted(layers, key=lambda layer: (("input", "output", "middle").index(layer[0]), *layer[1:]))


def left_alone(layers: Iterable[Layer], level: float) -> frozenset[Layer]:
    """The layers that ``only_self_level`` leaves with plain self-attention.

    As published: 0 leaves none alone, 1 all. Up to .5, with ``n = floor(level * L)`` of L layers, it is every
    ``floor(L / n)``-th layer from the first; above .5, those that ``1 - level`` does not leave alone. So the
    number comes in steps: of SDXL's 70 layers, .3 leaves 24 alone, and both .4 and .5 leave 35.

    Two things differ from the published code. A level of less than one layer leaves none alone; there it
    divides by zero. Products that miss a whole number by rounding, such as ``(1 - .9) * 70``, count as that
    number. Raises ValueError outside 0 to 1.
    """
    order = published_order(layers)
    if not 0 <= level <= 1:
        raise ValueError(f"only_self_level is {level}, expected 0 (all layers share) to 1 (none does)")
    count = int(min(level, 1 - level) * len(order) + 1e-9)
    every = len(order) // count if count else len(order) + 1
    chosen = frozenset(layer for i, layer in enumerate(order) if count and i % every == 0)
    return frozenset(order) - chosen if level > 0.5 else chosen


def parse_blocks(text: str, known: Iterable[Block]) -> frozenset[Block]:
    """The blocks that ``text`` names: ``all``, or a list such as ``input 7, middle 0, output 0-2``; a name
    alone means all its blocks. Raises ValueError that lists the known ones.
    """
    known = list(known)
    if text.strip().lower() == "all":
        return frozenset(known)
    blocks: set[Block] = set()
    for word in filter(None, (part.strip().lower() for part in text.split(","))):
        named = read_name(word)
        those: set[Block] = set()
        if named is not None and named.positions is None:
            those = {
                (name, number)
                for name, number in known
                if name == named.name and (named.numbers is None or number in named.numbers)
            }
        if not those:
            raise ValueError(f"blocks: {word!r} names no block of this model. {_known(known)}")
        blocks |= those
    if not blocks:
        raise ValueError(f"blocks: the list is empty. {_known(known)}")
    return frozenset(blocks)


def _known(blocks: list[Block]) -> str:
    return f"Write all, or a list of: {block_names(blocks)}. Ranges such as output 0-2 work too."
