"""OpenAI's checkpoints by the openai-whisper package, against its own transcribe."""

import importlib
import itertools
import json

import pytest
import torch
import whisper

from zsamb_core.context import openai_whisper, speech
from zsamb_core.context.openai_whisper import load_openai_whisper
from zsamb_core.context.speech import LANGUAGES, RATE, audible, load_whisper, transcribe
from zsamb_core.context.waveform import floor_of

MULTILINGUAL, ENGLISH = 51865, 51864
ALL, TWO = speech.TEMPERATURES, (0.0, 0.4)


@pytest.fixture(autouse=True)
def two_temperatures(monkeypatch):
    """A random model is never sure, and would go through all six at every window: one test has all."""
    set_temperatures(monkeypatch, TWO)


def set_temperatures(monkeypatch, temperatures, context=None):
    """``context``: of the pack as the host has it, where it is not ours."""
    names = ("openai_whisper", "speech")
    ours = (openai_whisper, speech)
    # The pack imports the first when a model of OpenAI's is loaded.
    theirs = context and [importlib.import_module(f"{context.__name__}.{name}") for name in names]
    for module in theirs or ours:
        monkeypatch.setattr(module, "TEMPERATURES", temperatures)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("openai")


def save(path, vocabulary=MULTILINGUAL):
    """A tiny checkpoint with random weights, in OpenAI's format."""
    dims = {
        "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 2,
        "n_vocab": vocabulary, "n_text_ctx": 64, "n_text_state": 64, "n_text_head": 2, "n_text_layer": 2,
    }  # fmt: skip
    torch.manual_seed(0)
    model = whisper.Whisper(whisper.ModelDimensions(**dims))
    with torch.no_grad():
        model.decoder.token_embedding.weight.mul_(0.3)  # so that it is less sure of itself
        model.decoder.positional_embedding.normal_(std=0.02)  # the package leaves it as memory was
    torch.save({"dims": dims, "model_state_dict": model.state_dict()}, path)
    return path


@pytest.fixture(scope="module")
def tiny(folder):
    return save(folder / "tiny.pt")


def nothing(*_):
    pass


def sound(seconds, seed=0):
    return torch.randn(round(seconds * RATE), generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize(
    "seconds, language, translate, temperatures",
    [(2, None, False, TWO), (2, "it", True, ALL), (40, None, False, TWO), (40, "it", True, TWO)],
)
def test_transcripts_are_the_package_s_own(tiny, monkeypatch, seconds, language, translate, temperatures):
    set_temperatures(monkeypatch, temperatures)
    track, progress = sound(seconds), []
    ours = transcribe(load_openai_whisper(tiny), track, language, translate, nothing, progress.append)
    package = whisper.load_model(str(tiny), device="cpu")
    torch.manual_seed(0)
    theirs = package.transcribe(
        track,
        language=language,
        task="translate" if translate else "transcribe",
        temperature=temperatures,
        condition_on_previous_text=False,
        fp16=False,
    )
    floor = floor_of(track, RATE)
    segments = [s for s in theirs["segments"] if audible(track, s["start"], s["end"], floor)]
    assert ours.text == " ".join("".join(s["text"] for s in segments).split())
    assert ours.language == (theirs["language"] if ours.text else language)
    assert ours.segments == [
        {"start": s["start"], "end": min(s["end"], seconds), "text": s["text"].strip()} for s in segments
    ]
    hot = any(s["temperature"] > 0 for s in theirs["segments"])
    assert not hot or any("was sampled anew" in warning for warning in ours.warnings)
    assert progress[0] == 0 and progress == sorted(progress)
    assert ours.text or "no speech was found" in ours.warnings


def test_what_is_encoded_is_not_encoded_again(tiny, monkeypatch):
    """A hotter temperature takes what the encoder made of the window."""
    model = load_openai_whisper(tiny)
    windows = []
    model.model.encoder.conv1.register_forward_hook(lambda _, args, __: windows.append(args[0].clone()))
    transcript = transcribe(model, sound(40), "it", True, nothing, nothing)
    assert any("was sampled anew" in warning for warning in transcript.warnings)
    assert len(windows) > 1 and all(not torch.equal(a, b) for a, b in itertools.pairwise(windows))


def test_the_language_is_that_of_what_is_heard_not_of_the_silence_before(tiny):
    """32 s of nothing, then a recording: the language of that alone."""
    model = load_openai_whisper(tiny)
    _, likely = model.model.detect_language(
        whisper.pad_or_trim(whisper.log_mel_spectrogram(sound(4), 80, padding=30 * RATE), 3000)
    )
    transcript = model.heard(torch.cat([torch.zeros(32 * RATE), sound(4)]), None, False, nothing, nothing)
    assert transcript.language == max(likely, key=likely.get)


def test_some_words_are_found(tiny):
    """So that the comparison above is not of two nothings."""
    assert transcribe(load_openai_whisper(tiny), sound(40), "it", True, nothing, nothing).text


def test_languages_silence_and_interrupt(tiny, folder):
    model = load_openai_whisper(tiny)
    assert set(model.languages) == set(LANGUAGES) - {"yue"}  # which large-v3 has
    with pytest.raises(ValueError, match="does not know the language 'yue'"):
        transcribe(model, sound(2), "yue", False, nothing, nothing)
    silent = transcribe(model, torch.zeros(RATE), None, False, nothing, nothing)
    assert silent.text == "" and "nothing to hear" in silent.warnings[0]
    english = load_openai_whisper(save(folder / "tiny.en.pt", ENGLISH))
    assert (
        english.languages == []
        and transcribe(english, sound(2), None, False, nothing, nothing).language == "en"
    )
    with pytest.raises(ValueError, match="knows English alone"):
        transcribe(english, sound(2), "it", False, nothing, nothing)

    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        transcribe(model, sound(2), "en", False, stop, nothing)


def test_files_that_are_not_what_they_should_be(tiny, tmp_path):
    good = torch.load(tiny, weights_only=True)
    cases = {
        "dims.pt": {"model_state_dict": good["model_state_dict"]},
        "state.pt": {"dims": good["dims"]},
        "list.pt": [1, 2],
    }
    for name, value in cases.items():
        torch.save(value, tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is no Whisper checkpoint of OpenAI's"):
            load_openai_whisper(tmp_path / name)
    torch.save({**good, "dims": {**good["dims"], "n_text_layer": 3}}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="other.pt cannot be loaded by openai-whisper"):
        load_openai_whisper(tmp_path / "other.pt")
    (tmp_path / "cut.pt").write_bytes(tiny.read_bytes()[:1000])
    with pytest.raises(ValueError, match="cut.pt is no Whisper"):
        load_openai_whisper(tmp_path / "cut.pt")


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    import os

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"dims": {}, "model_state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="trap.pt is no Whisper"):
        load_openai_whisper(tmp_path / "trap.pt")
    assert not (tmp_path / "ran").exists()


def test_the_format_decides_in_the_node(pack, models_in, tiny, monkeypatch):
    """A file and a folder in the same list, each by its own package, through the nodes."""
    set_temperatures(monkeypatch, TWO, pack.zsamb_core.context)
    from tools.hosting.tiny_models import save_whisper

    (models_in / "whisper" / "tiny.pt").write_bytes(tiny.read_bytes())
    save_whisper(models_in / "transformers" / "openai" / "tiny")
    loader, node = pack.nodes.context_models.LoadSpeechModel, pack.nodes.describe.TranscribeSpeech
    assert loader.define_schema().inputs[0].options == ["openai/whisper-small", "openai/tiny", "tiny.pt"]
    audio = {"waveform": sound(3)[None, None].repeat(1, 2, 1), "sample_rate": RATE}
    for name, load in (("tiny.pt", load_openai_whisper), ("openai/tiny", load_whisper)):
        with torch.inference_mode():
            (model,) = loader.execute(name).result
            text, report = node.execute(model, audio, "it", False).result
        folder = models_in / ("whisper" if name.endswith(".pt") else "transformers") / name
        assert text == transcribe(load(folder), sound(3), "it", False, nothing, nothing).text
        assert json.loads(report)["model"] == name
