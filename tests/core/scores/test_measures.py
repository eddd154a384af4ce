"""Scores against loops written out, and sets whose answer is known."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsamb_core.scores.measures import (
    balance,
    correlation,
    cosines,
    directions,
    set_consistency,
    similarities,
    to_others,
    weighted_multi_style,
)


def embeds(n, channels=16, seed=0):
    return torch.randn(n, channels, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    dot, x, y = (
        sum(float(p) * float(q) for p, q in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b))
    )
    return dot / math.sqrt(x * y)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_consistency_is_the_mean_of_the_pairs(n, seed):
    x = embeds(n, seed=seed)
    pairs = [cosine(x[i], x[j]) for i in range(n) for j in range(i + 1, n)]
    assert set_consistency(x) == pytest.approx(sum(pairs) / len(pairs), abs=1e-6)
    matrix = torch.nn.functional.normalize(x.double(), dim=1)
    upper = (matrix @ matrix.T)[tuple(torch.triu_indices(n, n, 1))]
    assert set_consistency(x) == pytest.approx(float(upper.mean()), abs=1e-12)


@pytest.mark.parametrize("n", [2, 5])
def test_each_is_compared_with_the_others_and_not_itself(n):
    x = embeds(n)
    loops = [sum(cosine(x[i], x[j]) for j in range(n) if j != i) / (n - 1) for i in range(n)]
    assert to_others(x) == pytest.approx(loops, abs=1e-6)
    assert sum(to_others(x)) / n == pytest.approx(set_consistency(x))
    with pytest.raises(ValueError, match="there are no others"):
        to_others(x[:1])


def test_known_sets():
    x = embeds(1)
    assert set_consistency(x.repeat(5, 1)) == pytest.approx(1)
    assert set_consistency(torch.cat([x, 3 * x, 0.1 * x])) == pytest.approx(1)
    assert set_consistency(torch.cat([x, -x])) == pytest.approx(-1)
    assert set_consistency(torch.eye(6)) == pytest.approx(0, abs=1e-12)
    assert similarities(torch.eye(3), torch.tensor([[1.0, 0, 0], [1, 1, 1]])) == pytest.approx(
        [1 / 3, 1 / math.sqrt(3)]
    )


@settings(max_examples=30, deadline=None, derandomize=True)
@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 10**6))
def test_similarities_and_their_weighted_sum_are_the_loops(n, m, seed):
    x, refs = embeds(n, seed=seed), embeds(m, seed=seed + 1)
    expected = [sum(cosine(g, r) for g in x) / n for r in refs]
    assert similarities(x, refs) == pytest.approx(expected, abs=1e-6)
    weights = torch.rand(m, generator=torch.Generator().manual_seed(seed))
    weights = (weights / weights.sum()).tolist()
    total = sum(w * s for w, s in zip(weights, expected, strict=True))
    assert weighted_multi_style(expected, weights) == pytest.approx(total)


def test_balance_shows_what_the_weighted_sum_hides():
    """A set that is all like the easier reference has the higher sum, and gains against its weights."""
    baseline, weights = [0.1, 0.4], [0.7, 0.3]
    honest, easy = [0.5, 0.5], [0.2, 0.9]
    assert weighted_multi_style(honest, weights) > weighted_multi_style([0.1, 0.4], weights)
    assert balance(honest, weights, baseline).gains == pytest.approx((0.4, 0.1))
    assert balance(honest, weights, baseline).correlation == pytest.approx(1)
    assert balance(easy, weights, baseline).correlation == pytest.approx(-1)
    assert balance(easy, [0.5, 0.5], baseline).correlation is None
    x, y = embeds(1, 7)[0].tolist(), embeds(1, 7, 1)[0].tolist()
    expected = float(torch.corrcoef(torch.tensor([x, y], dtype=torch.float64))[0, 1])
    assert correlation(x, y) == pytest.approx(expected)


def test_bad_embeddings_are_refused():
    with pytest.raises(ValueError, match="set has 1 image, expected two at least"):
        set_consistency(embeds(1))
    with pytest.raises(ValueError, match="embedding of image 1 is zero or not a number"):
        directions(torch.tensor([[1.0, 0], [0, 0]]))
    with pytest.raises(ValueError, match="embedding of image 0 is zero or not a number"):
        directions(torch.tensor([[math.nan, 0], [1, 0]]))
    with pytest.raises(ValueError, match=r"embeddings are \(3,\)"):
        directions(torch.ones(3))
    with pytest.raises(ValueError, match="have 4 and 5 channels"):
        cosines(embeds(2, 4), embeds(2, 5))
