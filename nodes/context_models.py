"""Loaders of the models that turn pictures, speech, music and long texts into prompt text."""

from typing import Any

from comfy_api.latest import io

from ._common import (
    CAPTION_MODEL,
    CONTEXT,
    MUSIC_MODEL,
    SPEECH_MODEL,
    SUMMARY_MODEL,
    fingerprint_of,
    naming,
    problem_of,
)
from ._host.context.models import CAPTION, MUSIC, SPEECH, SUMMARY, Kind, load


class Loader(io.ComfyNode):
    """What the loaders share; each names its kind, its output and its texts."""

    KIND: Kind
    OUTPUT: Any  # one of the sockets of _common
    ID: str
    TITLE: str
    ABOUT: str
    WHERE: str
    ALIASES: list[str]

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id=cls.ID,
            display_name=cls.TITLE,
            category=CONTEXT,
            description=cls.ABOUT,
            search_aliases=[*cls.ALIASES, "ContextToPrompt", "Z-SAMB"],
            inputs=[
                io.Combo.Input("name", options=cls.KIND.listed(), default=cls.KIND.example, tooltip=cls.WHERE)
            ],
            outputs=[cls.OUTPUT.Output(display_name=cls.OUTPUT.io_type.lower())],
        )

    @classmethod
    def validate_inputs(cls, name: Any) -> bool | str:
        return problem_of(cls.KIND.path, name, cls.TITLE)

    @classmethod
    def execute(cls, name: Any) -> io.NodeOutput:
        with naming(cls.TITLE):
            return io.NodeOutput(load(cls.KIND, name, cls.TITLE))

    @classmethod
    def fingerprint_inputs(cls, name: Any) -> Any:
        return fingerprint_of(cls.KIND.path, name, cls.TITLE)


class LoadCaptionModel(Loader):
    KIND, OUTPUT, ID = CAPTION, CAPTION_MODEL, "ZSAMB_LoadCaptionModel"
    TITLE = "Load Caption Model"
    ABOUT = "A BLIP that says in words what a picture shows, from a transformers folder."
    WHERE = (
        "A folder under models/transformers, for example Salesforce/blip-image-captioning-base from Hugging"
        " Face."
    )
    ALIASES = ["BLIP", "image to text", "interrogator"]


class LoadSpeechModel(Loader):
    KIND, OUTPUT, ID = SPEECH, SPEECH_MODEL, "ZSAMB_LoadSpeechModel"
    TITLE = "Load Speech Model"
    ABOUT = (
        "A Whisper of any size that writes down speech: a transformers folder, or OpenAI's own .pt with the"
        " openai-whisper package."
    )
    WHERE = (
        "A folder under models/transformers, for example openai/whisper-small from Hugging Face, or a .pt"
        " under models/whisper."
    )
    ALIASES = ["Whisper", "speech to text", "ASR"]


class LoadMusicModel(Loader):
    KIND, OUTPUT, ID = MUSIC, MUSIC_MODEL, "ZSAMB_LoadMusicModel"
    TITLE = "Load Music Model"
    ABOUT = (
        "A CLAP that compares sound with words: a transformers folder, or LAION's own .pt with the laion-clap"
        " package."
    )
    WHERE = (
        "A folder under models/transformers, for example laion/clap-htsat-unfused from Hugging Face, or a .pt"
        " under models/clap."
    )
    ALIASES = ["CLAP", "laion", "audio to text"]


class LoadSummaryModel(Loader):
    KIND, OUTPUT, ID = SUMMARY, SUMMARY_MODEL, "ZSAMB_LoadSummaryModel"
    TITLE = "Load Summary Model"
    ABOUT = "A T5 that shortens texts, from a transformers folder, for ContextToPrompt."
    WHERE = "A folder under models/transformers, for example google-t5/t5-small from Hugging Face."
    ALIASES = ["T5", "summarize"]


NODES = [LoadCaptionModel, LoadSpeechModel, LoadMusicModel, LoadSummaryModel]
