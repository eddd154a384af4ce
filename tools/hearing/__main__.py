"""What the speech models write on real weights, beside openai-whisper on the same: ``python -m nox -s real``.

Recordings of people reading (LibriVox, and names of playing cards), from the test data in the source package
of pocketsphinx, and espeak-ng in five languages; as they are, quiet, with silence and noise around them, and
noise alone. Prints word errors and CPU seconds, writes ``output/real/report.json``, and ends with 1 where the
pack does worse than openai-whisper.
"""

import json
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import wave
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.hearing.real_whisper import build, fetch
from zsamb_core.context import openai_whisper, speech
from zsamb_core.context.waveform import loudness, tracks

OUTPUT = Path(__file__).resolve().parents[2] / "output" / "real"
CLIPS = {"pocketsphinx==5.0.4": "17d2971e998490def9554b6ba41886708422af5b4ae888723b1b077aab0fe8d4"}
RATE = speech.RATE
SPOKEN = {
    "it": "Il vecchio guardiano del faro usciva ogni sera sulla strada e guardava il mare in silenzio.",
    "de": "Der alte Mann ging jeden Abend auf die Strasse und sah lange auf das ruhige Meer.",
    "fr": "Le vieux gardien du phare sortait chaque soir sur la route et regardait la mer en silence.",
    "es": "El viejo guardian del faro salia cada noche a la calle y miraba el mar en silencio.",
    "en": "The old keeper of the lighthouse went out on the road every evening and looked at the sea.",
}
# Word errors that the pack may have beyond openai-whisper's in all: it samples by other random numbers.
SPARE = 3


@dataclass
class Case:
    """A (n,) track and what is said in it; "" for noise."""

    name: str
    track: Tensor
    text: str
    language: str | None = None  # that must be found


def words(text: str) -> list[str]:
    return re.findall(r"\w+(?:'\w+)?", text.lower())


def errors(spoken: str, heard: str) -> int:
    """Words to replace, add and take away."""
    first, second = words(spoken), words(heard)
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        corner, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            corner, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, corner + (a != b))
    return row[-1]


def read(file: Path) -> Tensor:
    with wave.open(str(file)) as sound:
        samples = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.float32) / 32768
        channels = torch.from_numpy(samples).view(-1, sound.getnchannels()).T
        return tracks(channels[None], sound.getframerate(), RATE)[0].sound


def clips(folder: Path) -> dict[str, tuple[Tensor, str]]:
    """Recordings and what is said in them, by name: librivox/... and cards/..."""
    if not (folder / "data").is_dir():
        with tempfile.TemporaryDirectory() as work:
            (archive,) = fetch(CLIPS, Path(work), "--no-binary", ":all:", "--no-build-isolation")
            with tarfile.open(archive) as source:
                for member in source.getmembers():
                    _, _, inside = member.name.partition("/test/data/")
                    if re.fullmatch(r"(librivox|cards)/([^/]*\.wav|[a-z.]*transcription)", inside):
                        file = folder / "data" / inside
                        file.parent.mkdir(parents=True, exist_ok=True)
                        file.write_bytes(source.extractfile(member).read())
    recordings = {}
    for name in ("librivox/transcription", "cards/cards.transcription"):
        text = (folder / "data" / name).read_text()
        for sentence, key in re.findall(r"<s>\s*(.*?)\s*</s>\s*\((.*?)\)", text):
            place = name.split("/")[0]
            recordings[f"{place}/{key[-4:]}"] = read(folder / "data" / place / f"{key}.wav"), sentence
    return recordings


def espeak(language: str) -> Tensor:
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "said.wav"
        subprocess.run(["espeak-ng", "-v", language, "-w", str(file), SPOKEN[language]], check=True)
        return read(file)


def at(track: Tensor, level: float) -> Tensor:
    """Its loudest moment at so many dB, in 16 bit."""
    louder = track * 10 ** ((level - loudness(track, RATE)) / 20)
    return (louder * 32768).round() / 32768


def noise(seconds: float, pink: bool) -> Tensor:
    white = torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(0))
    if not pink:
        return white
    waves = torch.fft.rfft(white)
    return torch.fft.irfft(waves / torch.arange(len(waves)).clamp_min(1).sqrt(), len(white))


def cases(folder: Path) -> Iterator[Case]:
    real = clips(folder)
    for name, (track, script) in real.items():
        yield Case(name, track, script, "en")
    book = [real[name] for name in real if name.startswith("librivox")]
    whole = torch.cat([part for track, _ in book for part in (track, torch.zeros(RATE // 4))])
    script = " ".join(text for _, text in book)
    for level in (-40, -55, -59, -61, -70):
        yield Case(f"librivox at {level} dB", at(whole, level), script, "en")
    one, words_of_one = book[0]
    silence = torch.zeros(32 * RATE)
    yield Case("librivox, 32 s silence", torch.cat([one, silence]), words_of_one, "en")
    yield Case("32 s silence, librivox", torch.cat([silence, one]), words_of_one, "en")
    room = at(noise(15, False), -60)
    yield Case("librivox, room, again", torch.cat([one, room, one]), f"{words_of_one} {words_of_one}", "en")
    for language in SPOKEN:
        yield Case(f"espeak {language}", espeak(language), SPOKEN[language], language)
    yield Case("32 s silence, espeak it", torch.cat([silence, espeak("it")]), SPOKEN["it"], "it")
    for pink, level in ((True, -20), (True, -50), (False, -20), (False, -61), (False, -70)):
        yield Case(f"{'pink' if pink else 'white'} noise at {level} dB", at(noise(20, pink), level), "")


def nothing(*_) -> None:
    pass


def timed(work) -> tuple[str, str | None, float]:
    start = time.process_time()
    text, language = work()
    return " ".join(text.split()), language, time.process_time() - start


def main() -> int:
    import whisper

    folder, file = build(OUTPUT)
    models = {"folder": speech.load_whisper(folder), ".pt": openai_whisper.load_openai_whisper(file)}
    theirs = whisper.load_model(str(file), device="cpu")

    def package(track: Tensor) -> tuple[str, str]:
        torch.manual_seed(0)
        result = theirs.transcribe(track.numpy(), condition_on_previous_text=False, fp16=False)
        return result["text"], result["language"]

    def pack(model, track: Tensor) -> tuple[str, str | None]:
        result = speech.transcribe(model, track, None, False, nothing, nothing)
        return result.text, result.language

    report, wrong = [], []
    print(f"{'':28}{'words':>6}{'folder':>8}{'.pt':>6}{'openai-whisper':>16}   same   CPU seconds")
    for case in cases(OUTPUT):
        heard = {name: timed(lambda m=m, c=case: pack(m, c.track)) for name, m in models.items()}
        heard["openai-whisper"] = timed(lambda c=case: package(c.track))
        row = {name: errors(case.text, text) for name, (text, _, _) in heard.items()}
        same = heard["folder"][0] == heard["openai-whisper"][0]
        times = "/".join(f"{seconds:.1f}" for *_, seconds in heard.values())
        print(f"{case.name:28}{len(words(case.text)):6}{row['folder']:8}{row['.pt']:6}"
              f"{row['openai-whisper']:16}   {'yes' if same else 'no':7}{times}", flush=True)  # fmt: skip
        report.append({"case": case.name, "words": len(words(case.text)), "errors": row, "heard": heard})
        for name in models:
            if not case.text and heard[name][0]:
                wrong.append(f"{case.name}, {name}: {heard[name][0]!r} out of noise")
            # Of the synthetic French, openai-whisper too says that it is Thai.
            if case.language and heard[name][1] not in (case.language, heard["openai-whisper"][1]):
                wrong.append(f"{case.name}, {name}: the language is {heard[name][1]}, not {case.language}")
    total = {name: sum(row["errors"][name] for row in report) for name in (*models, "openai-whisper")}
    seconds = {name: sum(row["heard"][name][2] for row in report) for name in total}
    print(f"in all, of {sum(row['words'] for row in report)} words: {total}")
    print("CPU seconds:", {name: round(value) for name, value in seconds.items()})
    wrong += [
        f"{name}: {total[name]} word errors, openai-whisper {total['openai-whisper']}"
        for name in models
        if total[name] > total["openai-whisper"] + SPARE
    ]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    (OUTPUT / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
