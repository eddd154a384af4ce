"""One node per sense: what a picture shows, what is said, how music sounds, each as text."""

import json
import logging

from comfy_api.latest import io

from ..zsamb_core.music import GENRE, SHIPPED, LabelSet, read_label_sets, sentence
from ..zsamb_core.speech import LANGUAGES
from ._host.context_models import ContextModel, Heard, caption_all, listen_all, transcribe_all
from ._host.user_files import user_file
from .context_models import CAPTION_MODEL, CONTEXT, MUSIC_MODEL, SPEECH_MODEL
from .style_embeds import named

AUTO = "auto"
LABELS = "music_labels.yaml"
LENGTH, BEAMS, TOP, SETS = 20, 1, 1, "mood"


class CaptionImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_CaptionImage",
            display_name="Caption Image",
            category=CONTEXT,
            description="What a picture shows, in words, by BLIP: one line for each picture of a batch.",
            search_aliases=["BLIP", "image to text", "interrogate", "describe image", "Z-SAMB"],
            inputs=[
                CAPTION_MODEL.Input("caption_model", tooltip="From Load Caption Model."),
                io.Image.Input("images", tooltip="One picture, or a batch of them."),
                io.String.Input(
                    "prefix",
                    default="",
                    tooltip="How every caption begins, for example: a photo of. Empty: as the model likes.",
                ),
                io.Int.Input(
                    "length",
                    default=LENGTH,
                    min=1,
                    max=200,
                    tooltip="Tokens at most, not counting the prefix. A token is a word or a part of one.",
                ),
                io.Int.Input(
                    "beams",
                    default=BEAMS,
                    min=1,
                    max=16,
                    advanced=True,
                    tooltip=(
                        "Captions that are followed at once; the likeliest is taken. 1, as published, takes"
                        " the likeliest word each time."
                    ),
                ),
            ],
            outputs=[io.String.Output(display_name="text", tooltip="One line per picture.")],
        )

    @classmethod
    def execute(cls, caption_model: ContextModel, images, prefix, length, beams) -> io.NodeOutput:
        return io.NodeOutput(captions(cls, caption_model, images, prefix, length, beams))


def captions(node, model, images, prefix="", length=LENGTH, beams=BEAMS) -> str:
    """One line per picture, for the node of that class."""
    with_name = node.define_schema().display_name
    try:
        return "\n".join(caption_all(model, images, prefix, length, beams))
    except ValueError as error:
        raise named(error, with_name) from error


class TranscribeSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_TranscribeSpeech",
            display_name="Transcribe Speech",
            category=CONTEXT,
            description=(
                "What is said in a recording of any length, by Whisper: one line for each recording of a"
                " batch, empty for silence."
            ),
            search_aliases=["Whisper", "speech to text", "ASR", "subtitles", "Z-SAMB"],
            inputs=[
                SPEECH_MODEL.Input("speech_model", tooltip="From Load Speech Model."),
                io.Audio.Input("audio", tooltip="Any sample rate and number of channels."),
                io.Combo.Input(
                    "language",
                    options=[AUTO, *LANGUAGES],
                    default=AUTO,
                    tooltip=(
                        "What is spoken, by its code, such as en or it. auto: the model finds out from 30"
                        " seconds, the first in which there is something to hear."
                    ),
                ),
                io.Boolean.Input(
                    "translate",
                    default=False,
                    tooltip="Into English, which is what SDXL's text encoders know.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="One line per recording."),
                io.String.Output(
                    display_name="json", tooltip="Language, segments with seconds, and warnings."
                ),
            ],
        )

    @classmethod
    def execute(cls, speech_model: ContextModel, audio, language, translate) -> io.NodeOutput:
        text, report, _ = transcripts(cls, speech_model, audio, language, translate)
        return io.NodeOutput(text, report)


def transcripts(node, model, audio, language=AUTO, translate=False) -> tuple[str, str, list[str]]:
    """(text, JSON, warnings) for the node of that class; the warnings go to the log too."""
    name = node.define_schema().display_name
    try:
        found = transcribe_all(model, audio, None if language == AUTO else language, translate)
    except ValueError as error:
        raise named(error, name) from error
    report = [
        {"text": t.text, "language": t.language, "segments": t.segments, "warnings": t.warnings}
        for t in found
    ]
    text = "\n".join(t.text for t in found)
    return text, in_json(model, report), warned(name, [t.warnings for t in found])


def warned(name: str, recordings: list[list[str]]) -> list[str]:
    """The warnings of each recording, as lines that the log has too."""
    lines = [f"recording {i + 1}: {warning}" for i, said in enumerate(recordings) for warning in said]
    for line in lines:
        logging.warning("%s: %s", name, line)
    return lines


def in_json(model: ContextModel, recordings: list[dict]) -> str:
    """With letters of every script as they are, so that people can read it."""
    return json.dumps({"model": model.name, "recordings": recordings}, ensure_ascii=False)


class DescribeMusic(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_DescribeMusic",
            display_name="Describe Music",
            category=CONTEXT,
            description=(
                "How music sounds, by CLAP: the labels of mood, tone, instrument and genre that lie nearest"
                " to it, and a sentence of them."
            ),
            search_aliases=["CLAP", "music mood", "music genre", "audio classification", "Z-SAMB"],
            inputs=[
                MUSIC_MODEL.Input("music_model", tooltip="From Load Music Model."),
                io.Audio.Input(
                    "audio", tooltip="Any length and sample rate. Every ten seconds of it count alike."
                ),
                io.String.Input(
                    "sets",
                    default=SETS,
                    tooltip=(
                        "The label sets that the text speaks of, in order: mood, tone, instrument, genre, or"
                        " your own. The scores are of all sets."
                    ),
                ),
                io.Int.Input(
                    "top_k",
                    default=TOP,
                    min=1,
                    max=10,
                    tooltip="Labels of each set in text and scores. 1, as published.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="text", tooltip="One line per recording."),
                io.String.Output(display_name="genre", tooltip="The nearest genre, one line per recording."),
                io.String.Output(
                    display_name="json",
                    tooltip="The nearest labels of every set: cosine, and probability within the set.",
                ),
            ],
        )

    @classmethod
    def execute(cls, music_model: ContextModel, audio, sets, top_k) -> io.NodeOutput:
        text, genre, report, _ = descriptions(cls, music_model, audio, sets, top_k)
        return io.NodeOutput(text, genre, report)

    @classmethod
    def fingerprint_inputs(cls, **_):
        file = user_file(LABELS)
        return file.stat().st_mtime_ns if file.is_file() else 0


def descriptions(node, model, audio, sets=SETS, top_k=TOP) -> tuple[str, str, str, list[str]]:
    """(text, genre, JSON, warnings) for the node of that class; the warnings go to the log too."""
    name = node.define_schema().display_name
    try:
        file = user_file(LABELS)
        known = read_label_sets(SHIPPED, *([file] if file.is_file() else []))
        spoken = chosen_sets(sets, known)
        found = listen_all(model, audio, known)
    except ValueError as error:
        raise named(error, name) from error
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
    return text, genres, report, warned(name, [one.warnings for one in found])


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


NODES = [CaptionImage, TranscribeSpeech, DescribeMusic]
