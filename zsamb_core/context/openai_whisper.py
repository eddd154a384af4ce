"""OpenAI's own Whisper checkpoints (``small.pt`` and so on), by the openai-whisper package, an extra."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..files import torch_file
from ..messages import quoted, short
from .generation import StopCheck
from .optional_packages import wanted
from .rounds import Once, Rounds
from .speech import (
    COMPRESSION,
    HOP,
    LOGPROB,
    NO_SPEECH,
    RATE,
    TEMPERATURES,
    WINDOW,
    Progress,
    SpeechModel,
    Transcript,
    audible,
    left_out,
    segment,
    spoken_from,
)
from .waveform import floor_of


class OpenAIWhisper(NamedTuple):
    """``model``: the package's Whisper; ``package``: the package itself."""

    model: Any
    package: Any

    @property
    def languages(self) -> list[str]:
        known = list(self.package.tokenizer.LANGUAGES)  # in the order of their tokens; older ones have fewer
        return known[: self.model.num_languages] if self.model.is_multilingual else []

    def heard(
        self, track: Tensor, language: str | None, translate: bool, stop_check: StopCheck, progress: Progress
    ) -> Transcript:
        stoppable, floor = _Stoppable(self.model, stop_check, progress), floor_of(track, RATE)
        begin = spoken_from(track)
        if language is None and begin and self.languages:  # else the package itself looks at the beginning
            language = self._spoken(track[begin : begin + WINDOW])
        result = self.package.transcribe(
            stoppable,
            track,
            language=language,
            task="translate" if translate else "transcribe",
            temperature=TEMPERATURES,
            compression_ratio_threshold=COMPRESSION["openai-whisper"],
            logprob_threshold=LOGPROB,
            no_speech_threshold=NO_SPEECH,
            condition_on_previous_text=False,
            fp16=next(self.model.parameters()).dtype == torch.float16,
            verbose=None,
        )
        spoken = [s for s in result["segments"] if audible(track, float(s["start"]), float(s["end"]), floor)]
        return Transcript(
            " ".join("".join(s["text"] for s in spoken).split()),
            result["language"],
            [segment(track, float(s["start"]), float(s["end"]), s["text"]) for s in spoken],
            [*left_out(len(result["segments"]) - len(spoken)), *stoppable.rounds.notes()],
        )

    def _spoken(self, track: Tensor) -> str:
        """The code of the language in a track of one window."""
        parameter = next(self.model.parameters())
        mel = self.package.log_mel_spectrogram(track, self.model.dims.n_mels, padding=WINDOW)
        mel = self.package.pad_or_trim(mel, WINDOW // HOP).to(parameter.device, parameter.dtype)
        _, likely = self.model.detect_language(mel)
        return str(max(likely, key=likely.get))


class _Stoppable:
    """The model, but each window that it decodes is seen: the package has no other way to look in."""

    def __init__(self, model: Any, stop_check: StopCheck, progress: Progress):
        self._model, self._stop_check, self._progress, self._seconds = model, stop_check, progress, 0.0
        self.rounds = Rounds()
        self._encoded = Once(lambda mel: model.embed_audio(mel[None])[0])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def decode(self, mel: Tensor, options: Any) -> Any:
        self._stop_check()
        self.rounds.begin(anew=options.temperature > 0)
        if options.temperature == 0:
            self._progress(self._seconds)
            self._seconds += mel.shape[-1] / 100
        # What is encoded is not encoded again, at a hotter temperature.
        return self._model.decode(self._encoded(mel.half() if options.fp16 else mel), options)


def load_openai_whisper(file: str | Path) -> SpeechModel:
    """A ``.pt`` of OpenAI's format, read by torch's restricted unpickler. Raises ValueError for another
    file, and when the package is not installed.
    """
    file = Path(file)
    try:
        checkpoint = torch_file.load(file)
        if not isinstance(checkpoint, dict):
            raise TypeError(f"it is a {type(checkpoint).__name__}")
        dims, weights = checkpoint["dims"], torch_file.weights_in(checkpoint["model_state_dict"])
        if not isinstance(dims, dict):
            raise TypeError(f"dims is a {type(dims).__name__}")
    except (torch_file.Unreadable, TypeError, KeyError) as error:
        why = error.why if isinstance(error, torch_file.Unreadable) else f"{type(error).__name__}: {error}."
        raise ValueError(
            f"{file.name} is no Whisper checkpoint of OpenAI's: {why} Expected a .pt with dims and"
            " model_state_dict, such as small.pt."
        ) from error
    whisper = wanted(
        "whisper", "openai-whisper", f"{file.name} is a checkpoint of OpenAI's", "openai/whisper-small"
    )
    refuse_dims(file.name, dims, {name: tuple(tensor.shape) for name, tensor in weights.items()})
    try:
        model = whisper.Whisper(whisper.ModelDimensions(**dims))
        model.load_state_dict(weights)
    except Exception as error:
        raise ValueError(f"{file.name} cannot be loaded by openai-whisper ({short(error)}).") from error
    return OpenAIWhisper(model.float().eval(), whisper)


def refuse_dims(file: str, dims: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raises ValueError where the numbers that a model is built by are not those of its weights."""

    def size(name: str, axis: int) -> int:
        return (shapes.get(name, ()) + (0, 0))[axis]

    def layers(side: str) -> int:
        return next(i for i in count() if f"{side}.blocks.{i}.attn.query.weight" not in shapes)

    by_weights = {
        "n_mels": size("encoder.conv1.weight", 1),
        "n_audio_ctx": size("encoder.positional_embedding", 0),
        "n_audio_state": size("encoder.conv1.weight", 0),
        "n_audio_layer": layers("encoder"),
        "n_vocab": size("decoder.token_embedding.weight", 0),
        "n_text_ctx": size("decoder.positional_embedding", 0),
        "n_text_state": size("decoder.token_embedding.weight", 1),
        "n_text_layer": layers("decoder"),
    }
    wrong = [
        f"{name} is {quoted(dims.get(name))}"
        for name, value in by_weights.items()
        if type(dims.get(name)) is not int or dims[name] != value
    ]
    for side in ("audio", "text"):
        heads, width = dims.get(f"n_{side}_head"), by_weights[f"n_{side}_state"]
        if type(heads) is not int or heads < 1 or width % heads:
            wrong.append(f"n_{side}_head is {quoted(heads)}")
    if wrong or len(dims) != len(by_weights) + 2:
        numbers = ", ".join(f"{name} {value}" for name, value in by_weights.items())
        raise ValueError(
            f"{file} cannot be loaded by openai-whisper: in its dims {', '.join(wrong) or 'are other names'},"
            f" and its weights have {numbers}. Get it again from its source."
        )
