"""Strength of each picture of the batch, and over the schedule."""

import logging

import numpy as np
import pytest
import torch

from ..test_batch_parts import in_parts
from .test_oracle import compare, first_picture, layer_oracle, layers, outside  # noqa: F401
from .test_together_guidance import result

pytestmark = pytest.mark.host
# Two ways of batching the same rows differ by fp32 rounding; sampled latents have a spread of about 8.
CLOSE = {"rtol": 0, "atol": 2e-3}
FACTORS = (1.0, 0.5, 0.0, 0.25)
TYPED = "1, 0.5, 0, 0.25"
MODES = {
    "reference": {"shift": 0.7},
    "group norms": {"shift": 0.7, "share_group_norm": True},
    "prompts alone": {},
    "prompts alone, group norms": {"share_group_norm": True},
    "all pictures": {"share": "all pictures"},
    "all pictures and a reference": {"share": "all pictures", "share_group_norm": True},
}


@pytest.fixture(params=MODES)
def patched(request, demo, reference):
    """The patch in a mode, with what is asked beside it."""
    connected = (
        reference if request.param in ("reference", "group norms") or "and a" in request.param else None
    )

    def patched(**settings):
        return demo.patched(reference=connected, **{**MODES[request.param], **settings})

    patched.led = request.param.startswith("prompts")
    return patched


def test_1_throughout_is_as_without(demo, four, patched):
    without = demo.sample(patched(), four, steps=2)
    for typed in (
        {"strength_by_picture": "1 1 1 1"},
        {"strength_by_picture": "1"},
        {"strength_curve": "1, 1"},
    ):
        assert torch.equal(demo.sample(patched(**typed), four, steps=2), without)


def test_one_number_is_the_strength(demo, four, patched):
    half = demo.sample(patched(strength=0.25), four, steps=2)
    for typed in ({"strength_by_picture": "0.5"}, {"strength_curve": "0.5 0.5"}):
        assert torch.equal(demo.sample(patched(strength=0.5, **typed), four, steps=2), half)
    both = patched(strength_by_picture="0.5, 0.5, 0.5, 0.5", strength_curve="0.5")
    assert torch.equal(demo.sample(both, four, steps=2), half)


def test_0_leaves_a_picture_and_the_others_as_they_are(demo, four, patched, stock):
    """Bit for bit on the CPU, whose attention and group norms do not depend on what else is in the batch."""
    mixed = demo.sample(patched(strength_by_picture="1, 0, 1, 0"), four)
    assert torch.equal(mixed[1], stock[1]) and torch.equal(mixed[3], stock[3])
    assert not torch.equal(mixed[2], stock[2])


def test_0_throughout_is_stock(demo, four, patched, stock):
    for typed in ({"strength_by_picture": "0, 0, 0, 0"}, {"strength_curve": "0"}):
        assert torch.equal(demo.sample(patched(**typed), four), stock)


def test_each_picture_is_as_in_a_batch_of_its_strength(demo, four, reference):
    for settings in (MODES["reference"], MODES["group norms"]):
        mixed = demo.sample(demo.patched(reference=reference, strength_by_picture=TYPED, **settings), four)
        for i, factor in enumerate(FACTORS):
            alike = demo.sample(demo.patched(reference=reference, strength=factor, **settings), four)
            assert torch.equal(mixed[i], alike[i]), (settings, i)


def test_the_first_picture_leads_whatever_its_number(demo, four):
    mixed = demo.sample(demo.patched(strength_by_picture="0, 1, 0.5, 1"), four)
    for strength, rows in ((1.0, [1, 3]), (0.5, [2])):
        alike = demo.sample(demo.patched(strength=strength), four)
        torch.testing.assert_close(mixed[rows], alike[rows], **CLOSE)


def weighed(refs_of, factors=FACTORS):
    """Each reference counts as far as the row's factor says: a weight on the mass of its tokens."""

    def refs(calls, chunk, row, tokens):
        return [{**r, "weight": r["weight"] * factors[row]} for r in refs_of(calls, chunk, row, tokens)]

    return refs


def plain_oracle(_, own, refs, heads):
    return layer_oracle(own, refs, heads)


@pytest.mark.parametrize("mode", ["prompts only", "reference", "two references"])
def test_every_layer_is_equation_3_with_a_weight_for_each_row(demo, four, reference, other, layers, mode):  # noqa: F811
    both = demo.weigh(reference, 3.0, others=demo.weigh(other, 1.0, shift=0.4, scale=0.7))
    connected = {"reference": reference, "two references": both}.get(mode)
    model = demo.patched(shift=0.7, reference=connected, strength_by_picture=TYPED)
    demo.sample(model, four, steps=2, sampler="euler", size=16)
    refs_of = {
        "prompts only": first_picture(0.7, 1.0),
        "reference": outside([(1, 0.7, 1.0)]),
        "two references": outside([(0.75, 0.7, 1.0), (0.25, 0.4, 0.7)]),
    }[mode]
    assert compare(layers, 4, weighed(refs_of), plain_oracle) < 1e-5


def test_masks_and_numbers_multiply(demo, four, reference, layers):  # noqa: F811
    mask = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(1))
    connected = demo.weigh(reference, mask=mask)
    model = demo.patched(shift=0.7, reference=connected, strength_by_picture="0.5, 1, 0.5, 1")
    demo.sample(model, four, steps=2, sampler="euler", size=16)
    refs_of = outside([(1 / max(1.0, float(mask.max())), 0.7, 1.0)], [mask])

    def oracle(_, own, refs, heads):
        """The numbers are a strength: masks weigh statistics of the own tokens, numbers do not."""
        factor = refs[0].pop("factor")
        return layer_oracle(own, refs, heads, factor)

    def refs(calls, chunk, row, tokens):
        return [{**r, "factor": (0.5, 1.0)[row % 2]} for r in refs_of(calls, chunk, row, tokens)]

    assert compare(layers, 4, refs, oracle) < 2e-5


def test_a_curve_over_the_steps(demo, four, reference, layers):  # noqa: F811
    """Of 8 steps the fourth call: its place in the schedule, and the curve's line there."""
    import comfy.samplers

    sampling = demo.model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", 8)
    places = np.linspace(0.0001, 0.9999, 20001)
    levels = np.array([float(sampling.percent_to_sigma(p)) for p in places])
    place = places[np.argmin(abs(levels - float(sigmas[3])))]
    window = (place - 0.1) / (0.9 - 0.1)
    factor = float(np.interp(window, [0, 0.5, 1], [1, 0.2, 0.6]))
    assert 0.25 < factor < 0.9
    curved = {"strength_curve": "1, 0.2, 0.6", "start_percent": 0.1, "end_percent": 0.9}
    model = demo.patched(shift=0.7, reference=reference, strength_by_picture="1, 0.5, 1, 0.5", **curved)
    demo.sample(model, four, steps=8, sampler="euler", size=16, last_step=4)
    factors = [factor, factor / 2, factor, factor / 2]
    refs_of = weighed(outside([(1, 0.7, 1.0)]), factors)
    assert compare(layers, 4, refs_of, plain_oracle) < 1e-4


def test_a_level_of_factor_0_is_a_stock_step(demo, four, patched):
    """The first level is at the start of the schedule, where the curve is flat at 0."""
    first = {"last_step": 1, "force_full_denoise": False}
    rising = demo.sample(patched(strength_curve="0, 0, 1"), four, **first)
    assert torch.equal(rising, demo.sample(demo.model, four, **first))
    falling = demo.sample(patched(strength_curve="1, 0"), four, **first)
    # The first level is not quite at 1, and latents have a spread of 50 there.
    torch.testing.assert_close(falling, demo.sample(patched(), four, **first), rtol=0, atol=0.03)


def test_adain_queries_keeps_its_own_strength(demo, four, reference):
    """As beside the node's strength."""
    model = demo.patched(reference=reference, strength_by_picture="0")
    alone = demo.sample(demo.adain(demo.patched(reference=reference, strength=0.0)), four)
    assert torch.equal(demo.sample(demo.adain(model), four), alone)
    mixed = demo.adain(demo.patched(reference=reference, strength_by_picture="1, 0, 1, 0"))
    assert torch.equal(demo.sample(mixed, four)[[1, 3]], alone[[1, 3]])


def test_joint_and_separate_calls_give_one_picture(demo, four, patched, monkeypatch):
    model = patched(strength_by_picture=TYPED)
    joint = demo.sample(model, four)
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(model), "get_free_memory", lambda self, device: 0)
        separate = demo.sample(model, four)
    torch.testing.assert_close(separate, joint, **CLOSE)


@pytest.mark.parametrize("connected", [True, False])
def test_parts_of_the_batch_have_their_own_numbers(demo, four, reference, connected, caplog):
    caplog.set_level(logging.INFO)
    settings = {"shift": 0.7, "reference": reference if connected else None, "strength_by_picture": TYPED}
    whole = demo.sample(demo.patched(**settings), four, steps=2)
    for at_once in (1, 3):
        parts = demo.sample(demo.patched(pictures_at_once=at_once, **settings), four, steps=2)
        torch.testing.assert_close(parts, whole, **CLOSE)
    if connected:
        torch.testing.assert_close(in_parts(demo, demo.patched(**settings), four), whole, **CLOSE)
        assert "4 numbers and the batch 2 pictures: taken for pictures 3, 4 of the set" in caplog.text


def test_hypertile_cuts_a_picture_and_not_its_number(demo, four, reference):
    from comfy_extras.nodes_hypertile import HyperTile

    def drawn(**settings):
        torch.manual_seed(1)  # HyperTile draws its tiling
        model = demo.patched(reference=reference, **settings)
        tiled = result(HyperTile.execute, model, 64, 1, 1, False)
        return demo.sample(tiled, four, size=16)

    mixed = drawn(strength_by_picture=TYPED)
    for i, factor in enumerate(FACTORS):
        torch.testing.assert_close(mixed[i], drawn(strength=factor)[i], **CLOSE)


def test_a_window_of_the_batch_is_refused_where_the_numbers_differ(demo, four, reference):
    """Nothing tells which pictures are in it."""

    def windowed(apply_model, call):
        x, c = call["input"], call["c"]
        options = {
            **c["transformer_options"],
            "cond_or_uncond": [0],
            "uuids": c["transformer_options"]["uuids"][:1],
        }
        c = {**c, "c_crossattn": c["c_crossattn"][:2], "y": c["y"][:2], "transformer_options": options}
        return apply_model(x[:2], call["timestep"][:2], **c).repeat(len(x) // 2, 1, 1, 1)

    for typed in ("0.5", TYPED):
        model = demo.patched(reference=reference, strength_by_picture=typed)
        model.set_model_unet_function_wrapper(windowed)
        if typed == "0.5":
            assert demo.sample(model, four, steps=1).isfinite().all()
            continue
        with pytest.raises(ValueError, match="called with 2 rows for 1 prompts.*strength_by_picture differs"):
            demo.sample(model, four, steps=1)


BAD = {
    "strength_by_picture: 'x' is not a number from 0 to 1": {"strength_by_picture": "1, x"},
    "strength_by_picture: '2' is not a number from 0 to 1": {"strength_by_picture": "1 2"},
    "strength_by_picture: '-1' is not a number from 0 to 1": {"strength_by_picture": "-1"},
    "strength_by_picture: 'nan' is not a number from 0 to 1": {"strength_by_picture": "nan"},
    "strength_by_picture: '0,5 1,5' has decimal commas": {"strength_by_picture": "0,5 1,5"},
    "strength_curve: '1.5' is not a number from 0 to 1. Write factors on the strength": {
        "strength_curve": "1.5"
    },
    "strength_curve: 'up' is not a number from 0 to 1": {"strength_curve": "up"},
}


@pytest.mark.parametrize("message", BAD)
def test_bad_numbers_are_refused_by_name(demo, message):
    with pytest.raises(ValueError) as error:
        demo.patched(**BAD[message])
    assert str(error.value).startswith(f"SharedAttention Patch: {message}")


SAID = {
    "strength_by_picture has 2 numbers and the batch 4 pictures: they are repeated": "0.5, 1",
    "strength_by_picture has 5 numbers and the batch 4 pictures: taken for pictures 1, 2, 3, 4": "1 1 0 1 1",
    "the first picture is the reference, so the first number of strength_by_picture does nothing": "0 1 1 1",
}


@pytest.mark.parametrize("line", SAID)
def test_numbers_that_do_not_fit_are_said(demo, four, line, caplog):
    caplog.set_level(logging.INFO)
    demo.sample(demo.patched(strength_by_picture=SAID[line]), four, steps=1)
    assert sum(line in r.getMessage() for r in caplog.records) == 1
    caplog.clear()
    demo.sample(demo.patched(strength_by_picture="1 1 0.5 1"), four, steps=1)
    assert "strength_by_picture" not in caplog.text


def test_factors_without_effect_are_said(demo, caplog):
    caplog.set_level(logging.INFO)
    demo.patched(strength=0.0, strength_by_picture="1, 0.5", strength_curve="1, 0")
    assert "strength is 0, so strength_by_picture does nothing" in caplog.text
    assert "strength is 0, so strength_curve does nothing" in caplog.text
    demo.patched(strength_by_picture="0, 0")
    assert "strength_by_picture is 0 throughout, and the patch is off" in caplog.text
    demo.patched(strength_curve="0,1")
    assert "strength_curve '0,1' is read as 0, 1" in caplog.text
