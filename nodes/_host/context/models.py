"""Models that turn pictures, speech, music and long texts into prompt text: their places and their work."""

from pathlib import Path
from typing import Any, NamedTuple

import comfy.model_patcher
import comfy.utils
import torch

from ....zsamb_core.context import caption, clap, speech, summary
from ....zsamb_core.context.music import LabelSet, Match, embed_track, matches
from ....zsamb_core.context.waveform import Track, silence, tracks, windows
from ....zsamb_core.scores.judge import as_pictures
from ..folders import TRANSFORMERS, model_folder, register
from ..memory import managed, stop_if_asked, to_device
from ..model_source import Checkpoints, Source
from ..types import Audio, Image

WHISPER, CLAP = "whisper", "clap"
ROBERTA = "FacebookAI/roberta-base"
register(TRANSFORMERS, ())
# Other packs have folders of these names: without extensions, so that they see all of theirs.
register(WHISPER, ())
register(CLAP, ())


class ContextModel:
    """A model, and what moves it to the device. ``name`` as the loader lists it."""

    def __init__(self, name: str, model: Any, patcher: comfy.model_patcher.ModelPatcher) -> None:
        self.name, self.model, self.patcher = name, model, patcher


def laion_clap(file: Path) -> Any:
    """With the tokenizer of roberta-base, which LAION's checkpoints do not bring."""
    from ....zsamb_core.context.laion_clap import load_laion_clap

    example = f"Get vocab.json and merges.txt from huggingface.co/{ROBERTA}."
    return load_laion_clap(file, model_folder(ROBERTA, file.name, example, "vocab.json"))


def openai_whisper(file: Path) -> Any:
    from ....zsamb_core.context.openai_whisper import load_openai_whisper

    return load_openai_whisper(file)


CAPTION = Source(caption.KIND, caption.load_caption_model)
SPEECH = Source(
    speech.KIND,
    speech.load_whisper,
    Checkpoints(WHISPER, openai_whisper, "Get such as small.pt from github.com/openai/whisper."),
)
MUSIC = Source(
    clap.KIND,
    clap.load_clap,
    Checkpoints(
        CLAP, laion_clap, "Get such as 630k-audioset-best.pt from huggingface.co/lukewys/laion_clap."
    ),
)
SUMMARY = Source(summary.KIND, summary.load_summary_model)


def load(source: Source, name: str, node: str) -> ContextModel:
    """Raises ValueError for what is not there, or no such model."""
    model = source.model(name, node)
    return ContextModel(name, model, managed(model.model))


def caption_all(model: ContextModel, images: Image, prefix: str, length: int, beams: int) -> list[str]:
    """A sentence for each picture of an IMAGE."""
    pictures = as_pictures(images)
    to_device(model.patcher)
    progress = comfy.utils.ProgressBar(len(pictures))
    captions = []
    for part in model.model.captions(pictures, prefix, length, beams, stop_if_asked):
        captions += [caption.as_sentence(text) for text in part]
        progress.update(len(part))
    return captions


def transcribe_all(
    model: ContextModel, audio: Audio | None, language: str | None, translate: bool
) -> list[speech.Transcript]:
    """A transcript of each recording of an AUDIO, or of the silence of None."""
    recordings = tracks_of(audio, speech.RATE)
    to_device(model.patcher)
    seconds = [len(track) / speech.RATE for track, _ in recordings]
    progress = comfy.utils.ProgressBar(sum(seconds))
    transcripts = []
    for i, (track, notes) in enumerate(recordings):
        before = sum(seconds[:i])

        def tell(heard: float, before: float = before) -> None:
            progress.update_absolute(before + heard)

        one = speech.transcribe(
            model.model,
            track,
            language,
            translate,
            stop_if_asked,
            tell,
        )
        transcripts.append(one._replace(warnings=[*notes, *one.warnings]))
        progress.update_absolute(before + seconds[i])
    return transcripts


class Heard(NamedTuple):
    """``matches``: by set, the nearest first; none, and a warning, for silence."""

    matches: dict[str, list[Match]]
    warnings: list[str]


def listen_all(model: ContextModel, audio: Audio | None, sets: dict[str, LabelSet]) -> list[Heard]:
    """What each recording of an AUDIO sounds like, or the silence of None."""
    music = model.model
    recordings = tracks_of(audio, music.rate)
    to_device(model.patcher)
    counts = [len(windows(track, music.window)) for track, _ in recordings]
    progress = comfy.utils.ProgressBar(sum(counts))
    heard = []
    for i, (track, notes) in enumerate(recordings):
        if silent := silence(track, music.rate):
            heard.append(Heard({}, [*notes, silent]))
        else:
            parts = []
            for part in embed_track(music, track):
                stop_if_asked()
                parts.append(part)
                progress.update(1)
            heard.append(Heard(matches(music, torch.stack(parts), sets), list(notes)))
        progress.update_absolute(sum(counts[: i + 1]))  # silent windows are not heard
    return heard


def summarise_all(model: ContextModel, texts: list[str]) -> list[str]:
    to_device(model.patcher)
    progress = comfy.utils.ProgressBar(len(texts))
    summaries = []
    for text in model.model.summaries(texts, stop_if_asked):
        summaries.append(text)
        progress.update(1)
    return summaries


def tracks_of(audio: Audio | None, rate: int) -> list[Track]:
    """The recordings of the host's AUDIO; of None, which the host has for a video without sound, one of no
    samples. Raises ValueError for what is none.
    """
    if audio is None:
        return [Track(torch.zeros(0))]
    if not isinstance(audio, dict) or not {"waveform", "sample_rate"} <= set(audio):
        raise ValueError(
            f"audio is a {type(audio).__name__}, expected ComfyUI's AUDIO with waveform and sample_rate"
        )
    return tracks(audio["waveform"], int(audio["sample_rate"]), rate)
