"""The pictures of scores: right colors in right places, and any size of set."""

import numpy as np
import pytest
import torch

from zsamb_core.scores.picture import HIGH, LOW, MIDDLE, PAPER, bars, color, matrix, stacked


def test_colours_run_from_blue_over_white_to_red():
    assert (color(-1), color(0), color(1)) == (LOW, MIDDLE, HIGH)
    assert color(5) == HIGH and color(-5) == LOW
    reds = [color(x / 10)[2] for x in range(11)]
    assert reds == sorted(reds, reverse=True)


def test_the_matrix_shows_every_value_once():
    values = torch.tensor([[1.0, -1.0], [0.0, 1.0]])
    picture = np.asarray(matrix(values, ["a", "b"], ["c", "d"], "title"))
    colors = {tuple(int(x) for x in pixel) for pixel in picture.reshape(-1, 3)}
    assert {HIGH, LOW, MIDDLE, PAPER} <= colors
    red, blue = ((picture == c).all(-1).nonzero() for c in (HIGH, LOW))
    # The diagonal is red, the corner above it blue.
    assert red[0].min() < blue[0].mean() + 44 and blue[1].mean() > red[1].min()


@pytest.mark.parametrize("n", [1, 2, 16, 17, 300])
def test_sets_of_any_size_fit(n):
    names = [str(i) for i in range(n)]
    picture = matrix(torch.rand(n, n), names, names, "a set")
    assert picture.width < 1000 and picture.height < 1000


@pytest.mark.parametrize("values", [[0.5], [0.2, -0.3, 0.9], [-0.1], [2.0, 0.0], [0.0]])
def test_bars_are_as_long_as_their_values(values):
    picture = np.asarray(bars(values, [f"name {i}" for i in range(len(values))], "title"))
    red, blue = ((picture == c).all(-1).sum() for c in (HIGH, LOW))
    assert (red > 0) == any(v > 0 for v in values)
    assert (blue > 0) == any(v < 0 for v in values)
    if max(map(abs, values)) <= 1 and any(v > 0 for v in values):
        twice = np.asarray(bars([v / 2 for v in values], [f"name {i}" for i in range(len(values))], "title"))
        assert (twice == HIGH).all(-1).sum() == pytest.approx(red / 2, rel=0.1)


def test_pictures_stand_below_each_other():
    a, b = bars([0.5], ["a"], "one"), matrix(torch.eye(3), list("abc"), list("abc"), "two")
    both = stacked([a, b])
    assert both.size == (max(a.width, b.width), a.height + b.height)
