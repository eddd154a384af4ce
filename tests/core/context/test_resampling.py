"""Other sample rates, by torch alone."""

import math
from fractions import Fraction

import pytest
import torch

from tests.absent import given_back
from tests.lacking import lacking
from zsamb_core.context.resampling import LARGEST_TERM, resample

RATES = [8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000, 44_101]


def tone(hertz, seconds, rate):
    time = torch.arange(round(seconds * rate), dtype=torch.float64) / rate
    return torch.sin(2 * math.pi * hertz * time).float()


@pytest.mark.parametrize("wanted", [16_000, 48_000])
@pytest.mark.parametrize("rate", RATES)
def test_it_is_torchaudio_s(rate, wanted):
    """Noise of every frequency, two channels of two recordings."""
    with given_back():
        try:
            import torchaudio
        except Exception as error:  # of a build for another torch: what its library says
            lacking(f"torchaudio cannot be imported: {error}")
    sound = torch.rand(2, 2, 20_011, generator=torch.Generator().manual_seed(rate)) - 0.5
    ratio = Fraction(wanted, rate).limit_denominator(LARGEST_TERM)
    theirs = torchaudio.functional.resample(sound, ratio.denominator, ratio.numerator)
    ours = resample(sound, rate, wanted)
    assert ours.shape == theirs.shape and (ours - theirs).abs().max() < 1e-4


def decibels(sound):
    """Of the middle, where no filter rings at an end, against a full tone's."""
    middle = sound[len(sound) // 4 : -len(sound) // 4]
    return float(10 * (2 * middle.square().mean()).clamp_min(1e-20).log10())


@pytest.mark.parametrize("rate", [44_100, 48_000, 96_000])
def test_what_16_khz_cannot_hold_is_gone_and_the_rest_stays(rate):
    """Frequencies above 8 kHz would come back as lower ones that were not there."""
    for hertz, most in ((100, 0.01), (1000, 0.01), (4000, 0.03), (6000, 0.2)):
        sound = resample(tone(hertz, 1, rate), rate, 16_000)
        assert abs(decibels(sound)) < most
        assert (sound - tone(hertz, 1, 16_000))[4000:-4000].abs().max() < 0.02
    for hertz, most in ((9_000, -16), (10_000, -45), (12_000, -55), (15_000, -74), (20_000, -83)):
        assert decibels(resample(tone(hertz, 1, rate), rate, 16_000)) < most


def test_upwards_no_images_appear():
    """8 kHz made 16 kHz holds nothing above 4 kHz but the filter's slope."""
    sound = resample(tone(1000, 1, 8_000), 8_000, 16_000)
    spectrum = torch.fft.rfft(sound[4000:12_000] * torch.hann_window(8000)).abs()
    assert spectrum[:2000].argmax() == 500
    assert 20 * (spectrum[2500:].max() / spectrum.max()).log10() < -80


def test_lengths_and_the_same_rate():
    sound = torch.rand(3, 5)
    assert resample(sound, 16_000, 16_000) is sound
    assert resample(sound, 7, 48_000).shape == (3, math.ceil(5 * 48_000 / 7))
    assert resample(torch.rand(1), 48_000, 16_000).shape == (1,)
