"""One node per sense: what a picture shows, what is said, how music sounds, each as text."""

from typing import Any

from comfy_api.latest import io

from ..zsamb_core.context.speech import LANGUAGES
from ._common import CAPTION_MODEL, CONTEXT, MUSIC_MODEL, SPEECH_MODEL
from ._descriptions import (
    AUTO,
    BEAMS,
    CAPTION,
    DESCRIBE,
    LENGTH,
    SETS,
    TOP,
    TRANSCRIBE,
    captions,
    descriptions,
    labels_stamp,
    transcripts,
)
from ._host.context.models import ContextModel
from ._host.types import Audio, Image


class CaptionImage(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_CaptionImage",
            display_name=CAPTION,
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
    def execute(
        cls, caption_model: ContextModel, images: Image, prefix: str, length: int, beams: int
    ) -> io.NodeOutput:
        return io.NodeOutput(captions(caption_model, images, prefix, length, beams))


class TranscribeSpeech(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_TranscribeSpeech",
            display_name=TRANSCRIBE,
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
    def execute(
        cls, speech_model: ContextModel, audio: Audio, language: str, translate: bool
    ) -> io.NodeOutput:
        text, report, _ = transcripts(speech_model, audio, language, translate)
        return io.NodeOutput(text, report)


class DescribeMusic(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_DescribeMusic",
            display_name=DESCRIBE,
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
    def execute(cls, music_model: ContextModel, audio: Audio, sets: str, top_k: int) -> io.NodeOutput:
        text, genre, report, _ = descriptions(music_model, audio, sets, top_k)
        return io.NodeOutput(text, genre, report)

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        return labels_stamp()


NODES = [CaptionImage, TranscribeSpeech, DescribeMusic]
