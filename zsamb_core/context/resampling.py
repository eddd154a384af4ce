"""Another sample rate by windowed sinc, in torch alone: ComfyUI no longer brings torchaudio.

The filter is torchaudio's default, so that sounds are the same with either: a sinc cut off at 0.99 of the
lower Nyquist frequency, seen through a Hann window of six zero crossings to each side.
"""

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

ROLLOFF, CROSSINGS = 0.99, 6
# The filter bank grows with the terms of the ratio, to gigabytes for rates such as 44101 Hz; a pitch off by a
# millionth is not heard.
LARGEST_TERM = 1000


def resample(sound: Tensor, sample_rate: int, rate: int) -> Tensor:
    """(..., n) in fp32 at ``sample_rate`` Hz to (..., ceil(n * rate / sample_rate)) at ``rate`` Hz, which is
    at least a thousandth of the former.

    y[m] = sum over n of x[n] h(m / rate - n / sample_rate) / sample_rate, with h the low-pass filter. How an
    output lies between the inputs around it comes round after ``rate`` outputs (with both rates divided by
    what they share), so that many filters do: a convolution with a step of ``sample_rate`` makes one output
    of each (a polyphase filter).
    """
    ratio = Fraction(rate, sample_rate).limit_denominator(LARGEST_TERM)
    if ratio == 1:
        return sound
    step, phases = ratio.denominator, ratio.numerator
    bank, reach = _bank(step, phases)
    flat = sound.reshape(-1, 1, sound.shape[-1])
    padded = torch.nn.functional.pad(flat, (reach, reach + step))
    outputs = torch.nn.functional.conv1d(padded, bank.to(sound), stride=step)
    length = math.ceil(sound.shape[-1] * phases / step)
    return outputs.transpose(1, 2).reshape(*sound.shape[:-1], -1)[..., :length]


@lru_cache(maxsize=4)
def _bank(step: int, phases: int) -> tuple[Tensor, int]:
    """((phases, 1, taps), how many inputs before its own the first tap takes) for ``phases`` outputs from
    every ``step`` inputs.
    """
    cutoff = ROLLOFF * min(step, phases) / step  # of the input's Nyquist frequency
    reach = math.ceil(CROSSINGS / cutoff)
    # In fp64: times of a thousandth of a sample matter.
    taps = torch.arange(-reach, reach + step, dtype=torch.float64)
    times = torch.arange(phases, dtype=torch.float64)[:, None] * step / phases - taps
    crossings = (times * cutoff).clamp(-CROSSINGS, CROSSINGS)
    window = torch.cos(crossings * math.pi / 2 / CROSSINGS).square()
    return (cutoff * torch.sinc(crossings) * window).float()[:, None], reach
