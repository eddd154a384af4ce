"""Prompt text."""

import re


def prompt_lines(prompts: str, style: str = "") -> list[str]:
    """The non-empty lines of ``prompts``, each with the style words behind it. Raises ValueError when there
    is none.
    """
    lines = [line.strip() for line in prompts.splitlines() if line.strip()]
    if not lines:
        raise ValueError(
            "Prompt Set: the prompts input is empty, expected at least one line of text. Write one prompt per"
            " line, one line per picture."
        )
    style = style.strip()
    return [f"{line} {style}" if style else line for line in lines]


def plain_words(prompt: str) -> str:
    """The words of a prompt in ComfyUI's syntax, for an encoder that does not know it: ``(a moon:1.3)`` is
    "a moon", brackets behind a backslash are brackets, and ``embedding:name``, which is no word, is left out.
    Brackets that do not close stay, as they do for the host.
    """
    words, left = "", [prompt]
    while left:
        parts = _parts(left.pop())
        for i, part in enumerate(parts):
            if _is_group(part):
                left += [*reversed(parts[i + 1 :]), _without_weight(part)]
                break
            words += re.sub(r"\\([()])", r"\1", part)
    return " ".join(re.sub(r"(?<!\S)embedding:\S+", "", words).split())


def _parts(text: str) -> list[str]:
    """Cut before and behind each pair of outer brackets; those behind a backslash are none."""
    parts, start, depth = [], 0, 0
    for bracket in re.finditer(r"\\?[()]", text):
        if bracket[0] == "(":
            if not depth:
                parts.append(text[start : bracket.start()])
                start = bracket.start()
            depth += 1
        elif bracket[0] == ")":
            depth -= 1
            if not depth:
                parts.append(text[start : bracket.end()])
                start = bracket.end()
    return [*parts, text[start:]]


def _is_group(part: str) -> bool:
    return part.startswith("(") and part.endswith(")") and not part.endswith("\\)")


def _without_weight(group: str) -> str:
    """What is in the brackets, less a number behind the last colon."""
    text = group[1:-1]
    words, colon, weight = text.rpartition(":")
    try:
        float(weight)
    except ValueError:
        return text
    return words if colon and words else text
