"""What the score nodes' JSON says of a set, in words short enough to stand beside its pictures."""

import json
from typing import Any, NamedTuple

from ..messages import quoted

EXPECTED = "expected output json of DINO Style Score or CLIP Score"


class Notes(NamedTuple):
    """``whole``: lines on the set; ``each``: lines on every picture, in order."""

    whole: tuple[str, ...]
    each: tuple[str, ...]


def read_notes(text: str, count: int) -> Notes:
    """From one report, or several one behind the other, on the same ``count`` pictures. Raises ValueError
    for what is no report, and for one on another number of pictures.
    """
    whole: list[str] = []
    each: list[list[str]] = [[] for _ in range(count)]
    for report in _reports(text):
        lines, name, values = _said(report)
        counts = [report.get("images", len(values)), len(values) or count]
        if counts != [count, count]:
            found = next(n for n in counts if n != count)
            raise ValueError(f"is a report on {quoted(found)} pictures, expected one on the row's {count}")
        whole += lines
        for of_picture, value in zip(each, values, strict=False):
            of_picture.append(f"{name} {value:.3f}")
    return Notes(tuple(whole), tuple("\n".join(lines) for lines in each))


def _reports(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text."""
    decoder, reports, rest = json.JSONDecoder(), [], text.strip()
    try:
        while rest:
            report, end = decoder.raw_decode(rest)
            reports.append(report)
            rest = rest[end:].strip(" \t\r\n,;")
    except (ValueError, RecursionError):
        reports = []
    if not reports or not all(isinstance(report, dict) for report in reports):
        raise ValueError(f"is {quoted(text, 80)}, {EXPECTED}")
    return reports


def _said(report: dict[str, Any]) -> tuple[list[str], str, list[float]]:
    """(lines on the set, what a picture's number is called, a number for each picture or none)."""
    if "consistency" in report:
        lines = [f"consistency {_number(report['consistency']):.3f}"]
        if "weighted_multi_style" in report:
            lines.append(f"to references {_number(report['weighted_multi_style']):.3f}")
        # Reports that an older version wrote have numbers on the set alone.
        return lines, "style", _numbers(report.get("to_others", []))
    if "cosines" in report:
        return [f"prompt mean {_number(report.get('mean')):.3f}"], "prompt", _numbers(report["cosines"])
    raise ValueError(f"has {quoted(', '.join(map(str, report)), 80)}, {EXPECTED}")


def _numbers(values: object) -> list[float]:
    if not isinstance(values, list):
        raise ValueError(f"has {quoted(values, 80)} in place of numbers, {EXPECTED}")
    return [_number(value) for value in values]


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= 1e6:
        raise ValueError(f"has {quoted(value, 80)} in place of a number, {EXPECTED}")
    return float(value)
