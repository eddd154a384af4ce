"""Pictures, speech, music, weather and text as one prompt."""

import logging
from typing import Any

from comfy_api.latest import io

from ..zsamb_core.context.fusion import (
    SOURCES,
    TEMPLATE,
    check_template,
    dropped,
    escape,
    fill,
    lines_of,
    unused,
)
from ..zsamb_core.context.speech import LANGUAGES
from ._common import CAPTION_MODEL, CONTEXT, MUSIC_MODEL, SPEECH_MODEL, SUMMARY_MODEL, naming
from ._descriptions import AUTO, captions, descriptions, labels_stamp, transcripts
from ._host.context.models import ContextModel, summarise_all
from ._host.context.token_count import CLIP_READS, count_tokens

BY_TEMPLATE, SUMMARIZE, NONE = "template", "summarize", "none"
NODE = "ContextToPrompt"


class ContextToPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ZSAMB_ContextToPrompt",
            display_name=NODE,
            category=CONTEXT,
            description=(
                "Pictures, speech, music, weather and words of your own as one prompt, for Prompt Set. A"
                " source of several lines gives as many prompts."
            ),
            search_aliases=["multimodal prompt", "prompt fusion", "audio to prompt", "T5", "Z-SAMB"],
            inputs=[
                io.String.Input(
                    "text",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    tooltip="Words of your own. One line for all prompts, or one line each.",
                ),
                io.Combo.Input(
                    "fusion",
                    options=[BY_TEMPLATE, SUMMARIZE, NONE],
                    default=BY_TEMPLATE,
                    tooltip=(
                        "template: as written below. summarize: the template's result, shortened by T5 as"
                        " published, which may lose a source: the report says so. none: one source after"
                        " another."
                    ),
                ),
                io.String.Input(
                    "template",
                    multiline=True,
                    default=TEMPLATE,
                    dynamic_prompts=False,
                    tooltip=(
                        "Order and sentences, of {text}, {image}, {speech}, {music}, {weather}. What stands"
                        " in [ ] is left out when a source within has nothing: {image}[, with the words"
                        " {speech}]."
                    ),
                ),
                io.String.Input(
                    "style",
                    default="",
                    dynamic_prompts=True,
                    tooltip="Style words, kept apart from the fusion: they come out as they are.",
                ),
                io.MultiType.Input(
                    "image",
                    [io.String, io.Image],
                    optional=True,
                    tooltip="Text from Caption Image; or pictures, with caption_model.",
                ),
                io.MultiType.Input(
                    "speech",
                    [io.String, io.Audio],
                    optional=True,
                    tooltip=(
                        "Text from Transcribe Speech; or a recording, with speech_model: see language, too."
                    ),
                ),
                io.MultiType.Input(
                    "music",
                    [io.String, io.Audio],
                    optional=True,
                    tooltip="Text from Describe Music; or a recording, with music_model.",
                ),
                io.String.Input(
                    "weather", optional=True, force_input=True, tooltip="Text from Describe Weather."
                ),
                CAPTION_MODEL.Input("caption_model", optional=True, tooltip="For pictures in image."),
                SPEECH_MODEL.Input("speech_model", optional=True, tooltip="For a recording in speech."),
                MUSIC_MODEL.Input("music_model", optional=True, tooltip="For a recording in music."),
                SUMMARY_MODEL.Input("summary_model", optional=True, tooltip="For summarize."),
                io.Combo.Input(
                    "language",
                    options=[AUTO, *LANGUAGES],
                    default=AUTO,
                    optional=True,
                    tooltip=(
                        "For a recording in speech: what is spoken, by its code, such as en or it. auto: the"
                        " model finds out."
                    ),
                ),
                io.Boolean.Input(
                    "translate",
                    default=False,
                    optional=True,
                    tooltip=(
                        "For a recording in speech: into English, which is what SDXL's text encoders know."
                    ),
                ),
            ],
            outputs=[
                io.String.Output(display_name="prompts", tooltip="One per line. For Prompt Set."),
                io.String.Output(display_name="style", tooltip="The style words, untouched. For Prompt Set."),
                io.String.Output(
                    display_name="report", tooltip="Tokens of each prompt, and what was left out."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        text: str,
        fusion: str,
        template: str,
        style: str,
        image: Any = "",
        speech: Any = "",
        music: Any = "",
        weather: str | None = None,
        caption_model: ContextModel | None = None,
        speech_model: ContextModel | None = None,
        music_model: ContextModel | None = None,
        summary_model: ContextModel | None = None,
        language: str = AUTO,
        translate: bool = False,
    ) -> io.NodeOutput:
        # Text where nothing is connected. None comes by a link: a video without sound has no AUDIO.
        notes = [
            warned(f"{name}: there is none, as of a video without sound")
            for name, given in (("image", image), ("speech", speech), ("music", music))
            if given is None
        ]
        if (language != AUTO or translate) and (speech is None or isinstance(speech, str)):
            notes.append(warned("language and translate do nothing here: they are for a recording in speech"))
        with naming(NODE):
            check_template(template)
            if fusion == SUMMARIZE and summary_model is None:
                raise ValueError("fusion is summarize without a summary_model. Connect Load Summary Model.")
            heard = ("speech", speech, speech_model, "Speech"), ("music", music, music_model, "Music")
            for name, given, model, title in (("image", image, caption_model, "Caption"), *heard):
                if given is not None and not isinstance(given, str) and model is None:
                    raise ValueError(
                        f"{name} is no text, and {title.lower()}_model is not connected. Connect Load"
                        f" {title} Model, or text."
                    )
            # A model where there is something for it: seen to above.
            if caption_model and image is not None and not isinstance(image, str):
                image = captions(caption_model, image)
            if speech_model and speech is not None and not isinstance(speech, str):
                speech, _, said = transcripts(speech_model, speech, language, translate)
                notes += [f"speech, {line}" for line in said]
            if music_model and music is not None and not isinstance(music, str):
                music, *_, said = descriptions(music_model, music)
                notes += [f"music, {line}" for line in said]
            given = dict(zip(SOURCES, (image, speech, music, weather, text), strict=True))
            rows = lines_of({name: value or "" for name, value in given.items()})
            prompts, left = fuse(rows, fusion, template, summary_model)
        notes += [*left, *(note for i, p in enumerate(prompts) for note in told(i, p, style))]
        return io.NodeOutput("\n".join(prompts), style, "\n".join(notes))

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> Any:
        return labels_stamp()


def fuse(
    rows: list[dict[str, str]], fusion: str, template: str, summary_model: ContextModel | None
) -> tuple[list[str], list[str]]:
    """(prompts, what was left out) of the sources line by line. Raises ValueError for a prompt of nothing."""
    order = " ".join(f"{{{name}}}" for name in ("text", *SOURCES[:-1])) if fusion == NONE else template
    left = [unused(order, row) for row in rows]
    # Words of the user's own may weigh with brackets; what a model wrote may not.
    kept = [
        {n: v if n == "text" or fusion == SUMMARIZE else escape(v) for n, v in row.items()} for row in rows
    ]
    prompts = [fill(order, row) for row in kept]
    for i, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(
                f"prompt {i + 1} is empty: no source has text for it. Connect a source, or write text."
            )
    notes = [
        warned(f"prompt {i + 1}: {name} is not in it: the template does not name it in a part that stays.")
        for i, names in enumerate(left)
        for name in names
    ]
    if fusion != SUMMARIZE:
        return prompts, notes
    assert summary_model is not None
    summaries = summarise_all(summary_model, prompts)
    for i, (long, short) in enumerate(zip(prompts, summaries, strict=True)):
        read, count = summary_model.model.read(long)
        if read < count:
            notes.append(warned(f"prompt {i + 1}: the summary model read {read} of {count} tokens."))
        in_it = {name: value for name, value in rows[i].items() if name not in left[i]}
        notes += [
            warned(f"prompt {i + 1}: the summary dropped {name} ({in_it[name]!r}).")
            for name in dropped(in_it, short)
        ]
    return [escape(summary) for summary in summaries], notes


def told(index: int, prompt: str, style: str) -> list[str]:
    """A line on a prompt's length, as Prompt Set will write it."""
    count, pieces = count_tokens(f"{prompt} {style.strip()}".strip())
    line = f"prompt {index + 1}: {count} tokens"
    if count <= CLIP_READS:
        return [f"{line}."]
    return [
        warned(
            f"{line}, more than the {CLIP_READS} that CLIP reads at once: it gets them in {pieces} pieces."
        )
    ]


def warned(line: str) -> str:
    logging.warning("%s: %s", NODE, line)
    return line


NODES = [ContextToPrompt]
