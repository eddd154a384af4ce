"""What Caption Image, Transcribe Speech and Describe Music say, for themselves and for ContextToPrompt."""

import json
import logging

from ..zsamb_core.context.music import GENRE, SHIPPED, LabelSet, read_label_sets, sentence
from ._common import naming
from ._host.context.models import ContextModel, Heard, caption_all, listen_all, transcribe_all
from ._host.context.user_files import user_file
from ._host.types import Audio, Image

CAPTION, TRANSCRIBE, DESCRIBE = "Caption Image", "Transcribe Speech", "Describe Music"  # the nodes
AUTO = "auto"
LABELS = "music_labels.yaml"
LENGTH, BEAMS, TOP, SETS = 20, 1, 1, "mood"


def captions(
    model: ContextModel, images: Image, prefix: str = "", length: int = LENGTH, beams: int = BEAMS
) -> str:
    """One line per picture."""
    with naming(CAPTION):
        return "\n".join(caption_all(model, images, prefix, length, beams))


def transcripts(
    model: ContextModel, audio: Audio | None, language: str = AUTO, translate: bool = False
) -> tuple[str, str, list[str]]:
    """(text, JSON, warnings); the warnings go to the log too."""
    with naming(TRANSCRIBE):
        found = transcribe_all(model, audio, None if language == AUTO else language, translate)
    report = [
        {"text": t.text, "language": t.language, "segments": t.segments, "warnings": t.warnings}
        for t in found
    ]
    text = "\n".join(t.text for t in found)
    return text, in_json(model, report), warned(TRANSCRIBE, [t.warnings for t in found])


def warned(name: str, recordings: list[list[str]]) -> list[str]:
    """The warnings of each recording, as lines that the log has too."""
    lines = [f"recording {i + 1}: {warning}" for i, said in enumerate(recordings) for warning in said]
    for line in lines:
        logging.warning("%s: %s", name, line)
    return lines


def in_json(model: ContextModel, recordings: list[dict]) -> str:
    """With letters of every script as they are, so that people can read it."""
    return json.dumps({"model": model.name, "recordings": recordings}, ensure_ascii=False)


def descriptions(
    model: ContextModel, audio: Audio | None, sets: str = SETS, top_k: int = TOP
) -> tuple[str, str, str, list[str]]:
    """(text, genre, JSON, warnings); the warnings go to the log too."""
    with naming(DESCRIBE):
        file = user_file(LABELS)
        known = read_label_sets(SHIPPED, *([file] if file.is_file() else []))
        spoken = chosen_sets(sets, known)
        found = listen_all(model, audio, known)
    text = "\n".join(
        " ".join(
            sentence(known[key], [match.label for match in one.found[key][:top_k]])
            for key in spoken
            if one.found
        )
        for one in found
    )
    genres = "\n".join(one.found[GENRE][0].label if one.found else "" for one in found)
    report = in_json(model, [scores(one, top_k) for one in found])
    return text, genres, report, warned(DESCRIBE, [one.warnings for one in found])


def chosen_sets(text: str, known: dict[str, LabelSet]) -> list[str]:
    """Raises ValueError for a set that there is not, or none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in known]
    if unknown or not names:
        found = f"names {unknown[0]!r}" if unknown else "is empty"
        raise ValueError(f"sets {found}, expected some of {', '.join(known)}, with commas between")
    return names


def scores(heard: Heard, top_k: int) -> dict:
    found = {
        name: [
            {"label": m.label, "cosine": round(m.cosine, 6), "probability": round(m.probability, 6)}
            for m in ranked[:top_k]
        ]
        for name, ranked in heard.found.items()
    }
    return {"sets": found, "warnings": heard.warnings}


def labels_stamp() -> float:
    """Changes when the user's own labels do."""
    file = user_file(LABELS)
    return file.stat().st_mtime_ns if file.is_file() else 0
