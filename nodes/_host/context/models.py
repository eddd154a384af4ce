"""Models that turn pictures, speech, music and long texts into prompt text: their places and their work."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import comfy.model_patcher
import comfy.utils
import torch

from ....zsamb_core.context import caption, clap, speech, summary
from ....zsamb_core.context.laion_clap import load_laion_clap
from ....zsamb_core.context.music import LabelSet, Match, embed_track, matches
from ....zsamb_core.context.openai_whisper import load_openai_whisper
from ....zsamb_core.context.waveform import Track, silence, tracks, windows
from ....zsamb_core.messages import quoted, short
from ....zsamb_core.scores.judge import as_pictures
from ..folders import TRANSFORMERS, files, find, model_folder, model_folders, register
from ..memory import managed, stop_if_asked, to_device
from ..types import Audio, Image

WHISPER, CLAP = "whisper", "clap"
ROBERTA = "FacebookAI/roberta-base"
register(TRANSFORMERS, ())
# Other packs have folders of these names: without extensions, so that they see all of theirs.
register(WHISPER, ())
register(CLAP, ())


@dataclass(frozen=True)
class ContextModel:
    """A model of one of the kinds below, and what moves it to the device. ``name`` as the loader lists it."""

    name: str
    model: Any
    patcher: comfy.model_patcher.ModelPatcher


@dataclass(frozen=True)
class Kind:
    """``kinds``: transformers' model types; ``example``: the recommended folder, and the ``files`` in it;
    ``checkpoints``: the folder type of single files of another format, their loader, and where to get them.
    """

    kinds: dict[str, str]
    load: Callable[[Path], Any]
    example: str
    files: str
    checkpoints: tuple[str, Callable[[Path], Any], str] | None = None

    def listed(self) -> list[str]:
        """The recommended folder, there or not, then what is there."""
        found = model_folders(self.kinds)
        if self.checkpoints:
            found += [file for file in files(self.checkpoints[0]) if file.endswith(".pt")]
        return list(dict.fromkeys([self.example, *found]))

    def path(self, name: str, node: str) -> Path:
        """Of a folder or a file. Raises ValueError for what is no name, and for what is not there, with where
        it was looked for.
        """
        if not isinstance(name, str):
            raise ValueError(f"{node}: name is {quoted(name)}, expected text such as {self.example!r}.")
        if self.checkpoints and name.endswith(".pt"):
            return find(self.checkpoints[0], name, node, self.checkpoints[2])
        wanted = short(name) if name.count("/") == 1 else self.example
        return model_folder(name, node, f"Get {wanted} from huggingface.co/{wanted}: {self.files}.")


def laion_clap(file: Path) -> Any:
    """With the tokenizer of roberta-base, which LAION's checkpoints do not bring."""
    example = f"Get vocab.json and merges.txt from huggingface.co/{ROBERTA}."
    return load_laion_clap(file, model_folder(ROBERTA, file.name, example, "vocab.json"))


CAPTION = Kind(
    caption.KINDS,
    caption.load_caption_model,
    "Salesforce/blip-image-captioning-base",
    "config.json, preprocessor_config.json, the tokenizer's files and pytorch_model.bin",
)
SPEECH = Kind(
    speech.KINDS,
    speech.load_whisper,
    "openai/whisper-small",
    "all .json files, merges.txt and model.safetensors",
    (WHISPER, load_openai_whisper, "Get such as small.pt from github.com/openai/whisper."),
)
MUSIC = Kind(
    clap.KINDS,
    clap.load_clap,
    "laion/clap-htsat-unfused",
    "all .json files, merges.txt and model.safetensors or pytorch_model.bin",
    (CLAP, laion_clap, "Get such as 630k-audioset-best.pt from huggingface.co/lukewys/laion_clap."),
)
SUMMARY = Kind(
    summary.KINDS,
    summary.load_summary_model,
    "google-t5/t5-small",
    "all .json files, spiece.model and model.safetensors",
)


def load(kind: Kind, name: str, node: str) -> ContextModel:
    """Raises ValueError for what is not there, or no such model."""
    path = kind.path(name, node)
    make = kind.checkpoints[1] if kind.checkpoints and path.is_file() else kind.load
    model = make(path)
    return ContextModel(name, model, managed(model.model))


def caption_all(model: ContextModel, images: Image, prefix: str, length: int, beams: int) -> list[str]:
    """A sentence for each picture of an IMAGE."""
    pictures = as_pictures(images)
    to_device(model.patcher)
    progress = comfy.utils.ProgressBar(len(pictures))
    found = []
    for part in model.model.captions(pictures, prefix, length, beams, stop_if_asked):
        found += [caption.as_sentence(text) for text in part]
        progress.update(len(part))
    return found


def transcribe_all(
    model: ContextModel, audio: Audio | None, language: str | None, translate: bool
) -> list[speech.Transcript]:
    """A transcript of each recording of an AUDIO, or of the silence of None."""
    recordings = tracks_of(audio, speech.RATE)
    to_device(model.patcher)
    seconds = [len(track) / speech.RATE for track, _ in recordings]
    progress = comfy.utils.ProgressBar(sum(seconds))
    found = []
    for i, (track, said) in enumerate(recordings):
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
        found.append(replace(one, warnings=[*said, *one.warnings]))
        progress.update_absolute(before + seconds[i])
    return found


@dataclass(frozen=True)
class Heard:
    """``found``: matches by set, the nearest first; none, and a warning, for silence."""

    found: dict[str, list[Match]]
    warnings: list[str]


def listen_all(model: ContextModel, audio: Audio | None, sets: dict[str, LabelSet]) -> list[Heard]:
    """What each recording of an AUDIO sounds like, or the silence of None."""
    music = model.model
    recordings = tracks_of(audio, music.rate)
    to_device(model.patcher)
    counts = [len(windows(track, music.window)) for track, _ in recordings]
    progress = comfy.utils.ProgressBar(sum(counts))
    found = []
    for i, (track, said) in enumerate(recordings):
        if silent := silence(track, music.rate):
            found.append(Heard({}, [*said, silent]))
        else:
            parts = []
            for part in embed_track(music, track):
                stop_if_asked()
                parts.append(part)
                progress.update(1)
            found.append(Heard(matches(music, torch.stack(parts), sets), list(said)))
        progress.update_absolute(sum(counts[: i + 1]))  # silent windows are not heard
    return found


def summarise_all(model: ContextModel, texts: list[str]) -> list[str]:
    to_device(model.patcher)
    progress = comfy.utils.ProgressBar(len(texts))
    found = []
    for text in model.model.summaries(texts, stop_if_asked):
        found.append(text)
        progress.update(1)
    return found


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
