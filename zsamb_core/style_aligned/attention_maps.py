"""Where pictures look at their reference: the share of attention that each token gives to it, recorded while
a set is drawn.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..layers import Block

KEPT = 8  # runs of one recording: a map takes little, a long session makes many


class AttentionMaps:
    """One run's shares of attention, of ``pictures`` pictures, by noise level and block.

    A map is (pictures, h, w) at its block's resolution: means over the heads and layers of the block. What
    was not recorded is NaN: a picture that is the reference itself looks at no other.
    """

    def __init__(self, pictures: int) -> None:
        self.pictures = pictures
        self._sums: dict[tuple[float, Block], Tensor] = {}
        self._counts: dict[tuple[float, Block], list[int]] = {}

    def buffer(self, sigma: float, block: Block, like: Tensor) -> Tensor:
        """Where `add` sums up, (pictures, h, w) fp32 on the device of ``like`` (rows, h, w). It outlives the
        model call that asks for it first.
        """
        key = (sigma, block)
        if key not in self._sums:
            shape = (self.pictures, *like.shape[1:])
            self._sums[key] = torch.zeros(shape, dtype=torch.float32, device=like.device)
            self._counts[key] = [0] * self.pictures
        return self._sums[key]

    def add(self, sigma: float, block: Block, pictures: Sequence[int], shares: Tensor) -> None:
        """One layer's ``shares`` (rows, h, w) in 0..1; row i is of the picture ``pictures[i]``."""
        into = self.buffer(sigma, block, shares)
        for row, picture in enumerate(pictures):
            into[picture] += shares[row].to(into)
            self._counts[sigma, block][picture] += 1

    def finished(self) -> "AttentionMaps":
        """With its sums off the device."""
        maps = AttentionMaps(self.pictures)
        maps._sums = {key: x.cpu() for key, x in self._sums.items()}
        maps._counts = self._counts
        return maps

    @property
    def blocks(self) -> tuple[Block, ...]:
        """That were recorded, in the order that a model call goes through them."""
        return tuple(dict.fromkeys(block for _, block in self._sums))

    def levels(self, start: float, end: float) -> tuple[float, ...]:
        """Of the recorded noise levels, from the noisiest on, those in the part from ``start`` to ``end`` (0
        to 1, ``start < end``); one at least.
        """
        levels = sorted({sigma for sigma, _ in self._sums}, reverse=True)
        first = min(int(start * len(levels)), len(levels) - 1)
        return tuple(levels[first : max(math.ceil(end * len(levels)), first + 1)])

    def mean(self, block: Block, levels: Sequence[float]) -> Tensor:
        """(pictures, h, w): the mean over the block's layers and ``levels``. A picture without any is NaN."""
        keys = [(sigma, block) for sigma in levels if (sigma, block) in self._sums]
        total = torch.stack([self._sums[key] for key in keys]).sum(0)
        count = torch.tensor([self._counts[key] for key in keys]).sum(0)
        return total / count.view(-1, 1, 1)  # 0 / 0 is NaN


class AttentionRecord:
    """The last runs of one patched model, each found again by the latent that it drew: a run that ComfyUI
    takes from its cache, or another sampler on the same model, never answers with another run's maps.
    """

    def __init__(self) -> None:
        self._runs: list[tuple[Tensor, AttentionMaps]] = []

    def __len__(self) -> int:
        return len(self._runs)

    def keep(self, drawn: Tensor, maps: AttentionMaps) -> None:
        """``drawn`` (B, C, h, w): the latent as the sampler gives it out."""
        drawn = drawn.detach().cpu().clone()
        others = [(latent, kept) for latent, kept in self._runs if not same(latent, drawn)]
        self._runs = [*others, (drawn, maps.finished())][-KEPT:]

    def of(self, drawn: Tensor) -> AttentionMaps | None:
        """The maps of the run that drew this latent; None if none of those kept did."""
        return next((maps for latent, maps in reversed(self._runs) if same(latent, drawn)), None)


def same(latent: Tensor, other: Tensor) -> bool:
    """Equal to the last bit, in the type of ``other``, which the host may have chosen."""
    return latent.shape == other.shape and torch.equal(latent.to(other), other)
