"""What the style nodes ask of the attention layers, as one immutable value per model clone."""

import math
from dataclasses import dataclass, replace

from .reference import StyleReference


@dataclass(frozen=True)
class AdaIN:
    """Which projections take the reference's statistics, and how far (0 to 1)."""

    queries: bool = True
    keys: bool = True
    strength: float = 1.0

    @property
    def active(self) -> bool:
        return self.strength > 0 and (self.queries or self.keys)


@dataclass(frozen=True)
class Share:
    """Attention to the reference's tokens: their mass (0 to 1 times), logit shift and logit scale."""

    strength: float = 1.0
    shift: float = 0.0
    scale: float = 1.0

    @property
    def logit_shift(self) -> float:
        """``shift + ln strength``: mass is multiplied by adding its logarithm to the logits."""
        return self.shift + math.log(self.strength)


@dataclass(frozen=True)
class StyleOptions:
    """The whole request. ``adain`` left at None follows ``share``: the published method uses both at once.

    Without a reference the first image of the batch is the reference.
    """

    share: Share | None = None
    adain: AdaIN | None = None
    reference: StyleReference | None = None

    def resolved(self) -> "StyleOptions":
        """With the default AdaIN filled in, and parts that do nothing dropped."""
        share = self.share if self.share is not None and self.share.strength > 0 else None
        adain = self.adain
        if adain is None and self.share is not None:
            adain = AdaIN(strength=self.share.strength)
        return replace(self, share=share, adain=adain if adain is not None and adain.active else None)

    @property
    def active(self) -> bool:
        resolved = self.resolved()
        return resolved.share is not None or resolved.adain is not None
