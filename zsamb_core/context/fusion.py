"""Texts of several sources as one prompt: by template, or summarized by T5 as Z-SASLM does it.

A source has one line for each prompt, or one line for all.
"""

import re
from collections.abc import Mapping

SOURCES = ("image", "speech", "music", "weather", "text")
TEMPLATE = "{text} {image} {speech} {music} {weather}"
_FIELD = r"\{(\w*)\}"
_PART = r"\[([^\[\]]*)\]"
# English words that say nothing of a picture, so that their survival in a summary means nothing.
_EMPTY = frozenset(
    re.findall(
        r"\w+",
        "a an the and or but of in on at by to for from with without into over under as is are was were be"
        " been it its this that these those there here he she they we you i his her their our your my me him"
        " them not no so very just one has have had do does did will would can could",
    )
)


def lines_of(sources: Mapping[str, str]) -> list[dict[str, str]]:
    """The sources line by line: as many as the longest has; a source of one line is in all of them. Empty
    lines of the user's text do not count; in the others they are what had nothing to say. Raises ValueError
    that names sources of unlike counts.
    """
    split = {
        name: [" ".join(line.split()) for line in text.split("\n") if line.strip() or name != "text"]
        for name, text in sources.items()
    }
    counts = {name: len(lines) for name, lines in split.items() if len(lines) > 1}
    if len(set(counts.values())) > 1:
        numbers = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(
            f"the sources have unlike numbers of lines ({numbers}), expected one line, or as many in each:"
            " every line is a prompt"
        )
    count = max(counts.values(), default=1)
    return [
        {
            name: "" if not lines else lines[0] if len(lines) == 1 else lines[i]
            for name, lines in split.items()
        }
        for i in range(count)
    ]


def check_template(template: str) -> None:
    """Raises ValueError for a field that is no source, or none at all."""
    names = re.findall(_FIELD, template)
    unknown = [name for name in names if name not in SOURCES]
    if unknown or not names:
        problem = f"names {{{unknown[0]}}}" if unknown else "names no source"
        raise ValueError(
            f"template {problem}, expected some of {', '.join(f'{{{name}}}' for name in SOURCES)}"
        )


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with each ``{source}`` replaced by its text, in one line. What stands in ``[ ]`` is left
    out where a source within has no text; brackets without a source stay.
    """

    def field(match: re.Match[str]) -> str:
        return values.get(match[1], "")

    def part(match: re.Match[str]) -> str:
        names = re.findall(_FIELD, match[1])
        if not names:
            return match[0]
        return re.sub(_FIELD, field, match[1]) if all(values.get(name) for name in names) else ""

    # Texts come in last and are not read again: what they hold is no template.
    pieces, end = [], 0
    for match in re.finditer(_PART, template):
        pieces += [re.sub(_FIELD, field, template[end : match.start()]), part(match)]
        end = match.end()
    return " ".join("".join([*pieces, re.sub(_FIELD, field, template[end:])]).split())


def unused(template: str, values: Mapping[str, str]) -> list[str]:
    """Sources with a text that is not in the filled template: not named, or in a part that was left out."""
    parts = [
        m[1] for m in re.finditer(_PART, template) if all(values.get(n) for n in re.findall(_FIELD, m[1]))
    ]
    named = set(re.findall(_FIELD, " ".join([re.sub(_PART, " ", template), *parts])))
    return [name for name, text in values.items() if text and name not in named]


def words(text: str) -> set[str]:
    """The words that say something, without case and plural."""
    all_words = re.findall(r"[^\W_]+", text.casefold())
    return {_stem(word) for word in all_words if word not in _EMPTY}


def _stem(word: str) -> str:
    return word[:-1] if len(word) > 3 and word.endswith("s") and not word.endswith("ss") else word


def dropped(values: Mapping[str, str], summary: str) -> list[str]:
    """Sources of which nothing is left in a summary: none of the words that they alone brought or, for a
    source that brought none alone, no word at all. "A key on a wooden surface" beside "a pair of keys lying
    on the table" is lost when the keys on the table are all that stays.
    """
    own = {name: words(text) for name, text in values.items() if text.strip()}
    left = words(summary)
    missing = []
    for name, mine in own.items():
        others = set().union(*(w for n, w in own.items() if n != name))
        telling = mine - others or mine
        if telling and not telling & left:
            missing.append(name)
    return missing


def escape(text: str) -> str:
    """The text so that ComfyUI's prompts take its brackets as they are, and not as weights."""
    return re.sub(r"(?<!\\)([()])", r"\\\1", text)
