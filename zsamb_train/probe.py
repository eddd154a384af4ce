"""How much style and how much content an adapter uses, without sampling.

The noise-prediction loss hides it: noise and noise level decide most of that. Here pictures, noise and levels
are fixed, and only the style picture changes: none, the picture itself, another one of its style group. The
error that the other one saves against none is what style gives; what the picture itself saves beyond that
only its content can give.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from .batch import Batch
from .host import Host
from .recipe import errors, noised

LEVELS = (950, 850, 700, 500, 300)  # steps of the schedule
AT_ONCE = 16
NOISE = 20_261  # seeds the fixed noise
# What the UNet is called with for the features of some pictures; without, it draws without the adapter.
Options = Callable[[torch.Tensor], dict[str, Any]]


@dataclass(frozen=True)
class Gains:
    """Means over pictures and levels, and standard errors over pictures. ``style`` is None where no picture
    has another one of its style group; then ``content`` is all that the picture itself saves.
    """

    style: float | None
    style_error: float | None
    content: float
    content_error: float

    def __str__(self) -> str:
        content = f"{self.content:.4f} +- {self.content_error:.4f}"
        if self.style is None:
            return f"the picture itself saves {content}"
        return f"style {self.style:.4f} +- {self.style_error:.4f}, content {content}"


@dataclass(frozen=True)
class Probe:
    """``batch``: pictures with their own features; ``others`` (n, ...): features of another one of the style
    group, or None; ``blank`` (1, ...): of no image.
    """

    host: Host
    batch: Batch
    others: torch.Tensor | None
    blank: torch.Tensor

    @torch.no_grad()
    def measure(self, options: Options) -> Gains:
        """Three times as many calls of the UNet as there are levels, for each ``AT_ONCE`` pictures."""
        itself = self.errors(self.batch.features, options)
        none = self.errors(self.blank.expand_as(self.batch.features), options)
        if self.others is None:
            return Gains(None, None, *mean_and_error(none - itself))
        other = self.errors(self.others, options)
        return Gains(*mean_and_error(none - other), *mean_and_error(other - itself))

    def errors(self, features: torch.Tensor, options: Options) -> torch.Tensor:
        """(n,): the mean over the levels for each picture."""
        parts = [
            self.part(self.batch.part(i, i + AT_ONCE), features[i : i + AT_ONCE], options)
            for i in range(0, len(self.batch), AT_ONCE)
        ]
        return torch.cat(parts)

    def part(self, batch: Batch, features: torch.Tensor, options: Options) -> torch.Tensor:
        host, device = self.host, self.host.device
        context, pooled = host.read_texts(batch.captions)
        y = host.describe_sizes(pooled, batch.sizes, batch.crops, batch.targets)
        latents, alphas, out = batch.latents.to(device), host.alphas(), []
        for level in LEVELS:
            noise = torch.stack([fixed_noise(place, level, latents.shape[1:]) for place in batch.places])
            a = alphas[level].expand(len(batch)).to(device)
            x, wanted = noised(latents, noise.to(device), a, host.velocity)
            t = torch.full((len(batch),), float(level), device=device)
            said = host.predict(x, t, context, y, options(features.to(device)))
            out.append(errors(said, wanted).cpu())
        return torch.stack(out).mean(0)


def fixed_noise(place: int, level: int, shape: Sequence[int]) -> torch.Tensor:
    generator = torch.Generator().manual_seed(NOISE + 1000 * place + level)
    return torch.randn(tuple(shape), generator=generator)


def mean_and_error(values: torch.Tensor) -> tuple[float, float]:
    values = values.double()
    error = float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), error
