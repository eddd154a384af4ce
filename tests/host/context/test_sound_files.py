"""Real sound files through the host's own loader and the nodes: rates, channels, lengths."""

import json

import numpy as np
import pytest
import torch

from tests.sounds import music, speech_file, write_wav
from zsamb_core.context.resampling import resample

pytestmark = [pytest.mark.host, pytest.mark.usefixtures("two_temperatures")]


def loaded(path):
    """The host's AUDIO of a file."""
    from comfy_extras.nodes_audio import load

    waveform, rate = load(str(path))
    return {"waveform": waveform[None], "sample_rate": rate}


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    return loaded(speech_file(tmp_path_factory.mktemp("speech") / "said.wav"))


@pytest.fixture(scope="module")
def whisper(context_models):
    return context_models["speech"]


@pytest.fixture(scope="module")
def clap(context_models):
    return context_models["music"]


def at(audio, rate, channels, folder):
    """The same sound at another rate and with so many channels, written to a file and read again."""
    moved = resample(audio["waveform"][0], audio["sample_rate"], rate)
    wide = moved.mean(0, keepdim=True).repeat(channels, 1)
    return loaded(write_wav(folder / f"{rate}.wav", wide.numpy(), rate))


def features(model, audio, pack):
    """Whisper's log-mel input, where there is speech."""
    ((track, _),) = pack.nodes._host.context.models.tracks_of(audio, 16_000)
    inputs = model.model.features(track.numpy(), sampling_rate=16_000, return_tensors="pt")
    return inputs["input_features"][0][:, : len(track) // 160]


@pytest.mark.parametrize("rate, channels", [(8_000, 1), (16_000, 1), (44_100, 2), (48_000, 2)])
def test_speech_is_the_same_at_every_rate(pack, whisper, spoken, tmp_path, rate, channels):
    audio = at(spoken, rate, channels, tmp_path)
    assert audio["sample_rate"] == rate and audio["waveform"].shape[1] == channels
    a, b = features(whisper, spoken, pack), features(whisper, audio, pack)
    # 8 kHz holds nothing above 4 kHz: compare the mel bands below it.
    frames, bands = min(a.shape[1], b.shape[1]), 52 if rate == 8_000 else 74
    a, b = a[:bands, :frames].flatten(), b[:bands, :frames].flatten()
    assert torch.corrcoef(torch.stack([a, b]))[0, 1] > 0.98
    node = pack.nodes.describe.TranscribeSpeech
    text, report = node.execute(whisper, audio, "en", False).result
    (recording,) = json.loads(report)["recordings"]
    assert recording["text"] == text and bool(text) == ("no speech was found" not in recording["warnings"])


def test_ten_minutes_of_speech_are_heard_to_the_end(pack, whisper, spoken, tmp_path, monkeypatch):
    monkeypatch.setattr(pack.zsamb_core.context.speech, "TEMPERATURES", (0.0,))
    one = spoken["waveform"][0]
    long = one.repeat(1, 1 + 600 * spoken["sample_rate"] // one.shape[1])
    path = write_wav(tmp_path / "long.wav", long.numpy(), spoken["sample_rate"])
    audio = loaded(path)
    seconds = audio["waveform"].shape[2] / audio["sample_rate"]
    assert seconds > 600
    text, report = pack.nodes.describe.TranscribeSpeech.execute(whisper, audio, "en", False).result
    (recording,) = json.loads(report)["recordings"]
    starts = [segment["start"] for segment in recording["segments"]]
    assert "\n" not in text and starts and max(starts) > 540 and max(starts) < seconds
    assert starts[0] < 60


def test_music_is_the_same_at_every_rate_and_in_stereo(pack, clap, tmp_path):
    whole = {"waveform": torch.from_numpy(music(25, 48_000)).float()[None], "sample_rate": 48_000}
    embeds = []
    for rate, channels in ((48_000, 2), (44_100, 2), (32_000, 1)):
        audio = at(whole, rate, channels, tmp_path)
        ((track, _),) = pack.nodes._host.context.models.tracks_of(audio, clap.model.rate)
        embeds.append(torch.stack(list(pack.zsamb_core.context.music.embed_track(clap.model, track))).mean(0))
        text, genre, report = pack.nodes.describe.DescribeMusic.execute(clap, audio, "mood, genre", 2).result
        assert text.startswith("The atmosphere is ") and genre in text
    others = [pack.zsamb_core.scores.measures.cosines(embeds[0][None], e[None]).item() for e in embeds[1:]]
    assert min(others) > 0.995


def test_a_file_of_nothing(pack, whisper, tmp_path):
    """The host's loader refuses a file without samples; one of silence is "" and a warning."""
    with pytest.raises(ValueError, match="No audio frames decoded"):
        loaded(write_wav(tmp_path / "empty.wav", np.zeros((1, 0)), 16_000))
    audio = loaded(write_wav(tmp_path / "silent.wav", np.zeros((2, 480_000)), 48_000))
    text, report = pack.nodes.describe.TranscribeSpeech.execute(whisper, audio, "auto", True).result
    assert text == "" and "nothing to hear" in json.loads(report)["recordings"][0]["warnings"][0]
