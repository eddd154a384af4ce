"""Text and JSON from outside: read in the encodings that files come in, and made fit to be shown."""

import json
import re
from typing import Any

DEEPEST = 200  # levels of JSON; a workflow with subgraphs has some 25
# Control characters move a terminal's cursor or worse, halves of characters cannot be written, and marks of
# direction make a text look like another. Line breaks stay.
_UNFIT = "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]"
_HALF = "[\ud800-\udfff]"


def read_json(data: bytes | str, once: bool = False) -> Any:
    """The value, of bytes in UTF-8, UTF-16 or UTF-32. Raises ValueError, for what is nested too deeply too,
    and with ``once`` for a name that stands twice in one object.
    """
    try:
        value = json.loads(data, object_pairs_hook=_once if once else None)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels deep") from None
    level, depth = [value], 0
    while level:
        # Python's own functions on nested values end in a RecursionError far later, and some crash.
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels deep")
        inner: list[Any] = []
        for item in level:
            if isinstance(item, list):
                inner += item
            elif isinstance(item, dict):
                inner += item.values()
        level, depth = inner, depth + 1
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a name stands twice in one object")
    return fields


def decode(data: bytes) -> str:
    """Text in UTF-8, or in UTF-16 with its mark, as Windows' shells and some spreadsheets write it. Raises
    ValueError for another encoding.
    """
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        where = f"{error.reason} at byte {error.start}"
        raise ValueError(f"not text in UTF-8: {where}; save it as UTF-8") from error


def has_half(text: str) -> bool:
    """Whether it holds half of a character (a lone surrogate), which no file or server takes as text."""
    return re.search(_HALF, text) is not None


def without_unfit(text: str) -> str:
    """Without the characters that are not to be shown or written into a name."""
    return re.sub("[\n\t]", " ", re.sub(_UNFIT, "", text))


def plain(text: str, limit: int = 10_000) -> str:
    """As it can be shown on a terminal: unfit characters as escapes, and no more than ``limit``."""
    shown = re.sub(_UNFIT, lambda match: ascii(match[0])[1:-1], text[:limit])
    is_cut = len(text) > limit or len(shown) > limit
    return f"{shown[:limit]}... ({len(text)} characters)" if is_cut else shown
