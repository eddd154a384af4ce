"""What the style nodes ask of the attention layers, as one immutable value per model clone."""

import math
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..layers import Layer
from ..messages import quoted
from .reference import StyleReference

# (score shift, score scale) as StyleAligned's authors set them, by picture.
PRESETS = {
    "normal": (math.log(2), 1.0),
    "famous": (0.0, 0.5),
    "none": (0.0, 1.0),
}


def authors_preset(reference: bool) -> str:
    """Of their notebooks: for a picture from outside as the reference, and for sets from prompts alone, with
    a ControlNet or without.
    """
    return "normal" if reference else "none"


GROUP_NORMS = ("auto", "on", "off")


def shares_group_norms(choice: str | bool, reference: bool) -> bool:
    """What a choice of GROUP_NORMS means, with a ``reference`` or without. auto is as the authors have it: on
    in their notebook for a picture from outside, off in those for sets from prompts alone. True and False are
    on and off. Raises ValueError for anything else.
    """
    if isinstance(choice, bool):
        return choice
    if choice not in GROUP_NORMS:
        raise ValueError(f"share_group_norm is {quoted(choice)}, expected {', '.join(GROUP_NORMS)}.")
    return reference if choice == "auto" else choice == "on"


class AdaIN(NamedTuple):
    """Which projections take the reference's statistics, and how far (0 to 1)."""

    queries: bool = True
    keys: bool = True
    values: bool = False
    strength: float = 1.0

    @property
    def active(self) -> bool:
        return self.strength > 0 and (self.queries or self.keys or self.values)


class Share(NamedTuple):
    """Attention to other pictures' tokens.

    ``strength`` multiplies the share that they get (0 to 1); ``shift`` and ``scale`` act on the logits of a
    reference that brings none of its own. ``everyone``: every picture of the batch sees every other (the
    published full attention share); else all see the reference, the first picture where there is none.
    """

    strength: float = 1.0
    shift: float = 0.0
    scale: float = 1.0
    everyone: bool = False


@dataclass(frozen=True)
class StyleOptions:
    """The whole request. ``adain`` left at None follows ``share``: the published method uses both at once,
    but no AdaIN where everyone sees everyone.

    Without a reference the first image of the batch is the reference. ``layers`` None means all; ``start``
    and ``end`` are parts of the schedule, 0 to 1. ``control_first``: ControlNets act on that first image too;
    as published they do not. ``at_once``: so many images of a batch go through the model together, 0 for all.
    ``curve``: factors on the share's strength at even distances from ``start`` to ``end``; ``by_picture``:
    more of them, one for each image of the batch or one for all.
    """

    share: Share | None = None
    adain: AdaIN | None = None
    reference: StyleReference | None = None
    layers: frozenset[Layer] | None = None
    start: float = 0.0
    end: float = 1.0
    group_norm: bool = False
    control_first: bool = False
    at_once: int = 0
    curve: tuple[float, ...] = (1.0,)
    by_picture: tuple[float, ...] = (1.0,)

    def resolved(self, factor: float = 1.0) -> "StyleOptions":
        """With ``factor`` on the share's strength, the default AdaIN filled in, and parts that do nothing
        dropped.
        """
        strength = self.share.strength * factor if self.share is not None else 0.0
        share = self.share._replace(strength=strength) if self.share is not None and strength > 0 else None
        adain = self.adain
        if adain is None and self.share is not None and not self.share.everyone:
            adain = AdaIN(strength=strength)
        adain = adain if adain is not None and adain.active else None
        if self.layers is not None and not self.layers:
            share = adain = None
        return replace(self, share=share, adain=adain, group_norm=self.group_norm and share is not None)

    @property
    def active(self) -> bool:
        resolved = self.resolved(max(self.curve) * max(self.by_picture))
        return resolved.share is not None or resolved.adain is not None
