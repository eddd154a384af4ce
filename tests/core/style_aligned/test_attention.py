"""Shared attention against the paper's equations, written out plainly."""

import math

import pytest
import torch

from zsamb_core.style_aligned.adain import adain, adain_regions, mix, statistics
from zsamb_core.style_aligned.attention import (
    Part,
    _concatenated,
    plain_attention,
    shared_attention,
    shared_by_all,
)

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


def one_part(k, v, shift=0.0, scale=1.0):
    """The same kind of part for each group, from (G, M, C)."""
    return [[Part(k_ref, v_ref, shift, scale)] for k_ref, v_ref in zip(k, v, strict=True)]


@pytest.mark.parametrize("shift", [0.0, math.log(2), -1.5, 8.0])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_shared_attention_is_equation_3(shift, scale):
    q, k, v = (rows(2, 3, 10, seed=s) for s in (1, 2, 3))
    k_ref, v_ref = rows(2, 7, seed=4), rows(2, 7, seed=5)
    out = shared_attention(q, k, v, one_part(k_ref, v_ref, shift, scale), HEADS)
    for g in range(2):
        for b in range(3):
            expected = oracle(q[g, b], k[g, b], v[g, b], k_ref[g], v_ref[g], shift, scale)
            torch.testing.assert_close(out[g, b], expected, rtol=0, atol=1e-6)


def several_parts():
    """Three references of other lengths, with a shift per query, with minus infinity in it, and numbers."""
    masked = torch.linspace(0, 1, 30).view(3, 10).log()
    return [
        Part(rows(7, seed=4), rows(7, seed=5), masked, 0.5),
        Part(rows(12, seed=6), rows(12, seed=7), -0.4, 1.3),
        Part(rows(2, seed=8), rows(2, seed=9), torch.full((1, 10), 0.7)),
    ]


def mass_on_references(q, k, parts):
    """(N,) of one target: the softmax's mass on all references' tokens, head by head, and their mean."""
    masses = []
    for h in range(HEADS):
        s = slice(h * WIDTH, (h + 1) * WIDTH)
        logits = [q[:, s] @ k[:, s].T / math.sqrt(WIDTH)]
        for keys, shift, scale in parts:
            logits.append(q[:, s] @ keys[:, s].T * scale / math.sqrt(WIDTH) + shift)
        masses.append(torch.softmax(torch.cat(logits, -1), -1)[:, len(k) :].sum(-1))
    return torch.stack(masses).mean(0)


@pytest.mark.parametrize("kernel", [True, False])
def test_shares_are_the_softmax_s_mass_on_the_references(monkeypatch, kernel):
    """With a shift for each query and minus infinity in it; and where no kernel gives the log-sum-exp."""
    if not kernel:
        monkeypatch.setattr("zsamb_core.style_aligned.attention.kernel_for", lambda *_: None)
    q, k, v = (rows(2, 3, 10, seed=s) for s in (1, 2, 3))
    alone = [Part(rows(5, seed=11), rows(5, seed=12), -math.inf)]
    groups, shares = [several_parts(), alone], []
    out = shared_attention(q, k, v, groups, HEADS, shares=shares)
    assert torch.equal(out, shared_attention(q, k, v, groups, HEADS))
    assert [x.shape for x in shares] == [(3, 10), (3, 10)]
    for g, parts in enumerate(groups):
        for b in range(3):
            explicit = [
                (
                    p.k,
                    p.shift[b % len(p.shift)][:, None] if isinstance(p.shift, torch.Tensor) else p.shift,
                    p.scale,
                )
                for p in parts
            ]
            expected = mass_on_references(q[g, b], k[g, b], explicit)
            torch.testing.assert_close(shares[g][b].double(), expected, rtol=0, atol=1e-6)
    assert 0.05 < float(shares[0].min()) < float(shares[0].max()) < 1 and not shares[1].any()


def test_any_number_of_references_is_one_softmax_over_all_of_them():
    q, k, v = (rows(1, 3, 10, seed=s) for s in (1, 2, 3))
    parts = several_parts()
    out = shared_attention(q, k, v, [parts], HEADS)
    keys = torch.cat([p.k * p.scale for p in parts])
    values = torch.cat([p.v for p in parts])
    for b in range(3):
        shifts = [
            p.shift if isinstance(p.shift, torch.Tensor) else torch.full((1, 10), p.shift) for p in parts
        ]
        bias = torch.cat(
            [
                torch.zeros(10, 10),
                *(s[b % len(s), :, None].expand(-1, len(p.k)) for s, p in zip(shifts, parts, strict=True)),
            ],
            1,
        )
        heads = [slice(h * WIDTH, (h + 1) * WIDTH) for h in range(HEADS)]
        expected = torch.cat(
            [
                softmax_attention(
                    q[0, b, :, s],
                    torch.cat([k[0, b, :, s], keys[:, s]]),
                    torch.cat([v[0, b, :, s], values[:, s]]),
                    bias,
                )
                for s in heads
            ],
            -1,
        )
        torch.testing.assert_close(out[0, b], expected, rtol=0, atol=1e-6)


def test_the_order_of_references_does_not_matter():
    q, k, v = (rows(1, 3, 10, seed=s) for s in (1, 2, 3))
    parts = several_parts()
    one, other = (shared_attention(q, k, v, [p], HEADS) for p in (parts, parts[::-1]))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


def test_equal_references_of_half_weight_are_one():
    q, k, v = (rows(1, 2, 10, seed=s) for s in (1, 2, 3))
    part = Part(rows(7, seed=4), rows(7, seed=5), 0.3)
    half = Part(part.k, part.v, 0.3 + math.log(0.5))
    one, two = (shared_attention(q, k, v, [p], HEADS) for p in ([part], [half, half]))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-6)


def test_targets_may_ask_with_other_tokens_than_they_hold():
    """Token merging hands over fewer queries than keys."""
    q, k, v = rows(1, 2, 6, seed=1), rows(1, 2, 10, seed=2), rows(1, 2, 10, seed=3)
    k_ref, v_ref = rows(1, 7, seed=4), rows(1, 7, seed=5)
    out = shared_attention(q, k, v, one_part(k_ref, v_ref), HEADS)
    for s in (slice(h * WIDTH, (h + 1) * WIDTH) for h in range(HEADS)):
        keys, values = torch.cat([k[0, 1, :, s], k_ref[0, :, s]]), torch.cat([v[0, 1, :, s], v_ref[0, :, s]])
        expected = softmax_attention(q[0, 1, :, s], keys, values)
        torch.testing.assert_close(out[0, 1, :, s], expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2])
def test_concatenation_fallback_agrees_with_the_merge(groups, monkeypatch):
    from zsamb_core.style_aligned import kernels

    q, k, v = (rows(groups, 3, 10, seed=s).float() for s in (1, 2, 3))
    parts = [[Part(p.k.float(), p.v.float(), p.shift, p.scale) for p in several_parts()]] * groups
    merged = shared_attention(q, k, v, parts, HEADS)
    monkeypatch.setattr(kernels, "KERNELS", ())
    torch.testing.assert_close(shared_attention(q, k, v, parts, HEADS), merged, rtol=0, atol=1e-5)


def test_attention_of_others_sees_own_and_references_keys_in_one_piece():
    """And agrees with the merge, each group and row."""
    q, k, v = (rows(2, 3, 10, seed=s).float() for s in (1, 2, 3))
    parts = [[Part(p.k.float(), p.v.float(), p.shift, p.scale) for p in several_parts()]] * 2
    seen = []

    def other(q, k, v, mask=None):
        seen.append((q.shape, k.shape, mask.shape))
        return plain_attention(HEADS, q, k, v, mask)

    out = shared_attention(q, k, v, parts, HEADS, other)
    torch.testing.assert_close(out, shared_attention(q, k, v, parts, HEADS), rtol=0, atol=1e-5)
    assert seen == [((3, 10, CHANNELS), (3, 31, CHANNELS), (3, 10, 31))] * 2
    all_share = shared_by_all(q, k, v, parts, HEADS, 0.5, other)
    torch.testing.assert_close(all_share, shared_by_all(q, k, v, parts, HEADS, 0.5), rtol=0, atol=1e-5)
    assert len(seen) == 4


def test_concatenation_needs_no_mask_without_shifts():
    """So the host's fastest kernels take it."""
    q, k, v = (rows(3, 10, seed=s).float() for s in (1, 2, 3))
    masks = []

    def other(q, k, v, mask):
        masks.append(mask)
        return plain_attention(HEADS, q, k, v, mask)

    _concatenated(other, q, k, v, [Part(rows(7, seed=4).float(), rows(7, seed=5).float())])
    assert masks == [None]


def test_full_share_is_attention_over_all_tokens_of_a_group():
    q, k, v = (rows(2, 3, 10, seed=s) for s in (1, 2, 3))
    out = shared_by_all(q, k, v, [[], []], HEADS)
    for g in range(2):
        for b in range(3):
            keys, values = k[g].flatten(0, 1), v[g].flatten(0, 1)
            expected = oracle(q[g, b], keys, values, keys[:0], values[:0], 0, 1)
            torch.testing.assert_close(out[g, b], expected, rtol=0, atol=1e-6)


def test_full_share_at_full_strength_is_the_limit_of_less():
    q, k, v = (rows(1, 3, 10, seed=s) for s in (1, 2, 3))
    parts = [several_parts()]
    full = shared_by_all(q, k, v, parts, HEADS)
    nearly = shared_by_all(q, k, v, parts, HEADS, 1 - 1e-6)
    torch.testing.assert_close(full, nearly, rtol=0, atol=1e-4)


def test_sharing_with_itself_changes_nothing():
    """The reference row: softmax over two copies of the same keys is softmax over one, whatever the shift."""
    q, k, v = (rows(1, 1, 10, seed=s) for s in (1, 2, 3))
    plain = oracle(q[0, 0], k[0, 0], v[0, 0], k[0, 0][:0], v[0, 0][:0], 0, 1)
    for shift in (0.0, 3.0, -3.0):
        out = shared_attention(q, k, v, one_part(k[:, 0], v[:, 0], shift), HEADS)
        torch.testing.assert_close(out[0, 0], plain, rtol=0, atol=1e-6)


@pytest.mark.parametrize("times", [2, 5])
def test_shift_ln_m_is_the_reference_m_times(times):
    q, k, v = (rows(1, 2, 10, seed=s) for s in (1, 2, 3))
    k_ref, v_ref = rows(1, 7, seed=4), rows(1, 7, seed=5)
    shifted = shared_attention(q, k, v, one_part(k_ref, v_ref, math.log(times)), HEADS)
    repeated = shared_attention(
        q, k, v, one_part(k_ref.repeat(1, times, 1), v_ref.repeat(1, times, 1)), HEADS
    )
    torch.testing.assert_close(shifted, repeated, rtol=0, atol=1e-6)


def test_adain_takes_the_reference_statistics():
    x, ref = rows(4, 50, seed=1), rows(1, 30, seed=2) * 3 + 1
    out = adain(x, statistics(ref))
    torch.testing.assert_close(out.mean(1), ref.mean(1).expand(4, -1), rtol=0, atol=1e-5)
    torch.testing.assert_close(out.std(1), ref.std(1).expand(4, -1), rtol=1e-4, atol=1e-4)


def test_adain_of_itself_and_at_strength_0_is_the_identity():
    x, ref = rows(1, 50, seed=1).float(), rows(1, 30, seed=2).float()
    torch.testing.assert_close(adain(x, statistics(x)), x, rtol=0, atol=1e-6)
    assert torch.equal(adain(x, statistics(ref), 0.0), x)


def test_adain_is_the_published_affine():
    """Independent scalar form: (x - mu) / sigma * sigma_ref + mu_ref, unbiased variance, eps inside the
    root.
    """
    x, ref = [0.1, 0.9, -0.4, 2.0], [5.0, 6.5, 4.0]

    def stats(values):
        mean = sum(values) / len(values)
        return mean, math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1) + 1e-5)

    (m, s), (m_ref, s_ref) = stats(x), stats(ref)
    out = adain(torch.tensor(x).view(1, 4, 1), statistics(torch.tensor(ref).view(1, 3, 1))).flatten().tolist()
    assert out == pytest.approx([(value - m) / s * s_ref + m_ref for value in x], abs=1e-5)


def test_adain_statistics_are_taken_in_fp32():
    """Squares of these values are beyond half precision's range."""
    x, ref = ((rows(1, 4096, seed=s) * 300 + 1000).half() for s in (1, 2))
    expected = adain(x.double(), statistics(ref.double()))
    torch.testing.assert_close(adain(x, statistics(ref)).double(), expected.double(), rtol=2e-3, atol=1)


def test_statistics_of_several_references_are_mixed_by_weight():
    a, b = statistics(rows(20, seed=1)), statistics(rows(30, seed=2) * 3 + 1)
    mixed = mix([(a, 0.25), (b, 0.75)])
    torch.testing.assert_close(mixed.mean, 0.25 * a.mean + 0.75 * b.mean)
    torch.testing.assert_close(mixed.deviation, 0.25 * a.deviation + 0.75 * b.deviation)
    same = mix([(a, 0.5), (a, 0.5)])
    torch.testing.assert_close(same.mean, a.mean)


@pytest.mark.parametrize("mask", [None, torch.ones(1, 1), torch.full((1, 1), 0.3)])
def test_one_token_has_no_spread(mask):
    """Its deviation is the root of eps, and what is normalized by it takes the target's mean."""
    x, target = rows(2, 1, seed=1).float(), statistics(rows(30, seed=2).float() * 2 + 1)
    for counted in (None, mask):
        own = statistics(x, counted)
        torch.testing.assert_close(own.mean, x)
        torch.testing.assert_close(own.deviation, torch.full_like(x, math.sqrt(1e-5)))
    moved = adain(x, target)
    torch.testing.assert_close(moved, target.mean.expand_as(x), rtol=0, atol=1e-4)
    towards_one = adain(rows(2, 20, seed=3).float(), statistics(x[:1]))
    assert (towards_one - x[:1]).abs().max() < 0.02
    assert statistics(rows(2, 2, seed=1)).deviation.isfinite().all()


def test_a_mask_over_one_token_moves_that_token():
    x, target = rows(2, 20, seed=1).float(), statistics(rows(30, seed=2).float() * 2 + 1)
    mask = torch.zeros(2, 20)
    mask[:, 3] = 1
    out = adain_regions(x, [(target, mask)])
    torch.testing.assert_close(out[:, 3], target.mean.expand(2, -1), rtol=0, atol=1e-4)
    torch.testing.assert_close(out[:, 4:], x[:, 4:], rtol=0, atol=1e-6)


def test_a_mask_of_one_value_is_no_mask():
    x, target = rows(2, 20, seed=1), statistics(rows(30, seed=2) * 2 + 1)
    masked = adain_regions(x, [(target, torch.ones(1, 20))], 0.7)
    torch.testing.assert_close(masked, adain(x, target, 0.7).to(x), rtol=0, atol=1e-5)
    # Numbers that sum to 1 are AdaIN to the mixed statistics.
    second = statistics(rows(30, seed=3) - 2)
    regions = adain_regions(x, [(target, 0.25), (second, 0.75)])
    expected = adain(x, mix([(target, 0.25), (second, 0.75)]))
    torch.testing.assert_close(regions, expected, rtol=0, atol=1e-5)


def test_a_mask_confines_adain_to_its_region():
    x, target = rows(2, 20, seed=1), statistics(rows(30, seed=2) * 2 + 1)
    mask = torch.zeros(2, 20)
    mask[:, :8] = 1
    out = adain_regions(x, [(target, mask)])
    torch.testing.assert_close(out[:, 8:], x[:, 8:], rtol=0, atol=1e-6)
    torch.testing.assert_close(out[:, :8], adain(x[:, :8], target).to(x), rtol=0, atol=1e-5)
    assert adain_regions(x, [(target, torch.zeros(2, 20))]).equal(x.float().to(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_adain_of_halves_on_a_card_is_that_of_singles(dtype):
    """There product and sum are one operator, rounded once."""
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    x, ref = rows(4, 50, seed=1).to(dtype), statistics(rows(1, 30, seed=2).float() * 3 + 1)
    target = type(ref)(ref.mean.cuda(), ref.deviation.cuda())
    out = adain(x.cuda(), target, 0.7).cpu()
    expected = adain(x.float(), ref, 0.7)
    torch.testing.assert_close(out.float(), expected, rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
