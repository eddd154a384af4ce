"""How much a patch counts along the sampling schedule."""

from collections.abc import Callable
from typing import NamedTuple


class Window(NamedTuple):
    """From ``start`` to ``end`` of the schedule (0 is its first step, 1 its last), a weight that follows
    ``curve``: numbers at even distances, joined by straight lines.
    """

    start: float = 0.0
    end: float = 1.0
    curve: tuple[float, ...] = (1.0,)

    def weight(self, sigma: float, percent_to_sigma: Callable[[float], float]) -> float:
        """The weight at the noise level ``sigma``, 0 outside; ``percent_to_sigma`` falls from 0 to 1."""
        if not percent_to_sigma(self.end) <= sigma <= percent_to_sigma(self.start):
            return 0.0
        if len(set(self.curve)) == 1 or self.end <= self.start:
            return self.curve[0]
        percent = percent_at(sigma, percent_to_sigma)
        return self.along((percent - self.start) / (self.end - self.start))

    def along(self, part: float) -> float:
        """The curve at a part of the window, 0 to 1."""
        place = min(max(part, 0.0), 1.0) * (len(self.curve) - 1)
        i = min(int(place), len(self.curve) - 2)
        return self.curve[i] + (place - i) * (self.curve[i + 1] - self.curve[i])


def percent_at(sigma: float, percent_to_sigma: Callable[[float], float]) -> float:
    """The place in the schedule, 0 to 1, whose noise level is ``sigma``: ``percent_to_sigma`` inverted by
    bisection, within 1e-6.
    """
    low, high = 0.0, 1.0
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (middle, high) if percent_to_sigma(middle) > sigma else (low, middle)
    return high
