"""Speech to text by Whisper (Radford, Kim, Xu, Brockman, McLeavey, Sutskever, arXiv 2212.04356).

From a transformers folder, or from an OpenAI ``.pt`` checkpoint by way of the openai-whisper package. Both go
through long recordings as section 4.5 of the paper does: windows of 30 s that start where the last whole
segment ended, and hotter sampling where the text repeats itself or is unlikely.
"""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from ..transformers_folder import LOCAL, Kind, load_tokenizer, load_whole, loading, of_transformers, type_of
from .generation import StopCheck, on_every_token
from .rounds import Rounds, encoding_once
from .waveform import FRAME, first_sound, floor_of, loudness, silence

RATE = 16_000
WINDOW = 30 * RATE
HOP = 160  # samples to a log-mel frame
# What goes through transformers at once: it keeps every token's scores until it is done, about 0.2 MB each.
STRETCH = 300 * RATE
KIND = Kind(
    {"whisper": "Whisper"},
    "openai/whisper-small",
    "all .json files, merges.txt and model.safetensors",
)
# The paper's: temperatures in turn until the text is likely enough and does not repeat itself.
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
LOGPROB, NO_SPEECH = -1.0, 0.6
# Whisper's codes, "yue" from large-v3 on.
_CODES = (
    "af am ar as az ba be bg bn bo br bs ca cs cy da de el en es et eu fa fi fo fr gl gu ha haw he hi"
    " hr ht hu hy id is it ja jw ka kk km kn ko la lb ln lo lt lv mg mi mk ml mn mr ms mt my ne nl nn"
    " no oc pa pl ps pt ro ru sa sd si sk sl sn so sq sr su sv sw ta te tg th tk tl tr tt uk ur uz vi"
    " yi yo yue zh"
)
LANGUAGES = tuple(_CODES.split())
# transformers takes the ratio over token ids, openai-whisper over text: each has its own figure.
COMPRESSION = {"transformers": 1.35, "openai-whisper": 2.4}
Progress = Callable[[float], None]  # seconds heard


class Transcript(NamedTuple):
    """``text`` on one line; ``language`` as Whisper's code, asked for or found, None where nobody speaks;
    ``segments``: {"start", "end" (seconds), "text"}.
    """

    text: str
    language: str | None
    segments: list[dict[str, Any]]
    warnings: list[str]


class SpeechModel(Protocol):
    @property
    def model(self) -> Any: ...

    @property
    def languages(self) -> list[str]:
        """Codes that can be asked for; none for a model of English alone."""
        ...

    def heard(
        self, track: Tensor, language: str | None, translate: bool, stop_check: StopCheck, progress: Progress
    ) -> Transcript: ...


def transcribe(
    model: SpeechModel,
    track: Tensor,
    language: str | None,
    translate: bool,
    stop_check: StopCheck,
    progress: Progress,
) -> Transcript:
    """The text of a (n,) track at ``RATE`` Hz. ``language``: Whisper's code, or None to detect it;
    ``translate``: into English. Silence is "" with a warning. The same every time: where the text is
    sampled, from the same random numbers. Raises ValueError for a language that the model does not know.
    """
    if not model.languages and (translate or language not in (None, "en")):
        asked = "translate" if translate else f"the language {language!r}"
        raise ValueError(
            f"the speech model knows English alone, and {asked} was asked for. Use a multilingual one such as"
            " openai/whisper-small."
        )
    if model.languages and language is not None and language not in model.languages:
        raise ValueError(f"the speech model does not know the language {language!r}")
    if silent := silence(track, RATE):
        return Transcript("", None, [], [silent])
    device = next(model.model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)
        transcript = model.heard(track, language, translate, stop_check, progress)
    if transcript.text:
        return transcript
    # A language found in sound without words is none.
    return transcript._replace(language=language, warnings=[*transcript.warnings, "no speech was found"])


def audible(track: Tensor, start: float, end: float, floor: float) -> bool:
    """Whether there is anything above the floor, in dB, where a segment is said to be, in seconds. Whisper
    goes on in silence, and in the padding behind the end.
    """
    piece = track[round(start * RATE) : round(max(end, start + FRAME) * RATE)]
    return len(piece) > 0 and loudness(piece, RATE) >= floor


def segment(track: Tensor, start: float, end: float, text: str) -> dict[str, Any]:
    """An entry of a transcript. Whisper's times are those of its window, which may end after the track."""
    return {"start": start, "end": min(end, len(track) / RATE), "text": text.strip()}


def left_out(count: int) -> list[str]:
    """What to say of segments that are not audible."""
    if not count:
        return []
    of = "1 segment" if count == 1 else f"{count} segments"
    return [f"{of} that Whisper wrote in silence {'was' if count == 1 else 'were'} left out"]


def spoken_from(track: Tensor) -> int:
    """The sample from which on ``WINDOW`` shows the language. The beginning, where at least half of that is
    behind the first sound: so it is the window that is written down first.
    """
    first = first_sound(track, RATE)
    return first if len(track) > WINDOW and first > WINDOW // 2 else 0


class TransformersWhisper(NamedTuple):
    """transformers' model, feature extractor and tokenizer."""

    model: Any
    features: Any
    tokenizer: Any

    @property
    def languages(self) -> list[str]:
        return [token[2:-2] for token in getattr(self.model.generation_config, "lang_to_id", None) or {}]

    def heard(
        self, track: Tensor, language: str | None, translate: bool, stop_check: StopCheck, progress: Progress
    ) -> Transcript:
        settings: dict[str, Any] = {
            "return_timestamps": True,
            "return_segments": True,
            "condition_on_prev_tokens": False,
            "temperature": TEMPERATURES,
            "compression_ratio_threshold": COMPRESSION["transformers"],
            "logprob_threshold": LOGPROB,
            "no_speech_threshold": NO_SPEECH,
        }
        rounds, floor = Rounds(), floor_of(track, RATE)
        begin, written = 0, list[tuple[float, float, Tensor]]()
        with encoding_once(self.model.get_encoder()) as encoded:
            if self.languages:
                language = language or self._spoken(track[spoken_from(track) :][:STRETCH])
                settings |= {"language": language, "task": "translate" if translate else "transcribe"}
            last = 0

            def begun() -> None:
                nonlocal last
                rounds.begin(anew=encoded.count == last)
                last = encoded.count

            settings["stopping_criteria"] = on_every_token(stop_check, begun)
            while begin < len(track):
                part = track[begin : begin + STRETCH]

                def heard_to(seconds: float, begin: int = begin) -> None:
                    progress(begin / RATE + seconds)

                segments = self._segments(part, settings, heard_to)
                # The last one of a stretch may be cut short: it is heard again, from its start.
                again = round(segments[-1][0] * RATE) if segments and begin + STRETCH < len(track) else 0
                if 2 * again > STRETCH:
                    segments.pop()
                written += [(begin / RATE + start, begin / RATE + end, text) for start, end, text in segments]
                begin += again if 2 * again > STRETCH else STRETCH
        spoken = [part for part in written if audible(track, *part[:2], floor)]
        text = self._text(torch.cat([tokens for *_, tokens in spoken])) if spoken else ""
        return Transcript(
            " ".join(text.split()),
            language or "en",
            [segment(track, start, end, self._text(tokens)) for start, end, tokens in spoken],
            [*left_out(len(written) - len(spoken)), *rounds.notes()],
        )

    def _spoken(self, track: Tensor) -> str:
        """The code of the language in the first ``WINDOW``."""
        frames = self._features(track)[..., : WINDOW // HOP]
        frames = torch.nn.functional.pad(frames, (0, WINDOW // HOP - frames.shape[-1]))
        token = int(self.model.detect_language(frames)[0])
        codes = {id_: name[2:-2] for name, id_ in self.model.generation_config.lang_to_id.items()}
        return str(codes[token])

    def _features(self, track: Tensor) -> Tensor:
        """The log-mel frames (1, mels, n // ``HOP``) of a (n,) track, without those of the padding that the
        extractor adds: where they stand, Whisper writes what nobody said.
        """
        parameter = next(self.model.parameters())
        # Silence behind the end for the last frames to see, which else see the end mirrored.
        ended = torch.nn.functional.pad(track, (0, 2 * HOP + RATE // 40)).numpy()
        frames = self.features(
            ended, sampling_rate=RATE, truncation=False, padding="longest", return_tensors="pt"
        )["input_features"]
        features: Tensor = frames[..., : max(1, len(track) // HOP)].to(parameter.device, parameter.dtype)
        return features

    def _segments(
        self, track: Tensor, settings: dict[str, Any], progress: Progress
    ) -> list[tuple[float, float, Tensor]]:
        """(start, end, tokens) in seconds of the track."""
        settings = dict(settings)
        # Newer transformers tell how far they are.
        if "monitor_progress" in inspect.signature(self.model.generate).parameters:
            settings["monitor_progress"] = lambda seek: progress(float(seek[0, 0]) / 100)
        frames = self._features(track)
        mask = torch.ones_like(frames[:, 0], dtype=torch.long)
        generated = self.model.generate(frames, attention_mask=mask, **settings)
        parts = generated["segments"][0]
        times = [(float(part["start"]), float(part["end"]), part["tokens"]) for part in parts]
        return [part for part in times if part[0] < len(track) / RATE]

    def _text(self, tokens: Tensor) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def load_whisper(folder: str | Path) -> SpeechModel:
    """A transformers folder. Raises ValueError that names it, what was found and what was expected."""
    folder = Path(folder)
    what = KIND.types[type_of(folder, KIND)]
    # The output layer shares the token table's weights.
    make = of_transformers("WhisperForConditionalGeneration")
    model = load_whole(make, folder, what, lambda k: k.startswith("proj_out"))
    extractor = of_transformers("WhisperFeatureExtractor")
    with loading(folder, what):
        features = extractor.from_pretrained(folder, **LOCAL)
    return TransformersWhisper(model, features, load_tokenizer(folder, what))
