"""What a Whisper does once for each window, and what it does again: the encoder's work, and hotter rounds."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


class Rounds:
    """Counts the rounds of each window: one, and one for each hotter temperature at which it was sampled."""

    def __init__(self) -> None:
        self._counts: list[int] = []

    def begin(self, anew: bool) -> None:
        """``anew``: the window of the round before, again."""
        if anew and self._counts:
            self._counts[-1] += 1
        else:
            self._counts.append(1)

    def notes(self) -> list[str]:
        """What to say of windows that took more than one."""
        again = [count - 1 for count in self._counts if count > 1]
        if not again:
            return []
        where = f"{len(again)} of {len(self._counts)} windows" if len(self._counts) > 1 else "the recording"
        return [
            f"the text of {where} was sampled anew (at most {max(again)} times): it was unlikely or repeated"
            " itself, as with music or noise"
        ]


class Once:
    """A function of a tensor, worked out once while it is asked for the same values again."""

    def __init__(self, work: Callable[[Tensor], Any]):
        self._work, self._input = work, torch.zeros(0)
        self._made: Any = None
        self.count = 0

    def __call__(self, value: Tensor) -> Any:
        same = value.shape == self._input.shape and value.dtype == self._input.dtype
        if not (same and torch.equal(value, self._input)):
            self._input, self._made = value, self._work(value)
            self.count += 1
        return self._made


@contextmanager
def encoding_once(encoder: torch.nn.Module) -> Iterator[Once]:
    """Within, transformers' encoder works once for a window, though ``generate`` asks it for the no-speech
    probability and at every temperature. It is as it was thereafter.
    """
    whole = encoder.forward
    once = Once(lambda features: whole(features, return_dict=True))

    def forward(input_features: Tensor, **_: Any) -> Any:
        made = once(input_features)
        return type(made)(**made)  # generate writes into what it gets

    encoder.forward = forward
    try:
        yield once
    finally:
        del encoder.forward
