"""Music in words by CLAP (Wu, Chen, Zhang, Hui, Berg-Kirkpatrick, Dubnov, arXiv 2211.06687): the labels whose
texts lie nearest to the sound, as Z-SASLM takes the atmosphere of a piece.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..files.yaml_file import read_yaml
from ..messages import quoted, short
from ..scores.measures import cosines, directions
from .waveform import floor_of, loudness, windows

SHIPPED = Path(__file__).with_name("music_labels.yaml")
GENRE = "genre"
LABELS, LONGEST = 2_000, 500  # of all sets; characters of a text


class LabelSet(NamedTuple):
    """``prompt``: what the text encoder reads of a label; ``sentence``: what is said of the best ones. Both
    hold ``{label}``.
    """

    prompt: str
    sentence: str
    labels: tuple[str, ...]


class MusicModel(Protocol):
    """``rate`` in Hz and ``window`` in samples of what the audio encoder hears at once."""

    @property
    def model(self) -> Any: ...

    @property
    def rate(self) -> int: ...

    @property
    def window(self) -> int: ...

    @property
    def scale(self) -> float:
        """What the cosines are multiplied by before the softmax, as trained."""
        ...

    def embed_sound(self, track: Tensor) -> Tensor:
        """(D,) of a (n,) track no longer than the window, in fp32 on the CPU."""
        ...

    def embed_texts(self, texts: list[str]) -> Tensor:
        """(n, D)"""
        ...


def read_label_sets(*files: Path) -> dict[str, LabelSet]:
    """The sets of YAML files by name; a later file's set takes an earlier one's place. Raises ValueError
    that names file and set.
    """
    sets: dict[str, LabelSet] = {}
    for file in files:
        try:
            data = read_yaml(file)
        except ValueError as error:
            raise ValueError(f"the label file {file} cannot be read: {short(error, 400)}") from error
        if not isinstance(data, dict):
            raise ValueError(
                f"the label file {file} is a {type(data).__name__}, expected sets by their names"
            )
        for name, entry in data.items():
            sets[str(name)] = _label_set(entry, f"{file}, set {quoted(name)}")
    if (count := sum(len(part.labels) for part in sets.values())) > LABELS:
        raise ValueError(f"the label files have {count:,} labels, expected {LABELS:,} at most")
    return sets


def _label_set(entry: Any, where: str) -> LabelSet:
    if not isinstance(entry, dict) or set(entry) != {"prompt", "sentence", "labels"}:
        raise ValueError(f"{where}: expected prompt, sentence and labels, no more and no less")
    prompt, sentence, labels = entry["prompt"], entry["sentence"], entry["labels"]
    for key in ("prompt", "sentence"):
        if not isinstance(entry[key], str) or "{label}" not in entry[key]:
            raise ValueError(f"{where}: {key} is {quoted(entry[key])}, expected a text with {{label}} in it")
    if not isinstance(labels, list) or not labels or not all(isinstance(x, str) and x for x in labels):
        raise ValueError(f"{where}: labels is {quoted(labels)}, expected a list of texts")
    if longest := next((t for t in (prompt, sentence, *labels) if len(t) > LONGEST), None):
        raise ValueError(f"{where}: {quoted(longest)} is too long, expected {LONGEST} characters at most")
    return LabelSet(prompt, sentence, tuple(labels))


def embed_track(model: MusicModel, track: Tensor) -> Iterator[Tensor]:
    """Embeddings (D,) of the windows of a (n,) track at ``model.rate``, one by one: so that the caller can
    show progress and stop. Silent ones are left out. Their mean direction is the track's, whatever its
    length; the packages' own way with long recordings takes a random part.
    """
    parts, floor = windows(track, model.window), floor_of(track, model.rate)
    loud = [part for part in parts if loudness(part, model.rate) >= floor]
    for part in loud or parts:
        yield model.embed_sound(part)


class Match(NamedTuple):
    """``cosine`` of the label's text and the sound; ``probability`` within its set."""

    label: str
    cosine: float
    probability: float


def matches(model: MusicModel, sound: Tensor, sets: dict[str, LabelSet]) -> dict[str, list[Match]]:
    """All labels of each set, the nearest first. ``sound``: (windows, D)."""
    mean = directions(sound).mean(0, keepdim=True)
    texts = [part.prompt.replace("{label}", label) for part in sets.values() for label in part.labels]
    near = cosines(mean, model.embed_texts(texts))[0]
    by_set = {}
    for name, part in sets.items():
        own, near = near[: len(part.labels)], near[len(part.labels) :]
        shares = torch.softmax(model.scale * own, 0)
        ranked = [Match(*x) for x in zip(part.labels, own.tolist(), shares.tolist(), strict=True)]
        by_set[name] = sorted(ranked, key=lambda match: -match.cosine)
    return by_set


def sentence(part: LabelSet, labels: Sequence[str]) -> str:
    """The set's sentence with one label, or several as "a, b and c"."""
    *first, last = labels
    return part.sentence.replace("{label}", f"{', '.join(first)} and {last}" if first else last)
