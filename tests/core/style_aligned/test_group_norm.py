"""Shared group norms in closed form against concatenation, and why there are no shared layer norms."""

import pytest
import torch
import torch.nn.functional as F

from zsamb_core.style_aligned.group_norm import group_norm, group_statistics, pool

GROUPS, CHANNELS = 4, 8


def pictures(rows, h, w, seed=0, offset=0.0):
    return torch.randn(rows, CHANNELS, h, w, generator=torch.Generator().manual_seed(seed)) * 2 + offset


WEIGHT, BIAS = torch.linspace(0.5, 2, CHANNELS), torch.linspace(-1, 1, CHANNELS)


def shared(x, references):
    others = [(group_statistics(r, GROUPS), w) for r, w in references]
    return group_norm(x, pool(group_statistics(x, GROUPS), others), WEIGHT, BIAS, 1e-5)


@pytest.mark.parametrize("offset", [0.0, 300.0])
def test_pooling_is_concatenation_along_height(offset):
    """The published way, and with a mean far from zero, where E[x^2] - E[x]^2 would lose the variance."""
    x, reference = pictures(3, 5, 6, 1, offset), pictures(1, 5, 6, 2, offset + 1)
    glued = torch.cat([x, reference.expand(3, -1, -1, -1)], 2)
    expected = F.group_norm(glued.double(), GROUPS, WEIGHT.double(), BIAS.double(), 1e-5)[:, :, :5]
    torch.testing.assert_close(shared(x, [(reference, 1.0)]).double(), expected, rtol=0, atol=2e-3)
    if not offset:
        torch.testing.assert_close(shared(x, [(reference, 1.0)]).double(), expected, rtol=0, atol=1e-5)


def test_a_reference_of_another_size_counts_by_its_pixels():
    x, reference = pictures(1, 5, 6, 1), pictures(1, 9, 6, 2)
    expected = F.group_norm(torch.cat([x, reference], 2), GROUPS, WEIGHT, BIAS, 1e-5)[:, :, :5]
    torch.testing.assert_close(shared(x, [(reference, 1.0)]), expected, rtol=0, atol=1e-5)


def test_a_whole_weight_is_so_many_copies_and_halves_of_equals_are_one():
    x, reference = pictures(2, 4, 4, 1), pictures(1, 4, 4, 2)
    one = shared(x, [(reference, 1.0)])
    torch.testing.assert_close(
        shared(x, [(reference, 2.0)]), shared(x, [(reference, 1.0), (reference, 1.0)]), rtol=0, atol=1e-6
    )
    torch.testing.assert_close(shared(x, [(reference, 0.5)] * 2), one, rtol=0, atol=1e-6)


def test_weight_0_and_itself_are_the_plain_norm():
    x, reference = pictures(1, 4, 4, 1), pictures(1, 4, 4, 2)
    plain = F.group_norm(x, GROUPS, WEIGHT, BIAS, 1e-5)
    torch.testing.assert_close(shared(x, [(reference, 0.0)]), plain, rtol=0, atol=1e-6)
    torch.testing.assert_close(shared(x, [(x, 1.0)]), plain, rtol=0, atol=1e-6)


def test_one_element_has_no_spread():
    """A picture of one pixel whose groups are single channels, alone and with a reference of its size."""
    x, reference = pictures(2, 1, 1, 1), pictures(1, 1, 1, 2)
    for others in ([], [(group_statistics(reference, CHANNELS), 1.0)]):
        pooled = pool(group_statistics(x, CHANNELS), others)
        assert group_norm(x, pooled, WEIGHT, BIAS, 1e-5).isfinite().all()
        assert (pooled.variance > 0).all() == bool(others)


def test_half_precision_statistics_are_taken_in_fp32():
    x = (pictures(1, 64, 64, 1) * 100 + 3000).half()
    expected = F.group_norm(x.double(), GROUPS, WEIGHT.double(), BIAS.double(), 1e-5)
    assert (shared(x, [(x, 1.0)]).double() - expected).abs().max() < 5e-3


def test_sharing_layer_norms_would_change_nothing():
    """Layer norm is per token: concatenating a reference's tokens, as published, is a no-op, bit for bit."""
    tokens, reference = torch.randn(2, 10, CHANNELS), torch.randn(1, 7, CHANNELS).expand(2, -1, -1)
    glued = F.layer_norm(torch.cat([tokens, reference], 1), (CHANNELS,), WEIGHT, BIAS)[:, :10]
    assert torch.equal(glued, F.layer_norm(tokens, (CHANNELS,), WEIGHT, BIAS))
