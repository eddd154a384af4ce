"""What several nodes share: their categories, sockets and widgets, and how their errors name them."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.finite import require_numbers
from ..zsamb_core.instantstyle.crops import CROPS
from ..zsamb_core.numbers import comma_note, read_numbers
from ..zsamb_core.style_aligned.blend import counted
from ..zsamb_core.style_aligned.options import PRESETS

CATEGORY = "style/Z-SAMB"
CONTEXT = f"{CATEGORY}/context"
IP_ADAPTERS = "ipadapter"  # the folder type
AUTO, CUSTOM = "auto", "custom"

# STYLE_REFERENCE carries a zsamb_core.style_aligned.reference.StyleReference, immutable:
# trajectories x(sigma), their conditionings, weights, shifts and scales.
STYLE_REFERENCE = io.Custom("STYLE_REFERENCE")
# STYLE_EMBEDS carries a zsamb_core.instantstyle.style_embeds.StyleEmbeds, immutable.
STYLE_EMBEDS = io.Custom("STYLE_EMBEDS")
# STYLE_ADAPTER carries a zsamb_core.instantstyle.adapter_file.Adapter: where a file's tensors are, not the
# tensors.
STYLE_ADAPTER = io.Custom("STYLE_ADAPTER")
# BLOCK_WEIGHTS carries a dict: (name, number, layer or None) to weight.
BLOCK_WEIGHTS = io.Custom("BLOCK_WEIGHTS")
# ATTENTION_RECORD carries a zsamb_core.style_aligned.attention_maps.AttentionRecord: sampling runs fill it.
ATTENTION_RECORD = io.Custom("ATTENTION_RECORD")
# VISION_MODEL carries a _host.judges.Judge.
VISION_MODEL = io.Custom("VISION_MODEL")
# Each of these carries a _host.context.models.ContextModel.
CAPTION_MODEL = io.Custom("CAPTION_MODEL")
SPEECH_MODEL = io.Custom("SPEECH_MODEL")
MUSIC_MODEL = io.Custom("MUSIC_MODEL")
SUMMARY_MODEL = io.Custom("SUMMARY_MODEL")

SHIFT = io.Float.Input(
    "score_shift",
    default=0.6931,
    min=-5.0,
    max=5.0,
    step=0.0001,
    round=0.0001,
    tooltip=(
        "With preset custom: added to the attention logits of the reference. ln 2 = 0.6931 counts it twice,"
        " ln m counts it m times."
    ),
)
SCALE = io.Float.Input(
    "score_scale",
    default=1.0,
    min=0.0,
    max=2.0,
    step=0.05,
    tooltip=(
        "With preset custom: multiplies the attention logits of the reference. Below 1 it is seen more"
        " vaguely, the authors' means against copying a famous picture."
    ),
)
WINDOW = {"min": 0.0, "max": 1.0, "step": 0.01, "advanced": True}
START = io.Float.Input(
    "start_percent",
    default=0.0,
    tooltip="From which part of the schedule on. 0: from the first step.",
    **WINDOW,
)
END = io.Float.Input(
    "end_percent", default=1.0, tooltip="Up to which part of the schedule. 1: to the last step.", **WINDOW
)
CROP = io.Combo.Input(
    "crop",
    options=list(CROPS),
    default="centre",
    tooltip=(
        "How a picture becomes the encoder's square. centre: its middle, as the encoder was trained. pad: all"
        " of it, with borders. squash: all of it, distorted. tiles: squares of half its shorter side, seen"
        " larger: more brushwork, less of what it shows."
    ),
)


@contextmanager
def naming(node: str) -> Iterator[None]:
    """A ValueError from within comes out with the node's name before it, once."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(node):
            raise
        raise ValueError(f"{node}: {error}") from error


def problem_of(path_of: Callable[[Any, str], Path | None], name: Any, node: str) -> bool | str:
    """For a loader's ``validate_inputs``, in place of the host's look into the list: True where ``path_of``
    finds what ``name`` means, else what is wrong, before anything runs.
    """
    if name is None:  # comes by a link, and is looked at when it is there
        return True
    try:
        path_of(name, node)
    except ValueError as error:
        return str(error)
    return True


def fingerprint_of(path_of: Callable[[Any, str], Path | None], name: Any, node: str) -> str:
    """For a loader's ``fingerprint_inputs``: changes when a file does, is replaced, comes or goes, even by
    one that is older. The name of what is no file.
    """
    path = path_of(name, node) if name is not None else None
    if path is None:
        return name or ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    stats = [(file.name, file.stat()) for file in files if file.exists()]
    return repr([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def check_window(start: float, end: float, node: str) -> None:
    """Raises ValueError unless both are numbers and the start is before the end."""
    require_numbers(node, start_percent=start, end_percent=end)
    if start >= end:
        raise ValueError(
            f"{node}: start_percent is {start:g} and end_percent {end:g}, expected the start before the end."
            " 0 and 1 are the whole schedule."
        )


def tell_ignored(node: str, preset: str, shift: float, scale: float) -> None:
    """Log a score shift or scale that was typed beside a preset, which does not read it."""
    typed = [
        f"{field.id} {value:g}"
        for field, value in ((SHIFT, shift), (SCALE, scale))
        if value not in (field.default, *PRESETS.get(preset, ()))
    ]
    if preset != CUSTOM and typed:
        logging.warning(
            f"{node}: {' and '.join(typed)} do{'' if len(typed) > 1 else 'es'} nothing with preset {preset}."
            f" Choose preset {CUSTOM}."
        )


GROWN = 16  # sockets of an input that grows, at most


def growing(name: str, socket: io.Input, least: int, tooltip: str) -> io.Input:
    """An optional input whose sockets, ``least`` of them at first, become more as they are connected."""
    template = io.Autogrow.TemplatePrefix(socket, prefix=socket.id, min=least, max=GROWN)
    return io.Autogrow.Input(name, template=template, optional=True, tooltip=tooltip)


def connected(values: dict[str, Any] | None) -> dict[str, Any]:
    """What is connected of an input that grows, in the order of the sockets."""
    in_order = sorted((values or {}).items(), key=lambda item: place(item[0]))
    return {name: value for name, value in in_order if value is not None}


def place(name: str) -> int:
    """The number in an input's name: the tenth comes after the second."""
    return int("".join(c for c in name if c.isdigit()) or 0)


def weight_rows(text: str, count: int, node: str) -> list[list[float]]:
    """One list of ``count`` weights for each line. Raises ValueError that quotes a line that is none."""
    rows = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        try:
            row = read_numbers(line)
        except ValueError as error:
            raise ValueError(f"weights: {error}. Write, for example: 0.7, 0.3") from error
        if note := comma_note(line):
            logging.warning(f"{node}: weights {note}")
        row = row * count if len(row) == 1 else row
        counted(row, count)
        rows.append(row)
    if not rows:
        raise ValueError(f"weights is empty, expected {count} numbers, for example: 0.7, 0.3")
    return rows
