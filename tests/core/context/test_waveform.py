"""Sound of any rate, channels and length as models want it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsamb_core.context.waveform import LOWEST, first_sound, floor_of, loudness, silence, tracks, windows


def sine(hertz, seconds, rate, level=0.5):
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("wanted", [16_000, 48_000])
def test_a_tone_stays_the_tone(rate, wanted):
    ((track, notes),) = tracks(sine(440, 2, rate)[None, None], rate, wanted)
    assert len(track) == 2 * wanted and track.dtype == torch.float32 and not notes
    middle = slice(wanted // 10, -wanted // 10)  # a filter rings at the ends
    assert (track[middle] - sine(440, 2, wanted)[middle]).abs().max() < 0.01


def test_odd_rates_need_little_memory_and_keep_the_tone():
    """44 101 and 48 000 have no common divisor: an exact filter bank would fill gigabytes."""
    ((track, _),) = tracks(sine(440, 2, 44_101)[None, None], 44_101, 48_000)
    assert abs(len(track) - 96_000) < 2
    assert (track[9600:86_400] - sine(440, 2, 48_000)[9600:86_400]).abs().max() < 0.02


def test_channels_are_averaged_and_recordings_kept_apart():
    a, b = sine(300, 1, 16_000), sine(500, 1, 16_000)
    recordings = tracks(torch.stack([torch.stack([a, b]), torch.stack([b, b])]), 16_000, 16_000)
    assert torch.allclose(recordings[0].sound, (a + b) / 2) and torch.equal(recordings[1].sound, b)
    assert tracks(a.double()[None, None], 16_000, 16_000)[0].sound.dtype == torch.float32


@pytest.mark.parametrize("dirt", [0.0, 0.002])
def test_channels_that_cancel_each_other_are_heard(dirt):
    """Stereo with one side inverted, the other as it is or nearly so."""
    speech = sine(300, 1, 16_000)
    noise = dirt * torch.randn(2, 16_000, generator=torch.Generator().manual_seed(0))
    pair = torch.stack([speech, -0.9 * speech]) + noise
    ((track, notes),) = tracks(pair[None], 16_000, 16_000)
    assert (
        torch.equal(track, pair[0]) and "channels cancel each other" in notes[0] and "channel 1" in notes[0]
    )
    # Not so one voice in one channel of six, nor unrelated channels, nor silence.
    six = torch.zeros(6, 16_000)
    six[2] = speech
    others = torch.stack([speech, sine(310, 1, 16_000)])
    for channels in (six, others, torch.zeros(2, 16_000)):
        ((track, notes),) = tracks(channels[None], 16_000, 16_000)
        assert torch.allclose(track, channels.mean(0)) and not notes


@pytest.mark.parametrize("share, alone", [(0.5, False), (0.7, True)])
def test_channels_cancel_where_a_tenth_of_the_power_is_left(share, alone):
    """Of what unrelated ones would leave: half inverted they leave a fifth, at seven tenths a sixteenth."""
    speech = sine(300, 1, 16_000)
    pair = torch.stack([speech, -share * speech])
    ((track, notes),) = tracks(pair[None], 16_000, 16_000)
    assert torch.allclose(track, speech if alone else pair.mean(0)) and bool(notes) is alone


def test_no_samples_are_silence():
    for shape in ((1, 1, 0), (2, 2, 0)):
        recordings = tracks(torch.zeros(shape), 16_000, 48_000)
        assert [len(sound) for sound, _ in recordings] == [0] * shape[0]
        assert "there is no sound" in silence(recordings[0].sound, 48_000)


@pytest.mark.parametrize(
    "waveform, rate, message",
    [
        (torch.zeros(100), 16_000, r"the shape \(100,\), expected \(batch, channels, samples\)"),
        (torch.zeros(0, 1, 100), 16_000, "the shape"),
        (torch.zeros(1, 0, 100), 16_000, "the shape"),
        (torch.zeros(1, 1, 100), 0, "sample rate of 0 Hz"),
        (torch.zeros(1, 1, 100), 10**9, "sample rate of 1000000000 Hz"),
        (torch.tensor([[[0.1, math.nan, math.inf]]]), 16_000, "holds 2 samples of 3 that are inf"),
        (torch.tensor([[[0.0, -23_170.0]]]), 16_000, "reaches 23170, expected samples in -1..1.*32768"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(waveform, rate, message):
    with pytest.raises(ValueError, match=message):
        tracks(waveform, rate, 16_000)


def test_loudness():
    assert loudness(sine(440, 1, 16_000, 1.0), 16_000) == pytest.approx(-3.01, abs=0.01)
    assert loudness(sine(440, 1, 16_000, 0.1), 16_000) == pytest.approx(-23.01, abs=0.01)
    # A word in a long silence is heard; a lone click of dust is not louder than its moment.
    quiet = torch.zeros(16_000 * 60)
    assert silence(quiet, 16_000) and silence(quiet + 5e-5, 16_000)
    quiet[500_000:508_000] = sine(200, 0.5, 16_000, 0.05)
    assert silence(quiet, 16_000) is None and first_sound(quiet, 16_000) == 500_000


def test_the_floor_goes_with_the_loudest_moment_and_ends():
    """What is silence beside a shout is heard where nobody shouts."""
    loud = sine(440, 1, 16_000, 1.0)
    assert floor_of(loud, 16_000) == pytest.approx(-63.01, abs=0.01)
    assert floor_of(loud / 1000, 16_000) == floor_of(torch.zeros(0), 16_000) == LOWEST
    whisper = loud * 10 ** (-70 / 20)  # at -73 dB
    assert silence(whisper, 16_000) is None and first_sound(whisper, 16_000) == 0
    assert first_sound(torch.cat([whisper, loud]), 16_000) == 16_000
    assert silence(loud * 10 ** (-78 / 20), 16_000) and first_sound(torch.zeros(9), 16_000) == 0


def test_a_sound_shorter_than_a_frame_is_heard():
    assert loudness(torch.full((3,), 0.5), 16_000) == pytest.approx(-6.02, abs=0.01)
    assert loudness(torch.cat([torch.zeros(800), torch.full((3,), 0.5)]), 16_000) == pytest.approx(
        -6.02, abs=0.01
    )


@settings(derandomize=True, max_examples=100)
@given(st.integers(1, 50), st.integers(1, 12))
def test_windows_cover_the_track(length, size):
    track = torch.arange(length)
    parts = windows(track, size)
    assert set(torch.cat(parts).tolist()) == set(range(length))
    assert all(len(part) == min(size, length) for part in parts)
    assert len(parts) == max(1, math.ceil(length / size))
