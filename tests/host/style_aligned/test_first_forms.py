"""Nodes that had fewer inputs at first: what a workflow of then lacks has the value that it meant."""

import inspect

import pytest

pytestmark = pytest.mark.host


def optional(node):
    return {given.id: bool(given.optional) for given in node.define_schema().inputs}


def test_what_came_later_may_be_missing_there_and_in_no_other_node(pack):
    """The nodes have some inputs in common."""
    nodes = pack.nodes
    first_forms = {nodes.style_aligned.SharedAttention: "preset", nodes.references.DDIMInvert: "refinements"}
    for node, first in first_forms.items():
        found = optional(node)
        place = list(found).index(first)
        before = {name for name in list(found)[:place] if not found[name]}
        assert before >= {"model"} and len(before) >= 2 and all(list(found.values())[place:])
        given = inspect.signature(node.execute).parameters
        assert all(given[name].default is not inspect.Parameter.empty for name in list(found)[place:])
    assert not any(optional(nodes.references.WeighReference)[name] for name in ("score_shift", "score_scale"))
    assert not any(
        optional(nodes.ip_adapter.StyleBlockIPAdapter)[n] for n in ("start_percent", "end_percent")
    )


def test_the_first_form_of_the_patch_means_its_two_numbers(demo):
    node = demo.pack.nodes.style_aligned.SharedAttention
    model = node.execute(demo.model, 0.5, score_shift=0.25, score_scale=0.75).result[0]
    found = demo.pack.nodes._host.style_aligned.patch.style_options(model)
    assert (found.share.strength, found.share.shift, found.share.scale) == (0.5, 0.25, 0.75)
    assert not found.share.everyone and found.layers is None and not found.group_norm
    assert (found.start, found.end, found.control_first, found.at_once) == (0.0, 1.0, False, 0)
    refinements = inspect.signature(demo.pack.nodes.references.DDIMInvert.execute).parameters["refinements"]
    assert refinements.default == 0


def test_how_each_score_prepares_pictures_is_as_its_numbers_were_published(pack):
    """CLIP's by its own resizing and cut, DINO's squashed."""
    scores = pack.nodes.scores
    found = {
        node: next(i.default for i in node.define_schema().inputs if i.id == "preprocessing")
        for node in (scores.CLIPScore, scores.DINOStyleScore)
    }
    assert found == {scores.CLIPScore: scores.OWN, scores.DINOStyleScore: scores.PUBLISHED}
