"""Numbers that people type in a row."""

import re

# A comma between digits with no blank behind it: a separator, or a decimal comma.
# Three and more of them in a row are a list.
_GLUED = r"(?<![\d.])(?<!\d,)(\d+),(\d+)(?![\d.]|,\d)"


def read_numbers(text: str) -> list[float]:
    """The numbers in ``text``. Raises ValueError that quotes what is none, and as `words` does."""
    row = []
    for word in words(text):
        try:
            row.append(float(word))
        except ValueError as error:
            raise ValueError(f"{word!r} is not a number") from error
    return row


def read_factors(text: str, name: str, most: float, meant: str) -> tuple[float, ...]:
    """The numbers in ``text`` of the input ``name``, none where it is empty. Raises ValueError for what is
    not from 0 to ``most``, with what is ``meant``, and as `words` does.
    """
    try:
        found = words(text)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    numbers = []
    for word in found:
        try:
            number = float(word)
        except ValueError:
            number = float("nan")
        if not 0 <= number <= most:
            raise ValueError(f"{name}: {word!r} is not a number from 0 to {most:g}. Write {meant}")
        numbers.append(number)
    return tuple(numbers)


def parse_curve(text: str, name: str = "weight_curve", most: float = 10.0) -> tuple[float, ...]:
    """Factors of the input ``name``: numbers between commas or spaces, 0 to ``most``; nothing is 1. Raises
    ValueError for anything else.
    """
    meant = f"factors on the {name.partition('_')[0]} at even distances, for example 0, 1, 1, 0.5"
    return read_factors(text, name, most, meant) or (1.0,)


def words(text: str) -> list[str]:
    """What stands between commas or blanks. Raises ValueError for decimal commas that leave no other reading,
    such as ``0,05`` and ``0,5 1,5``.
    """
    glued = re.findall(_GLUED, text)
    between = re.search(r"[\d.]\s+[\d.]", text)
    if glued and (between or any(len(part) > 1 and part[0] == "0" for _, part in glued)):
        raise ValueError(f"{text.strip()!r} has decimal commas. Write a point: {with_points(text)}")
    return text.replace(",", " ").split()


def comma_note(text: str) -> str:
    """How ``text`` was read, where a comma in it may have been meant as a decimal one; else empty."""
    if not re.search(_GLUED, text):
        return ""
    read = ", ".join(f"{number:g}" for number in read_numbers(text))
    return f"{text.strip()!r} is read as {read}. A decimal is written with a point: {with_points(text)}"


def with_points(text: str) -> str:
    return re.sub(_GLUED, r"\1.\2", text).strip()
