"""Which self-attention layers share: by block, and by StyleAligned's ``only_self_level``.

A layer is (name, number, index): the host's block, ("input", 4) and so on, and the layer's place within it.
"""

import re
from collections.abc import Iterable

Layer = tuple[str, int, int]
Block = tuple[str, int]
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


def published_order(layers: Iterable[Layer]) -> list[Layer]:
    """Layers as the published code counts them: down, up, then middle."""
    return sorted(layers, key=lambda layer: (("input", "output", "middle").index(layer[0]), *layer[1:]))


def left_alone(layers: Iterable[Layer], level: float) -> frozenset[Layer]:
    """The layers that ``only_self_level`` leaves with plain self-attention.

    As published: 0 none, 1 all; up to .5, with ``n = floor(level * L)`` of L layers, every
    ``floor(L / n)``-th from the first; above .5 the complement of what ``1 - level`` leaves alone. So the
    share is quantised: of SDXL's 70 layers, .3 leaves 24 and both .4 and .5 leave 35. Two things differ from
    the published code: a level that is less than one layer leaves none alone (there it divides by zero), and
    products such as ``(1 - .9) * 70`` that miss a whole number by rounding count as it. Raises ValueError
    outside 0 to 1.
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
    found: set[Block] = set()
    for word in filter(None, (part.strip().lower() for part in text.split(","))):
        match = re.fullmatch(r"([a-z]+)[ _]*(?:(\d+)(?:\s*-\s*(\d+))?)?", word)
        named = set()
        if match:
            name, first, last = match[1], match[2], match[3] or match[2]
            named = {b for b in known if b[0] == name and (first is None or int(first) <= b[1] <= int(last))}
        if not named:
            raise ValueError(f"blocks: {word!r} names no block of this model. {_known(known)}")
        found |= named
    if not found:
        raise ValueError(f"blocks: the list is empty. {_known(known)}")
    return frozenset(found)


def _known(blocks: list[Block]) -> str:
    names = ", ".join(f"{name} {number}" for name, number in blocks)
    return f"Write all, or a list of: {names}. Ranges such as output 0-2 work too."
