"""Blends: by hand, as properties of any finite latents, and in the shares that they claim."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from zsamb_core.style_aligned.blend import (
    METHODS,
    as_coded,
    blend,
    counted,
    karcher,
    linear,
    slerp,
    variance_preserving,
)

pytestmark = pytest.mark.slow

SPHERE = {"slerp": slerp, "karcher": karcher}
SAFE = {name: method for name, method in METHODS.items() if name != "as coded"}
ORDER_FREE = {"linear": linear, "karcher": karcher, "variance preserving": variance_preserving}
FEW = settings(max_examples=100, deadline=None, derandomize=True)


def gaussian(count, shape=(4, 16, 16), seed=0, dtype=torch.float32):
    return torch.randn(count, *shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@st.composite
def cases(draw, least=2):
    """Latents of any finite values, some zero, flat, alike or opposite, and weights that are not all 0."""
    count = draw(st.integers(least, 8))
    dtype = draw(st.sampled_from([torch.float16, torch.float32]))
    latents = gaussian(count, (2, 3, 4), draw(st.integers(0, 10**6)), torch.float32)
    for i in range(count):
        kind = draw(st.sampled_from(["gaussian", "zero", "flat", "alike", "opposite", "scaled"]))
        if kind == "zero":
            latents[i] = 0
        elif kind == "flat":
            latents[i] = draw(st.floats(-1000, 1000, width=16))
        elif kind == "alike":
            latents[i] = latents[0]
        elif kind == "opposite":
            latents[i] = -latents[0]
        elif kind == "scaled":
            latents[i] *= draw(st.sampled_from([1e-3, 50.0, 1000.0]))
    weights = draw(st.lists(st.sampled_from([0.0, 0.15, 0.25, 1.0, 3.0]), min_size=count, max_size=count))
    return latents.to(dtype), weights if any(weights) else [1.0] * count


@FEW
@given(cases())
@pytest.mark.parametrize("name", SAFE)
def test_any_finite_latents_give_finite_blends(name, case):
    latents, weights = case
    blended = blend(latents, weights, METHODS[name])
    assert blended.shape == latents.shape[1:] and blended.dtype == latents.dtype
    # A sum over the root of squared weights may leave fp16's range where the latents nearly fill it.
    if name != "variance preserving" or latents.dtype == torch.float32:
        assert bool(blended.isfinite().all())


@FEW
@given(cases())
@pytest.mark.parametrize("name", METHODS)
def test_one_weight_is_that_reference_bit_for_bit(name, case):
    latents, _ = case
    for i in range(len(latents)):
        weights = [0.0] * len(latents)
        weights[i] = 0.7
        assert torch.equal(blend(latents, weights, METHODS[name]), latents[i])


@FEW
@given(cases(), st.randoms(use_true_random=False))
@pytest.mark.parametrize("name", ORDER_FREE)
def test_the_order_does_not_count_where_none_is_claimed(name, case, random):
    latents, weights = case
    # Of opposite references any point between is as near: there an order is all there is.
    latents = latents + gaussian(len(latents), (2, 3, 4), 1).to(latents.dtype)
    order = list(range(len(latents)))
    random.shuffle(order)
    a = blend(latents.double(), weights, METHODS[name])
    b = blend(latents.double()[order], [weights[i] for i in order], METHODS[name])
    torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@FEW
@given(st.integers(0, 10**6), st.integers(2, 8))
@pytest.mark.parametrize("name", ["linear", "slerp", "karcher"])
def test_equal_references_are_a_fixed_point(name, seed, count):
    latents = gaussian(1, seed=seed).repeat(count, 1, 1, 1)
    weights = torch.rand(count, generator=torch.Generator().manual_seed(seed)).tolist()
    torch.testing.assert_close(blend(latents, weights, METHODS[name]), latents[0], rtol=1e-6, atol=1e-6)


@FEW
@given(st.integers(0, 10**6), st.integers(2, 8))
@pytest.mark.parametrize("name", SPHERE)
def test_references_of_one_norm_keep_it_on_the_sphere(name, seed, count):
    latents = gaussian(count, seed=seed).double()
    latents = latents / latents.flatten(1).norm(dim=1)[:, None, None, None] * 30
    weights = torch.rand(count, generator=torch.Generator().manual_seed(seed)).tolist()
    assert float(blend(latents, weights, METHODS[name]).norm()) == pytest.approx(30, rel=1e-9)


def test_the_norms_are_as_stated():
    latents = gaussian(4, (4, 64, 64)).double() * torch.tensor([1, 2, 3, 4])[:, None, None, None]
    norms, weights = latents.flatten(1).norm(dim=1), [0.4, 0.3, 0.2, 0.1]
    assert float(blend(latents, weights, karcher).norm()) == pytest.approx(
        sum(w * float(n) for w, n in zip(weights, norms, strict=True)), rel=1e-12
    )
    equal = gaussian(4, (4, 64, 64), 1).double()
    unit = float(equal.flatten(1).norm(dim=1).mean())
    assert float(blend(equal, [1] * 4, linear).norm()) == pytest.approx(unit / 2, rel=0.02)
    assert float(blend(equal, weights, variance_preserving).norm()) == pytest.approx(unit, rel=0.02)


@FEW
@given(st.integers(0, 10**6), st.floats(0.01, 0.99))
def test_of_two_references_of_one_norm_karcher_is_slerp(seed, t):
    latents = gaussian(2, seed=seed).double()
    latents = latents / latents.flatten(1).norm(dim=1)[:, None, None, None]
    a, b = (blend(latents, [1 - t, t], method) for method in (karcher, slerp))
    torch.testing.assert_close(a, b, rtol=0, atol=1e-12)


def test_slerp_by_hand():
    """Between (1, 0) and (0, 1): cos and sin of the way; 2 at 60 degrees: along the arc."""
    latents = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]]]).double()
    for t in (0.1, 0.5, 0.8):
        expected = torch.tensor([math.cos(t * math.pi / 2), math.sin(t * math.pi / 2)]).double()
        torch.testing.assert_close(blend(latents, [1 - t, t], slerp).flatten(), expected)
    angle = math.pi / 3
    latents[1, 0, 0] = torch.tensor([math.cos(angle), math.sin(angle)])
    expected = torch.tensor([math.cos(0.25 * angle), math.sin(0.25 * angle)]).double()
    torch.testing.assert_close(blend(latents, [3, 1], slerp).flatten(), expected)


def test_the_fold_is_by_cumulative_weights():
    latents = gaussian(3).double()
    first = blend(latents[:2], [0.4, 0.35], slerp)
    expected = blend(torch.stack([first, latents[2]]), [0.75, 0.25], slerp)
    torch.testing.assert_close(blend(latents, [0.4, 0.35, 0.25], slerp), expected)


def test_karcher_is_the_least_sum_of_squared_angles():
    latents, weights = gaussian(5, (2, 3, 4)).double(), [0.3, 0.25, 0.2, 0.15, 0.1]
    blended = blend(latents, weights, karcher).flatten()

    def cost(point):
        units = latents.flatten(1) / latents.flatten(1).norm(dim=1, keepdim=True)
        angles = (units @ (point / point.norm())).clamp(-1, 1).acos()
        return float((angles**2 * torch.tensor(weights).double()).sum())

    for seed in range(20):
        assert cost(blended) < cost(blended + 0.01 * gaussian(1, (24,), seed).double()[0] * blended.norm())


@pytest.mark.parametrize("t", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("method", SPHERE.values())
@pytest.mark.parametrize("flat", [False, True])
def test_opposite_references_turn_and_do_not_vanish(method, t, flat):
    """A flat latent moved by one place is itself, and so no direction to turn by."""
    a = gaussian(1).double() * (not flat) + flat
    blended = blend(torch.cat([a, -a]), [1 - t, t], method)
    assert float(blended.norm()) == pytest.approx(float(a.norm()))
    cosine = float((blended * a[0]).sum() / a.norm() ** 2)
    assert cosine == pytest.approx(math.cos(t * math.pi), abs=1e-6)


@pytest.mark.parametrize("short", [1.0, 1e-3])
@pytest.mark.parametrize("off", [1e-2, 1e-4, 1e-6])
@pytest.mark.parametrize("t", [0.05, 0.3, 0.5, 0.9])
def test_nearly_opposite_references_blend_to_no_more_than_the_longer_one(off, t, short):
    """The formula alone, sin of the parts over sin of the angle, grows without bound there."""
    angle, long = math.pi - off, 100.0
    a = torch.tensor([[[short, 0.0]]]).double()
    b = long * torch.tensor([[[math.cos(angle), math.sin(angle)]]]).double()
    formula = (math.sin((1 - t) * angle) * a + math.sin(t * angle) * b) / math.sin(angle)
    assert float(formula.norm()) > 2 * long
    blended = blend(torch.stack([a, b]), [1 - t, t], slerp)
    assert float(blended.norm()) == pytest.approx(long)
    # It is shortened, not turned.
    torch.testing.assert_close(blended / blended.norm(), formula / formula.norm(), rtol=0, atol=1e-4)


def shares(method, weights, seed=0):
    """(parts in %, norm over a reference's): what each of independent Gaussians enters with."""
    latents = gaussian(len(weights), (4, 128, 128), seed).double()
    blended = blend(latents, weights, method)
    flat = latents.flatten(1)
    parts = torch.linalg.lstsq(flat.T, blended.flatten()[:, None]).solution[:, 0]
    return (100 * parts / parts.sum()).tolist(), float(blended.norm() / flat.norm(dim=1).mean())


CODED = [
    ((0.5, 0.5), (33, 67), 0.79),
    ((0.25, 0.75), (9, 91), 0.93),
    ((0.75, 0.25), (64, 36), 0.79),
    ((0.15, 0.85), (3, 97), 0.98),
    ((1 / 3, 1 / 3, 1 / 3), (21, 37, 42), 0.71),
    ((0.15, 0.15, 0.70), (6, 10, 84), 0.90),
    ((0.25, 0.25, 0.25, 0.25), (15.5, 26, 28, 30.5), 0.65),
]
PUBLISHED = [
    ((0.5, 0.5), (50, 50)),
    ((0.25, 0.75), (29, 71)),
    ((0.85, 0.15), (81, 19)),
    ((1 / 3, 1 / 3, 1 / 3), (35.5, 35.5, 29)),
    ((0.15, 0.15, 0.70), (21, 21, 58)),
]


@pytest.mark.parametrize("weights, parts, norm", CODED)
def test_as_coded_repeats_the_original_s_shares(weights, parts, norm):
    percentages, length = shares(as_coded, weights)
    assert percentages == pytest.approx(parts, abs=1) and length == pytest.approx(norm, abs=0.015)


@pytest.mark.parametrize("weights, parts", PUBLISHED)
def test_the_published_fold_has_its_shares_and_norm_1(weights, parts):
    percentages, length = shares(slerp, weights)
    assert percentages == pytest.approx(parts, abs=1) and length == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("weights", [(0.5, 0.5), (1 / 3, 1 / 3, 1 / 3), (0.25, 0.25, 0.25, 0.25)])
def test_the_mean_on_the_sphere_treats_equals_equally(weights):
    percentages, length = shares(karcher, weights)
    assert percentages == pytest.approx([100 / len(weights)] * len(weights), abs=1)
    assert length == pytest.approx(1, abs=0.01)


def test_as_coded_says_where_the_original_fails():
    alike = gaussian(1, (4, 8, 8)).repeat(2, 1, 1, 1)
    alike[:, :, 0] = 1  # flat rows of one sign
    with pytest.raises(
        ValueError, match="not numbers, as the original code has.*another method than as coded"
    ):
        blend(alike, [0.5, 0.5], as_coded)


@pytest.mark.parametrize(
    "weights, message",
    [
        ([1.0], "1 weights for 2 references"),
        ([1.0, -0.5], "1, -0.5, expected numbers of 0 or more"),
        ([1.0, math.nan], "1, nan, expected numbers"),
        ([1.0, math.inf], "1, inf, expected numbers"),
        ([0.0, 0.0], "0, 0, expected one reference at least"),
    ],
)
def test_bad_weights_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        counted(weights, 2)


def test_weights_are_normalised():
    assert counted([2, 1, 1], 3) == [0.5, 0.25, 0.25]
