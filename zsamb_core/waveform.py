"""Sound as models want it: mono, at their sample rate, in windows. Waveforms are fp32 in -1..1."""

from fractions import Fraction

import torch
from torch import Tensor

FLOOR = -60.0  # dB of full scale, below which a recording holds nothing to hear
FRAME = 0.05  # seconds over which loudness is taken


def tracks(waveform: Tensor, sample_rate: int, rate: int) -> list[Tensor]:
    """(batch, channels, n) at ``sample_rate`` Hz to one mono (m,) at ``rate`` Hz each, on the CPU. Raises
    ValueError for another shape, for no samples, and for samples that are no numbers.
    """
    if waveform.ndim != 3 or waveform.shape[0] < 1 or waveform.shape[1] < 1:
        raise ValueError(
            f"audio has the shape {tuple(waveform.shape)}, expected (batch, channels, samples) with one of"
            " each at least"
        )
    if waveform.shape[2] < 1:
        raise ValueError("audio is empty (0 samples), expected sound. Look whether the file can be played.")
    if sample_rate < 1:
        raise ValueError(f"audio has a sample rate of {sample_rate} Hz, expected a positive one")
    sound = waveform.detach().cpu().float()
    bad = int((~sound.isfinite()).sum())
    if bad:
        raise ValueError(
            f"audio holds {bad} samples of {sound.numel()} that are infinite or not a number, expected finite"
            " ones in -1..1. What made this sound is broken; make it again."
        )
    mixed = sound.mean(1)
    if sample_rate != rate:
        import torchaudio

        # The filter bank grows with the terms of the ratio, to gigabytes for rates such as 44101 Hz; a pitch
        # off by a millionth is not heard.
        ratio = Fraction(rate, sample_rate).limit_denominator(1000)
        mixed = torchaudio.functional.resample(mixed, ratio.denominator, ratio.numerator)
    return list(mixed)


def loudness(track: Tensor, rate: int) -> float:
    """dB of full scale: the root mean square of the loudest ``FRAME``. A full-scale sine has -3."""
    size = max(1, round(rate * FRAME))
    padded = torch.nn.functional.pad(track, (0, -len(track) % size))
    # What is left of the last frame counts as a frame of its own length.
    powers = padded.view(-1, size).square().sum(1)
    lengths = torch.full_like(powers, size)
    lengths[-1] = len(track) - size * (len(powers) - 1)
    return float(10 * (powers / lengths).max().clamp_min(1e-20).log10())


def is_silent(track: Tensor, rate: int) -> bool:
    return silence(track, rate) is not None


def silence(track: Tensor, rate: int) -> str | None:
    """What to say of a track with nothing to hear; None for another."""
    loudest = loudness(track, rate)
    if loudest >= FLOOR:
        return None
    return f"nothing to hear: the loudest moment is at {loudest:.0f} dB, below {FLOOR:.0f}"


def windows(track: Tensor, size: int) -> list[Tensor]:
    """Pieces of ``size`` samples that cover the track, the last one reaching back from its end; a track no
    longer than that is one piece as it is.
    """
    if len(track) <= size:
        return [track]
    starts = list(range(0, len(track) - size, size)) + [len(track) - size]
    return [track[start : start + size] for start in starts]
