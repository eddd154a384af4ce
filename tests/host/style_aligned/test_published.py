"""What is said to be as published is: the presets by mode, and whom a ControlNet acts on."""

import math

import pytest
import torch

from .test_together_inputs import control_net, controlled

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}
STEPS = 2


def preset(demo, name, **settings):
    """The node with everything but the preset as it comes."""
    node = demo.pack.nodes.style_aligned.SharedAttention
    values = {i.id: i.default for i in node.define_schema().inputs if getattr(i, "default", None) is not None}
    values = {**values, "model": demo.model, **settings}
    return node.execute(**(values if name is None else {**values, "preset": name})).result[0]


def shared(demo, model):
    return demo.pack.nodes._host.style_aligned.patch.style_options(model).share


def test_the_default_preset_follows_the_mode(demo, reference):
    """The notebooks for prompts alone and for ControlNets have no shift; the one for a picture has ln 2."""
    alone, picture = shared(demo, preset(demo, None)), shared(demo, preset(demo, None, reference=reference))
    assert (alone.shift, alone.scale) == (0.0, 1.0)
    assert (picture.shift, picture.scale) == (math.log(2), 1.0)
    for name, expected in (("normal", picture), ("none", alone)):
        assert shared(demo, preset(demo, name)) == expected
        assert shared(demo, preset(demo, name, reference=reference)) == expected
    famous = shared(demo, preset(demo, "famous"))
    assert (famous.shift, famous.scale) == (0.0, 0.5)


def drawn(demo, model, positive, negative=None, **settings):
    return demo.sample(model, positive, negative, steps=STEPS, **settings)


@pytest.fixture(scope="module")
def control(demo, four):
    with torch.inference_mode():
        return controlled(demo, four, control_net())


def test_from_prompts_alone_a_controlnet_leaves_the_first_picture_out(demo, four, control):
    """pipeline_calls.py: zero residuals for the reference, in both halves."""
    stock, held = drawn(demo, demo.model, four), drawn(demo, demo.model, *control)
    first_apart = (held[0] - stock[0]).abs().mean()
    assert first_apart > 0.05
    for settings in ({}, {"pictures_at_once": 1}, {"end_percent": 0.3}):
        out = drawn(demo, demo.patched(**settings), *control)
        torch.testing.assert_close(out[0], stock[0], **CLOSE)
        without = drawn(demo, demo.patched(**settings), four)
        assert ((out[1:] - without[1:]).abs().mean((1, 2, 3)) > 0.05).all()
    all_held = drawn(demo, demo.patched(control_first=True), *control)
    torch.testing.assert_close(all_held[0], held[0], **CLOSE)


def test_a_controlnet_acts_on_one_picture_alone(demo):
    """Nothing looks at it, so it is the model's own picture, as the log says."""
    control = controlled(demo, demo.encode("a cat"), control_net())
    for settings in ({}, {"pictures_at_once": 1}, {"end_percent": 0.3}):
        out = drawn(demo, demo.patched(**settings), *control, batch=1)
        torch.testing.assert_close(out, drawn(demo, demo.model, *control, batch=1), **CLOSE)


def test_where_the_first_is_no_reference_a_controlnet_acts_on_it(demo, control, reference):
    for settings in ({"share": "all pictures"}, {"reference": reference}):
        with_first = drawn(demo, demo.patched(**settings), *control)
        same = drawn(demo, demo.patched(control_first=True, **settings), *control)
        assert torch.equal(with_first, same)


def test_the_residuals_of_other_pictures_are_untouched(pack):
    without_first = pack.nodes._host.model_parts.without_first
    one, each = torch.ones(1, 2, 3, 3), torch.rand(6, 2, 3, 3)
    residuals = without_first({"input": [each, None], "middle": [one]}, 2, 3)
    assert residuals["input"][1] is None
    assert torch.equal(residuals["input"][0][[1, 2, 4, 5]], each[[1, 2, 4, 5]])
    assert not residuals["input"][0][[0, 3]].any() and not residuals["middle"][0][[0, 3]].any()
    assert torch.equal(residuals["middle"][0][[1, 2, 4, 5]], torch.ones(4, 2, 3, 3))
    assert each[0].any()
