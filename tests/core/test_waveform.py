"""Sound of any rate, channels and length as models want it."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsamb_core.waveform import is_silent, loudness, tracks, windows


def sine(hertz, seconds, rate, level=0.5):
    return level * torch.sin(2 * math.pi * hertz * torch.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("wanted", [16_000, 48_000])
def test_a_tone_stays_the_tone(rate, wanted):
    (found,) = tracks(sine(440, 2, rate)[None, None], rate, wanted)
    assert len(found) == 2 * wanted and found.dtype == torch.float32
    middle = slice(wanted // 10, -wanted // 10)  # a filter rings at the ends
    assert (found[middle] - sine(440, 2, wanted)[middle]).abs().max() < 0.01


def test_odd_rates_need_little_memory_and_keep_the_tone():
    """44 101 and 48 000 have no common divisor: an exact filter bank would fill gigabytes."""
    (found,) = tracks(sine(440, 2, 44_101)[None, None], 44_101, 48_000)
    assert abs(len(found) - 96_000) < 2
    assert (found[9600:86_400] - sine(440, 2, 48_000)[9600:86_400]).abs().max() < 0.02


def test_channels_are_averaged_and_recordings_kept_apart():
    a, b = sine(300, 1, 16_000), sine(500, 1, 16_000)
    found = tracks(torch.stack([torch.stack([a, b]), torch.stack([b, b])]), 16_000, 16_000)
    assert torch.allclose(found[0], (a + b) / 2) and torch.equal(found[1], b)
    assert tracks(a.double()[None, None], 16_000, 16_000)[0].dtype == torch.float32


@pytest.mark.parametrize(
    "waveform, rate, said",
    [
        (torch.zeros(100), 16_000, r"the shape \(100,\), expected \(batch, channels, samples\)"),
        (torch.zeros(0, 1, 100), 16_000, "the shape"),
        (torch.zeros(1, 0, 100), 16_000, "the shape"),
        (torch.zeros(1, 1, 0), 16_000, "audio is empty .0 samples"),
        (torch.zeros(1, 1, 100), 0, "sample rate of 0 Hz"),
        (torch.tensor([[[0.1, math.nan, math.inf]]]), 16_000, "holds 2 samples of 3 that are inf"),
    ],
)  # fmt: skip
def test_what_is_no_sound_is_refused(waveform, rate, said):
    with pytest.raises(ValueError, match=said):
        tracks(waveform, rate, 16_000)


def test_loudness():
    assert loudness(sine(440, 1, 16_000, 1.0), 16_000) == pytest.approx(-3.01, abs=0.01)
    assert loudness(sine(440, 1, 16_000, 0.1), 16_000) == pytest.approx(-23.01, abs=0.01)
    # A word in a long silence is heard; a lone click of dust is not louder than its moment.
    quiet = torch.zeros(16_000 * 60)
    assert is_silent(quiet, 16_000) and is_silent(quiet + 1e-4, 16_000)
    quiet[500_000:508_000] = sine(200, 0.5, 16_000, 0.05)
    assert not is_silent(quiet, 16_000)


def test_a_sound_shorter_than_a_frame_is_heard():
    assert loudness(torch.full((3,), 0.5), 16_000) == pytest.approx(-6.02, abs=0.01)
    assert loudness(torch.cat([torch.zeros(800), torch.full((3,), 0.5)]), 16_000) == pytest.approx(
        -6.02, abs=0.01
    )


@settings(derandomize=True, max_examples=100)
@given(st.integers(1, 50), st.integers(1, 12))
def test_windows_cover_the_track(length, size):
    track = torch.arange(length)
    found = windows(track, size)
    assert set(torch.cat(found).tolist()) == set(range(length))
    assert all(len(part) == min(size, length) for part in found)
    assert len(found) == max(1, math.ceil(length / size))
