"""Contact Sheet: sets of pictures under each other, with labels and scores."""

import logging
from typing import Any

from comfy_api.latest import io, ui

from ..zsamb_core.finite import require_finite
from ..zsamb_core.messages import short
from ..zsamb_core.scores.notes import Notes, read_notes
from ..zsamb_core.sheet import Row, drawn, laid_out
from ._common import CATEGORY, connected, growing, naming, place
from ._host.types import Image

NODE = "Contact Sheet"
ROW, SCORE = "row", "score"
NOTHING = Notes((), ())


class ContactSheet(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_ContactSheet",
            display_name=NODE,
            category=CATEGORY,
            description=(
                "Shows sets of pictures under each other in one picture, with labels, and with their scores."
            ),
            search_aliases=[
                "grid",
                "image grid",
                "xy plot",
                "compare images",
                "comparison",
                "labels",
                "collage",
                "Z-SAMB",
            ],
            inputs=[
                growing(
                    "images",
                    io.Image.Input(ROW, tooltip="One row of the sheet: a picture, or a batch."),
                    1,
                    "The pictures, a batch for each row. Another input appears with each that is connected."
                    " They may differ in size and number.",
                ),
                io.String.Input(
                    "row_labels",
                    default="",
                    multiline=True,
                    tooltip=(
                        "One line per row, to the left of it. Empty: no labels. An empty line leaves its row"
                        " without one."
                    ),
                ),
                io.String.Input(
                    "column_labels",
                    default="",
                    multiline=True,
                    tooltip=(
                        "One line per column, above it: the prompts, for example. Empty: no labels. An empty"
                        " line leaves its column without one."
                    ),
                ),
                io.Int.Input(
                    "size",
                    default=256,
                    min=0,
                    max=4096,
                    tooltip=(
                        "Pixels of each picture's longer side in the sheet. 0: every picture as it is, pixel"
                        " by pixel."
                    ),
                ),
                io.Int.Input(
                    "gap", default=8, min=0, max=256, tooltip="Pixels between pictures, and around all."
                ),
                growing(
                    "scores",
                    io.String.Input(
                        SCORE,
                        optional=True,
                        force_input=True,
                        tooltip=(
                            "Output json of DINO Style Score or CLIP Score, on the pictures of the row of the"
                            " same number."
                        ),
                    ),
                    0,
                    "The rows' scores: score0 is of row0. CLIP Score has a number for each picture, its"
                    " cosine to the prompt, beneath it as prompt. Of DINO Style Score that is its mean"
                    " cosine to the others of its set, beneath it as style. The numbers of the whole set"
                    " stand beside the row. Several reports on one row: join them with Concatenate Text.",
                ),
            ],
            outputs=[io.Image.Output(display_name="sheet", tooltip="The sheet, for Save Image.")],
            is_output_node=True,
        )

    @classmethod
    def execute(
        cls,
        row_labels: str,
        column_labels: str,
        size: int,
        gap: int,
        images: Any = None,
        scores: Any = None,
    ) -> io.NodeOutput:
        with naming(NODE):
            for name, value in (("size", size), ("gap", gap)):  # a linked value passes the host's bounds
                if value < 0:
                    raise ValueError(f"{name} is {value}, expected 0 or more pixels. Look at what is linked.")
            pictures = by_number(images)
            if not pictures:
                raise ValueError(
                    "images has no picture, expected one at least. Connect a picture or a batch to row0."
                )
            for number, batch in pictures.items():
                check_pictures(batch, f"{ROW}{number}")
            notes = notes_of(by_number(scores), pictures)
            labels, heads = row_labels.splitlines(), column_labels.splitlines()
            rows = [
                Row(
                    list(batch[..., :3]),
                    labels[number].strip() if number < len(labels) else "",
                    "\n".join(notes.get(number, NOTHING).whole),
                    notes.get(number, NOTHING).each,
                )
                for number, batch in pictures.items()
            ]
            layout = laid_out(rows, heads, size, gap)
        tell_count("row_labels", labels, max(pictures) + 1, "row")
        tell_count("column_labels", heads, max(len(row.pictures) for row in rows), "column")
        tell("no font here has all characters of these labels", layout.lacking)
        tell("there is no room for the ends of these labels", layout.cut)
        sheet = drawn(layout, rows)[None]
        return io.NodeOutput(sheet, ui=ui.PreviewImage(sheet))


def by_number(values: dict[str, Any] | None) -> dict[int, Any]:
    """What is connected of an input that grows, by the number in its name, in order."""
    return {place(name): value for name, value in connected(values).items()}


def check_pictures(batch: Image, name: str) -> None:
    """Raises ValueError for what is no picture, with the input's ``name``."""
    if batch.ndim != 4 or batch.shape[-1] < 3 or not batch.numel():
        raise ValueError(f"{name} has shape {tuple(batch.shape)}, expected pictures (n, H, W, 3)")
    for i, picture in enumerate(batch, 1):
        require_finite(picture[..., :3], f"{name}, picture {i} of {len(batch)},")


def notes_of(scores: dict[int, str], pictures: dict[int, Image]) -> dict[int, Notes]:
    """By row number. Raises ValueError, with the input, for what is no report on the row's pictures."""
    notes = {}
    for number, text in scores.items():
        if number not in pictures:
            raise ValueError(
                f"{SCORE}{number} is connected and {ROW}{number} is not, expected both: a score is of the row"
                f" with its number. Connect the pictures to {ROW}{number}, or disconnect the score."
            )
        try:
            notes[number] = read_notes(text, len(pictures[number]))
        except ValueError as error:
            raise ValueError(
                f"{SCORE}{number} {error}. Connect the score of the pictures of {ROW}{number}."
            ) from error
    return notes


def tell_count(name: str, lines: list[str], count: int, what: str) -> None:
    """Log labels that have no row or column, or are missing; but for an input that is empty."""
    if not any(line.strip() for line in lines) or len(lines) == count:
        return
    rest = "the further lines are not shown" if len(lines) > count else f"the last {what}s have no label"
    found, places = f"{len(lines)} line{'s'[: len(lines) - 1]}", f"{count} {what}{'s'[: count - 1]}"
    logging.warning("%s: %s has %s for %s: %s.", NODE, name, found, places, rest)


def tell(what: str, labels: list[str]) -> None:
    """Log the labels that are not shown as they are, if any."""
    if labels:
        logging.warning("%s: %s: %s.", NODE, what, "; ".join(short(label, 80) for label in labels[:16]))


NODES = [ContactSheet]
