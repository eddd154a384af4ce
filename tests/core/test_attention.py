"""Shared attention against the paper's equations, written out plainly."""

import math

import pytest
import torch

from zsamb_core.attention import _concatenated, adain, attention_lse, shared_attention, split_heads

HEADS, WIDTH = 3, 8
CHANNELS = HEADS * WIDTH


def rows(*shape, seed=0):
    return torch.randn(*shape, CHANNELS, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def softmax_attention(q, k, v, bias=0.0):
    """One head: softmax(q k^T / sqrt(d) + bias) v."""
    return torch.softmax(q @ k.T / math.sqrt(q.shape[-1]) + bias, -1) @ v


def oracle(q, k, v, k_ref, v_ref, shift, scale):
    """Equation 3 for one target, head by head, over concatenated keys."""
    outs = []
    for h in range(HEADS):
        s = slice(h * WIDTH, (h + 1) * WIDTH)
        bias = torch.cat([torch.zeros(len(k)), torch.full((len(k_ref),), float(shift))]).double()
        outs.append(
            softmax_attention(
                q[:, s], torch.cat([k[:, s], scale * k_ref[:, s]]), torch.cat([v[:, s], v_ref[:, s]]), bias
            )
        )
    return torch.cat(outs, -1)


@pytest.mark.parametrize("shift", [0.0, math.log(2), -1.5, 8.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_shared_attention_is_equation_3(shift, scale):
    q, k, v = (rows(2, 3, 10, seed=s) for s in (1, 2, 3))
    k_ref, v_ref = rows(2, 7, seed=4), rows(2, 7, seed=5)
    out = shared_attention(q, k, v, k_ref, v_ref, HEADS, shift, scale)
    for g in range(2):
        for b in range(3):
            expected = oracle(q[g, b], k[g, b], v[g, b], k_ref[g], v_ref[g], shift, scale)
            torch.testing.assert_close(out[g, b], expected, rtol=0, atol=1e-6)


def test_concatenation_fallback_agrees_with_the_merge():
    q, k, v = (rows(2, 3, 10, seed=s).float() for s in (1, 2, 3))
    k_ref, v_ref = rows(2, 7, seed=4).float(), rows(2, 7, seed=5).float()
    merged = shared_attention(q, k, v, k_ref, v_ref, HEADS, 0.7, 0.5)
    own = [split_heads(x.flatten(0, 1), HEADS) for x in (q, k, v)]
    glued = _concatenated(*own, k_ref, v_ref, HEADS, WIDTH**-0.5, 0.7, 0.5)
    torch.testing.assert_close(glued.view_as(merged), merged, rtol=0, atol=1e-5)


def test_sharing_with_itself_changes_nothing():
    """The reference row: softmax over two copies of the same keys is softmax over one, whatever the shift."""
    q, k, v = (rows(1, 1, 10, seed=s) for s in (1, 2, 3))
    plain = oracle(q[0, 0], k[0, 0], v[0, 0], k[0, 0][:0], v[0, 0][:0], 0, 1)
    for shift in (0.0, 3.0, -3.0):
        torch.testing.assert_close(
            shared_attention(q, k, v, k[:, 0], v[:, 0], HEADS, shift)[0, 0], plain, rtol=0, atol=1e-6
        )


@pytest.mark.parametrize("times", [2, 5])
def test_shift_ln_m_is_the_reference_m_times(times):
    q, k, v = (rows(1, 2, 10, seed=s) for s in (1, 2, 3))
    k_ref, v_ref = rows(1, 7, seed=4), rows(1, 7, seed=5)
    shifted = shared_attention(q, k, v, k_ref, v_ref, HEADS, math.log(times))
    repeated = shared_attention(q, k, v, k_ref.repeat(1, times, 1), v_ref.repeat(1, times, 1), HEADS)
    torch.testing.assert_close(shifted, repeated, rtol=0, atol=1e-6)


def test_log_sum_exp_is_the_natural_one():
    q, k, v = (split_heads(rows(2, 10, seed=s), HEADS) for s in (1, 2, 3))
    _, lse = attention_lse(q, k, v, 0.3)
    torch.testing.assert_close(
        lse.double(), torch.logsumexp(q @ k.transpose(-1, -2) * 0.3, -1), rtol=0, atol=1e-5
    )


def test_adain_takes_the_reference_statistics():
    x, ref = rows(4, 50, seed=1), rows(1, 30, seed=2) * 3 + 1
    out = adain(x, ref)
    torch.testing.assert_close(out.mean(1), ref.mean(1).expand(4, -1), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(1), ref.std(1).expand(4, -1), rtol=1e-4, atol=1e-4)


def test_adain_of_itself_and_at_strength_0_is_the_identity():
    x, ref = rows(1, 50, seed=1).float(), rows(1, 30, seed=2).float()
    torch.testing.assert_close(adain(x, x), x, rtol=0, atol=1e-6)
    assert torch.equal(adain(x, ref, 0.0), x)


def test_adain_is_the_published_affine():
    """Independent scalar form: (x - mu) / sigma * sigma_ref + mu_ref, unbiased variance, eps inside the
    root.
    """
    x, ref = [0.1, 0.9, -0.4, 2.0], [5.0, 6.5, 4.0]

    def stats(values):
        mean = sum(values) / len(values)
        return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) + 1e-5)

    (m, s), (m_ref, s_ref) = stats(x), stats(ref)
    out = adain(torch.tensor(x).view(1, 4, 1), torch.tensor(ref).view(1, 3, 1)).flatten().tolist()
    assert out == pytest.approx([(value - m) / s * s_ref + m_ref for value in x], abs=1e-5)


def test_adain_statistics_are_taken_in_fp32():
    """Squares of these values are beyond half precision's range."""
    x, ref = ((rows(1, 4096, seed=s) * 300 + 1000).half() for s in (1, 2))
    expected = adain(x.double(), ref.double())
    torch.testing.assert_close(adain(x, ref).double(), expected.double(), rtol=2e-3, atol=1)
