"""What a message says of what was found: in one line, and never whole megabytes of it."""

MOST = 160  # characters


def short(value: object, most: int = MOST) -> str:
    """A text as it is, and anything else as text, in one line; the middle of a long one is left out."""
    text = value if isinstance(value, str) else str(value)
    if len(text) > 4 * most:  # before it is split into words
        text = text[: 2 * most] + " " + text[-2 * most :]
        return _cut(" ".join(text.split()), most)
    text = " ".join(text.split())
    return text if len(text) <= most else _cut(text, most)


def quoted(value: object, most: int = 200) -> str:
    """``repr``, which tells a text from a number; the middle of a long one is left out."""
    if isinstance(value, str) and len(value) > 4 * most:  # before it is written with escapes
        value = value[: 2 * most] + value[-2 * most :]
    try:
        text = repr(value)
    except ValueError:  # Python writes no whole number of more than 4300 digits
        return "a number too long to be shown"
    return text if len(text) <= most else _cut(text, most)


def _cut(text: str, most: int) -> str:
    end = most // 3
    return f"{text[: most - end - 5]} ... {text[-end:]}"
