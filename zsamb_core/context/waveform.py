"""Sound as models want it: mono, at their sample rate, in windows. Waveforms are fp32 in -1..1."""

from typing import NamedTuple

import torch
from torch import Tensor

from .resampling import LARGEST_TERM, resample

# In dB. The floor of a recording lies so far below its loudest moment, since the models hear speech that is
# quiet for people; and never below so much of full scale, where there is the noise of 16 bit and sound cards.
RANGE, LOWEST = 60.0, -80.0
FRAME = 0.05  # seconds over which loudness is taken
LARGEST = 100.0  # of a sample: 40 dB beyond full scale
# Of the power that unrelated channels leave when they are averaged; with less they cancel each other.
CANCELLED = 0.1


class Track(NamedTuple):
    """One recording: (n,) samples, and what to say of how they were got."""

    sound: Tensor
    notes: tuple[str, ...] = ()


def tracks(waveform: Tensor, sample_rate: int, rate: int) -> list[Track]:
    """(batch, channels, n) at ``sample_rate`` Hz to one mono (m,) at ``rate`` Hz each, on the CPU; none of
    either are tracks of no samples. Raises ValueError for another shape, and for samples that are no numbers
    or no sound's.
    """
    if waveform.ndim != 3 or waveform.shape[0] < 1 or waveform.shape[1] < 1:
        raise ValueError(
            f"audio has the shape {tuple(waveform.shape)}, expected (batch, channels, samples) with one of"
            " the first two at least"
        )
    if waveform.shape[2] < 1:
        return [Track(torch.zeros(0)) for _ in waveform]
    if not 1 <= sample_rate <= LARGEST_TERM * rate:
        raise ValueError(
            f"audio has a sample rate of {sample_rate} Hz, expected a positive one up to"
            f" {LARGEST_TERM * rate}"
        )
    sound = waveform.detach().cpu().float()
    bad = int((~sound.isfinite()).sum())
    if bad:
        raise ValueError(
            f"audio holds {bad} samples of {sound.numel()} that are infinite or not a number, expected finite"
            " ones in -1..1. What made this sound is broken; make it again."
        )
    largest = float(sound.abs().max())
    if largest > LARGEST:
        raise ValueError(
            f"audio reaches {largest:.6g}, expected samples in -1..1. If these are integers, divide them by"
            " the largest of their kind (32768 for 16 bit)."
        )
    return [Track(resample(mono, sample_rate, rate), notes) for mono, notes in map(mixed, sound)]


def mixed(channels: Tensor) -> Track:
    """(channels, n) averaged; or the loudest channel where the average would cancel what is heard, as of a
    stereo pair with one side inverted.
    """
    mean = channels.mean(0)
    powers = channels.square().mean(1)
    if mean.square().mean() >= CANCELLED * powers.sum() / len(powers) ** 2:
        return Track(mean)
    loudest = int(powers.argmax())
    note = f"the channels cancel each other (one is inverted?): channel {loudest + 1} is heard alone"
    return Track(channels[loudest], (note,))


def levels(track: Tensor, rate: int) -> Tensor:
    """dB of full scale of each ``FRAME``, by its root mean square; what is left at the end counts as a frame
    of its own length. A full-scale sine has -3, nothing -200.
    """
    size = max(1, round(rate * FRAME))
    padded = torch.nn.functional.pad(track, (0, -len(track) % size))
    powers = padded.view(-1, size).square().sum(1)
    lengths = torch.full_like(powers, size)
    if len(powers):
        lengths[-1] = len(track) - size * (len(powers) - 1)
    return 10 * (powers / lengths).clamp_min(1e-20).log10()


def loudness(track: Tensor, rate: int) -> float:
    """dB of full scale of the loudest ``FRAME``."""
    return float(levels(track, rate).max()) if len(track) else -200.0


def floor_of(track: Tensor, rate: int) -> float:
    """dB of full scale below which nothing of this track is to be heard."""
    return max(LOWEST, loudness(track, rate) - RANGE)


def first_sound(track: Tensor, rate: int) -> int:
    """The sample from which on there is something to hear: 0 for a track of silence."""
    heard = levels(track, rate) >= floor_of(track, rate)
    return int(heard.int().argmax()) * max(1, round(rate * FRAME)) if heard.any() else 0


def silence(track: Tensor, rate: int) -> str | None:
    """What to say of a track with nothing to hear; None for another."""
    if not len(track):
        return "nothing to hear: there is no sound, as of a video without a sound track"
    loudest = loudness(track, rate)
    if loudest >= LOWEST:
        return None
    return f"nothing to hear: the loudest moment is at {loudest:.0f} dB, below {LOWEST:.0f}"


def windows(track: Tensor, size: int) -> list[Tensor]:
    """Pieces of ``size`` samples that cover the track, the last one reaching back from its end; a track no
    longer than that is one piece as it is.
    """
    if len(track) <= size:
        return [track]
    starts = list(range(0, len(track) - size, size)) + [len(track) - size]
    return [track[start : start + size] for start in starts]
