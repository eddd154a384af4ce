"""Every self-attention layer of the patched host against the paper's equations, written out here with a
softmax over concatenated keys, for every option.
"""

import math

import pytest
import torch
import torch.nn.functional as F

pytestmark = pytest.mark.host
LN2 = math.log(2)


def moments(x, weights=None):
    """Mean and deviation over tokens (N, C), unbiased, each token counted as far as ``weights`` (N,) say."""
    if weights is None:
        return x.mean(0), (x.var(0, unbiased=True) + 1e-5).sqrt()
    w = weights[:, None] / weights.sum()
    mean = (w * x).sum(0)
    return mean, ((w * (x - mean) ** 2).sum(0) / (1 - (w**2).sum()) + 1e-5).sqrt()


def normalize(x, refs, strength):
    """Equation 2, per channel over tokens: (N, C), moved towards each (reference (M, C), weight (N,))."""
    moved = x.clone()
    for ref, weight in refs:
        uniform = bool((weight == weight[0]).all())
        mean, deviation = moments(x, None if uniform else weight)
        mean_ref, deviation_ref = moments(ref)
        moved += strength * weight[:, None] * ((x - mean) / deviation * deviation_ref + mean_ref - x)
    return moved


def attention(q, k, v, bias):
    """softmax(q k^T / sqrt(d) + bias) v for one head."""
    return torch.softmax(q @ k.T / math.sqrt(q.shape[-1]) + bias, -1) @ v


def by_head(q, keys, values, bias, heads):
    width = q.shape[-1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    return torch.cat([attention(q[:, s], keys[:, s], values[:, s], bias) for s in parts], -1)


@pytest.fixture
def layers(demo):
    """Listen to every attn1 of the real UNet: per call its projections, and what reaches its output
    layer.
    """
    heard, handles = {}, []
    for name, module in demo.model.model.diffusion_model.named_modules():
        if name.endswith(".attn1"):
            calls = heard.setdefault(name, {"heads": module.heads, "calls": []})["calls"]
            for part in ("to_q", "to_k", "to_v"):

                def keep(_, __, out, calls=calls, part=part):
                    if part == "to_q":
                        calls.append({})
                    calls[-1][part] = out.detach().clone()

                handles.append(getattr(module, part).register_forward_hook(keep))

            def keep_input(_, inputs, calls=calls):
                calls[-1]["out"] = inputs[0].detach().clone()

            handles.append(module.to_out.register_forward_pre_hook(keep_input))
    yield heard
    for handle in handles:
        handle.remove()


def projections(call, row):
    return [call[part][row] for part in ("to_q", "to_k", "to_v")]


def layer_oracle(own, refs, heads, strength=1.0, adain="qk", adain_strength=None):
    """Equation 3 for one target (q, k, v), generalized: ``refs`` are dicts of q, k, v, per-token weight,
    shift and scale; a weight multiplies the mass of the reference's tokens.
    """
    adain_strength = strength if adain_strength is None else adain_strength
    q, k, v = (
        normalize(x, [(r[name], r["weight"]) for r in refs], adain_strength) if name in adain else x
        for name, x in zip("qkv", own, strict=True)
    )
    keys, values, bias = [k], [v], [torch.zeros(len(q), len(k))]
    for r in refs if strength else []:
        keys.append(r["scale"] * r["k"])
        values.append(r["v"])
        mass = torch.log(strength * r["weight"]) + r["shift"]
        bias.append(mass[:, None].expand(-1, len(r["k"])))
    return by_head(q, torch.cat(keys), torch.cat(values), torch.cat(bias, 1), heads)


def compare(layers, rows, refs_of, oracle):
    """The largest difference between what the layers of the last call put out and what ``oracle`` says of
    (name, own projections, references, heads).
    """
    assert len(layers) == 12  # eleven blocks, one of which holds two
    worst = 0.0
    for name, record in layers.items():
        call = record["calls"][-1]
        assert call["to_q"].shape[0] == 2 * rows
        assert call["to_q"].dtype == torch.float32
        for row in range(2 * rows):
            own = projections(call, row)
            refs = refs_of(record["calls"], row // rows, row % rows, len(own[0]))
            expected = oracle(name, own, refs, record["heads"])
            worst = max(worst, float((call["out"][row] - expected).abs().max()))
    return worst


def outside(settings, masks=None):
    """References recorded in the call before: chunk by chunk, in each the references in order."""

    def refs_of(calls, chunk, row, tokens):
        refs = []
        for j, (weight, shift, scale) in enumerate(settings):
            q, k, v = projections(calls[-2], chunk * len(settings) + j)
            weights = torch.full((tokens,), float(weight))
            if masks is not None:
                side = math.isqrt(tokens)
                mask = masks[j][row if len(masks[j]) > 1 else 0]
                weights = weight * F.adaptive_avg_pool2d(mask[None, None], side).flatten()
            refs.append({"q": q, "k": k, "v": v, "weight": weights, "shift": shift, "scale": scale})
        return refs

    return refs_of


def first_picture(shift, scale, rows=4):
    def refs_of(calls, chunk, row, tokens):
        if row == 0:
            return []
        q, k, v = projections(calls[-1], chunk * rows)
        return [{"q": q, "k": k, "v": v, "weight": torch.ones(tokens), "shift": shift, "scale": scale}]

    return refs_of


def draw(demo, model, four):
    demo.sample(model, four, steps=2, sampler="euler", size=16)


@pytest.mark.parametrize("shift", [0.0, LN2])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_every_layer_is_equation_3(demo, four, reference, layers, mode, shift, scale):
    connected = reference if mode == "reference" else None
    draw(demo, demo.patched(shift=shift, scale=scale, reference=connected), four)
    refs_of = outside([(1, shift, scale)]) if connected else first_picture(shift, scale)
    assert compare(layers, 4, refs_of, lambda _, own, refs, heads: layer_oracle(own, refs, heads)) < 1e-5


@pytest.mark.parametrize("preset", [("normal", LN2, 1.0), ("famous", 0.0, 0.5), ("none", 0.0, 1.0)])
def test_presets_are_the_published_numbers(demo, four, reference, layers, preset):
    name, shift, scale = preset
    draw(demo, demo.patched(preset=name, shift=-3.0, scale=2.0, reference=reference), four)
    refs_of = outside([(1, shift, scale)])
    assert compare(layers, 4, refs_of, lambda _, own, refs, heads: layer_oracle(own, refs, heads)) < 1e-5


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
@pytest.mark.parametrize("which", ["q", "k", "v", "qkv", ""])
def test_adain_of_each_projection_with_strengths(demo, four, reference, layers, mode, which):
    connected = reference if mode == "reference" else None
    model = demo.patched(strength=0.6, shift=LN2, reference=connected)
    draw(demo, demo.adain(model, "q" in which, "k" in which, "v" in which, strength=0.3), four)
    refs_of = outside([(1, LN2, 1)]) if connected else first_picture(LN2, 1)

    def oracle(_, own, refs, heads):
        return layer_oracle(own, refs, heads, 0.6, which, 0.3)

    assert compare(layers, 4, refs_of, oracle) < 1e-5


def test_adain_alone(demo, four, reference, layers):
    model = demo.adain(demo.patched(strength=0.0, reference=reference))
    draw(demo, model, four)

    def oracle(_, own, refs, heads):
        return layer_oracle(own, refs, heads, 0.0, "qk", 1.0)

    assert compare(layers, 4, outside([(1, 0, 1)]), oracle) < 1e-5


def test_several_references_with_weights_shifts_and_scales(demo, four, reference, other, layers):
    """Weights 3 and 1 count .75 and .25; one reference brings its own shift and scale."""
    both = demo.weigh(reference, 3.0, others=demo.weigh(other, 1.0, shift=0.4, scale=0.7))
    draw(demo, demo.patched(shift=LN2, reference=both, strength=0.8), four)
    refs_of = outside([(0.75, LN2, 1.0), (0.25, 0.4, 0.7)])

    def oracle(_, own, refs, heads):
        return layer_oracle(own, refs, heads, 0.8)

    assert compare(layers, 4, refs_of, oracle) < 1e-5


def test_masks_give_each_region_its_reference(demo, four, reference, other, layers):
    """Left the one, right the other, with a soft middle for one of them and a mask per picture for the
    other.
    """
    left = torch.zeros(1, 16, 16)
    left[:, :, :8] = 1
    left[:, :, 8:12] = 0.5
    right = torch.stack([1 - left[0], torch.ones(16, 16), torch.zeros(16, 16), 1 - left[0]])
    one = demo.weigh(reference, 1.0, mask=left)
    both = demo.weigh(other, 0.5, others=one, mask=right)
    draw(demo, demo.patched(shift=LN2, reference=both), four)
    most = float((left + 0.5 * right).max())
    refs_of = outside([(0.5 / most, LN2, 1.0), (1.0 / most, LN2, 1.0)], [right, left])
    assert compare(layers, 4, refs_of, lambda _, own, refs, heads: layer_oracle(own, refs, heads)) < 2e-5


@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_full_attention_share(demo, four, reference, layers, mode, strength):
    """Every picture sees every picture, with plain attention; others count ``strength`` times."""
    connected = reference if mode == "reference" else None
    draw(demo, demo.patched(strength=strength, shift=LN2, reference=connected, share="all pictures"), four)
    worst = 0.0
    for record in layers.values():
        call = record["calls"][-1]
        for row in range(8):
            chunk = row // 4
            q, k, v = projections(call, row)
            keys, values, bias = [k], [v], [torch.zeros(len(k))]
            for i in range(chunk * 4, chunk * 4 + 4):
                if i != row:
                    keys.append(call["to_k"][i])
                    values.append(call["to_v"][i])
                    bias.append(torch.full((len(k),), math.log(strength)))
            if connected:
                keys.append(record["calls"][-2]["to_k"][chunk])
                values.append(record["calls"][-2]["to_v"][chunk])
                bias.append(torch.full((len(k),), math.log(strength) + LN2))
            expected = by_head(q, torch.cat(keys), torch.cat(values), torch.cat(bias), record["heads"])
            worst = max(worst, float((call["out"][row] - expected).abs().max()))
    assert worst < 1e-5


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_layers_that_are_not_chosen_stay_plain(demo, four, reference, layers, mode):
    """Blocks by the host's names, and of those what only_self_level leaves."""
    connected = reference if mode == "reference" else None
    model = demo.patched(
        shift=LN2, reference=connected, blocks="input 7-8, middle, output_1", only_self_level=0.25
    )
    draw(demo, model, four)
    # In the published order, down, up, middle, a quarter of 12 layers is every 4th from the first: input 4,
    # the second layer of input 8, output 3.
    prefixes = {
        "input_blocks.7.1.",
        "input_blocks.8.1.transformer_blocks.0.",
        "middle_block.",
        "output_blocks.1.",
    }
    refs_of = outside([(1, LN2, 1)]) if connected else first_picture(LN2, 1)

    def oracle(name, own, refs, heads):
        return layer_oracle(own, refs if any(map(name.startswith, prefixes)) else [], heads)

    assert compare(layers, 4, refs_of, oracle) < 1e-5


def test_outside_its_window_every_layer_is_plain(demo, four, reference, layers):
    draw(demo, demo.patched(reference=reference, end_percent=0.1), four)

    def oracle(_, own, refs, heads):
        return layer_oracle(own, [], heads)

    assert compare(layers, 4, lambda *_: [], oracle) < 1e-5
    (calls,) = {len(record["calls"]) for record in layers.values()}
    assert calls == 3  # with the reference at the first step only


def test_a_reference_row_is_plain_attention(demo, four, reference, layers):
    draw(demo, demo.patched(shift=3.0, reference=reference), four)
    for record in layers.values():
        call = record["calls"][-2]
        for row in range(2):
            expected = layer_oracle(projections(call, row), [], record["heads"])
            torch.testing.assert_close(call["out"][row], expected, rtol=0, atol=1e-5)
