"""Nodes that had fewer inputs at first: what a workflow of then lacks has the value that it meant."""

import inspect

import pytest

pytestmark = pytest.mark.host


def optional(node):
    return {widget.id: bool(widget.optional) for widget in node.define_schema().inputs}


def test_what_came_later_may_be_missing_there_and_in_no_other_node(pack):
    """The nodes have some inputs in common."""
    nodes = pack.nodes
    first_forms = {nodes.style_aligned.SharedAttention: "preset", nodes.references.DDIMInvert: "refinements"}
    for node, first in first_forms.items():
        inputs = optional(node)
        place = list(inputs).index(first)
        before = {name for name in list(inputs)[:place] if not inputs[name]}
        assert before >= {"model"} and len(before) >= 2 and all(list(inputs.values())[place:])
        parameters = inspect.signature(node.execute).parameters
        assert all(parameters[name].default is not inspect.Parameter.empty for name in list(inputs)[place:])
    assert not any(optional(nodes.references.WeighReference)[name] for name in ("score_shift", "score_scale"))
    assert not any(
        optional(nodes.ip_adapter.StyleBlockIPAdapter)[n] for n in ("start_percent", "end_percent")
    )


def test_the_first_form_of_the_patch_means_its_two_numbers(demo):
    node = demo.pack.nodes.style_aligned.SharedAttention
    model = node.execute(demo.model, 0.5, score_shift=0.25, score_scale=0.75).result[0]
    options = demo.pack.nodes._host.style_aligned.patch.style_options(model)
    assert (options.share.strength, options.share.shift, options.share.scale) == (0.5, 0.25, 0.75)
    assert not options.share.everyone and options.layers is None and not options.group_norm
    assert (options.start, options.end, options.control_first, options.at_once) == (0.0, 1.0, False, 0)
    refinements = inspect.signature(demo.pack.nodes.references.DDIMInvert.execute).parameters["refinements"]
    assert refinements.default == 0


def test_how_each_score_prepares_pictures_is_as_its_numbers_were_published(pack):
    """CLIP's by its own resizing and cut, DINO's squashed."""
    scores = pack.nodes.scores
    defaults = {
        node: next(i.default for i in node.define_schema().inputs if i.id == "preprocessing")
        for node in (scores.CLIPScore, scores.DINOStyleScore)
    }
    assert defaults == {scores.CLIPScore: scores.OWN, scores.DINOStyleScore: scores.PUBLISHED}
