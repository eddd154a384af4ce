"""Conditioning Set: each picture of the batch is drawn as its own conditioning would draw it."""

import logging

import pytest
import torch

from .style_aligned.test_together_inputs import control_net, controlled
from .test_batch_parts import in_parts

pytestmark = pytest.mark.host
# Two ways of batching the same rows differ by fp32 rounding; sampled latents have a spread of about 8.
CLOSE = {"rtol": 0, "atol": 2e-3}


@pytest.fixture
def conditioning_set(pack):
    def made(*conditionings, clip=None):
        inputs = {f"conditioning{i}": c for i, c in enumerate(conditionings)}
        return pack.nodes.prompts.ConditioningSet.execute(inputs, clip).result

    return made


def changed(conditioning, **details):
    return [[tokens, {**own, **details}] for tokens, own in conditioning]


def left(side=16):
    mask = torch.zeros(1, side, side)
    mask[:, :, : side // 2] = 1
    return mask


@pytest.fixture(scope="module")
def prompts(demo):
    with torch.inference_mode():
        return [demo.encode(line) for line in ("a cat", "a house", "a boat in neon style", "a flower")]


def test_of_text_prompts_it_is_the_prompt_set(demo, prompts, conditioning_set):
    (ours, count), theirs = (
        conditioning_set(*prompts),
        demo.prompts("a cat", "a house", "a boat in neon style", "a flower"),
    )
    assert count == 4 and len(ours) == len(theirs) == 1 and ours[0][1].keys() == theirs[0][1].keys()
    assert torch.equal(ours[0][0], theirs[0][0])
    assert torch.equal(ours[0][1]["pooled_output"], theirs[0][1]["pooled_output"])
    for model in (demo.model, demo.patched()):
        assert torch.equal(demo.sample(model, ours, steps=2), demo.sample(model, theirs, steps=2))


def test_of_different_lengths_with_clip_too(demo, conditioning_set):
    lines = ["a cat", ("a house " * 60).strip(), ("a moon, " * 180).strip()]
    ours = conditioning_set(*map(demo.encode, lines), clip=demo.clip)[0]
    theirs = demo.prompts(*lines)
    assert torch.equal(ours[0][0], theirs[0][0])
    assert torch.equal(ours[0][1]["pooled_output"], theirs[0][1]["pooled_output"])


def test_without_clip_prompts_are_repeated_and_each_is_as_alone(demo, conditioning_set, caplog):
    caplog.set_level(logging.INFO)
    alone = [demo.encode("a cat"), demo.encode("a house " * 60)]
    lengths = [c[0][0].shape[1] for c in alone]
    assert lengths[0] < lengths[1]
    made, _ = conditioning_set(*alone)
    assert f"prompts of {lengths[0]} to {lengths[1]} tokens are repeated to" in caplog.text
    check_each(demo, made, alone)


def check_each(demo, made, alone, model=None, **settings):
    """Picture i of the set is what conditioning i draws there."""
    batch = len(alone)
    together = demo.sample(model or demo.model, made, batch=batch, **settings)
    for i, conditioning in enumerate(alone):
        own = demo.sample(model or demo.model, conditioning, batch=batch, **settings)
        torch.testing.assert_close(together[i], own[i], **CLOSE)
    assert (together[0] - together[-1]).abs().mean() > 0.1


def regional(demo, mask, **details):
    """Two prompts, each with its half, as Conditioning (Set Mask) and (Combine) have it."""
    where = {"set_area_to_bounds": False, "mask_strength": 1.0, **details}
    return changed(demo.encode("a moon"), mask=mask, **where) + changed(
        demo.encode("a car"), mask=1 - mask, **where
    )


def kinds(demo):
    plain = demo.encode("a cat")
    positive, _ = controlled(demo, demo.encode("a tree"), control_net())
    return {
        "one is regional": [plain, regional(demo, left())],
        "both are regional, otherwise": [regional(demo, left().mT.contiguous()), regional(demo, left())],
        "one mask is stronger": [
            regional(demo, left()), regional(demo, left() * 0.5 + 0.25, mask_strength=0.5)
        ],
        "one is weaker": [
            plain + demo.encode("a cup"),
            changed(demo.encode("a fish"), strength=0.3) + demo.encode("a star"),
        ],
        "one is scheduled": [
            plain,
            changed(demo.encode("a fish"), start_percent=0.0, end_percent=0.5)
            + changed(demo.encode("a star"), start_percent=0.5, end_percent=1.0),
        ],
        "one has a ControlNet": [plain, positive],
        "one has another size": [plain, changed(demo.encode("a heart"), width=512, height=768)],
    }  # fmt: skip


KINDS = ("one is regional", "both are regional, otherwise", "one mask is stronger", "one is weaker",
         "one is scheduled", "one has a ControlNet", "one has another size")  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_picture_keeps_what_its_entries_have(demo, conditioning_set, kind):
    every = kinds(demo)
    assert set(every) == set(KINDS)
    alone = every[kind]
    made, count = conditioning_set(*alone)
    assert count == 2 and all(len(tokens) == 2 for tokens, _ in made)
    check_each(demo, made, alone)


def test_entries_that_are_alike_are_one(demo, conditioning_set, caplog):
    caplog.set_level(logging.INFO)
    made, _ = conditioning_set(demo.encode("a cat"), regional(demo, left()), demo.encode("a boat"))
    assert len(made) == 2 and [tuple(d["mask"].shape) for _, d in made] == 2 * [(3, 16, 16)]
    assert "entries" not in caplog.text
    made, _ = conditioning_set(
        demo.encode("a cat"), changed(demo.encode("a boat"), start_percent=0.5, end_percent=1.0)
    )
    assert len(made) == 2 and "2 pictures are 2 entries" in caplog.text


def test_an_area_that_all_have_is_kept(demo, conditioning_set):
    area = {"area": (8, 8, 0, 4), "strength": 1.0}
    alone = [
        demo.encode(a) + changed(demo.encode(b), **area) for a, b in (("a cat", "a moon"), ("a cup", "a car"))
    ]
    made, _ = conditioning_set(*alone)
    assert [d.get("area") for _, d in made] == [None, (8, 8, 0, 4)]
    check_each(demo, made, alone, size=16)


def test_sets_are_joined(demo, four, conditioning_set):
    made, count = conditioning_set(
        demo.prompts("a cat", "a house"), demo.encode("a boat"), demo.encode("a flower")
    )
    assert count == 4 and torch.equal(made[0][0], four[0][0])


def test_parts_of_the_batch_have_their_own(demo, reference, conditioning_set):
    """Masks too."""
    made, _ = conditioning_set(
        demo.encode("a cat"), regional(demo, left()), demo.encode("a cup"), regional(demo, left())
    )
    model = demo.patched(reference=reference)
    whole = demo.sample(model, made, steps=2)
    # Two entries per picture, each with its own rounding: other prompts differ by more than 1.
    torch.testing.assert_close(in_parts(demo, model, made), whole, rtol=0, atol=0.02)


def test_a_place_that_is_left_open_is_no_picture(demo, pack):
    inputs = {
        "conditioning10": demo.encode("a cat"),
        "conditioning2": demo.encode("a boat"),
        "conditioning0": None,
    }
    made, count = pack.nodes.prompts.ConditioningSet.execute(inputs).result
    assert count == 2 and torch.equal(made[0][0], demo.prompts("a boat", "a cat")[0][0])


def other_model(conditioning):
    return [[tokens[..., :12], details] for tokens, details in conditioning]


def without_pooled(conditioning):
    return [
        [tokens, {k: v for k, v in details.items() if k != "pooled_output"}]
        for tokens, details in conditioning
    ]


def cut(conditioning, length):
    return [[tokens[:, :length], details] for tokens, details in conditioning]


BAD = {
    "conditionings has none, expected one at least": lambda e, m: [],
    "conditioning1 has no entry, expected one prompt": lambda e, m: [e("a cat"), []],
    "conditioning0 has entries of 2 and 3 rows": lambda e, m: [
        [[t.repeat(n, 1, 1), d] for n in (2, 3) for t, d in e("a cat")]
    ],
    "conditioning1 has tokens of 12 channels and conditioning0 of": lambda e, m: [
        e("a cat"), other_model(e("a boat"))
    ],
    "conditioning1 has no pooled output, and conditioning0 has one": lambda e, m: [
        e("a cat"), without_pooled(e("a boat"))
    ],
    "conditioning1 has a mask whose bounds are its area": lambda e, m: [
        e("a cat"), changed(e("a boat"), mask=m, set_area_to_bounds=True)
    ],
    "conditioning1 has the areas (8, 8, 0, 0) and conditioning0 none": lambda e, m: [
        e("a cat"), changed(e("a boat"), area=(8, 8, 0, 0))
    ],
    "conditioning0 has an area, and the other pictures' entries differ": lambda e, m: [
        changed(e("a cat"), area=(8, 8, 0, 0), strength=1.0),
        changed(e("a boat"), area=(8, 8, 0, 0), strength=0.5),
    ],
    "conditioning1 has a ControlNet that acts on the negative too": lambda e, m: [
        e("a cat"), changed(e("a boat"), control=object(), control_apply_to_uncond=True)
    ],
    "conditioning1 has a default": lambda e, m: [e("a cat"), e("a cup") + changed(e("a boat"), default=True)],
    "the masks of one entry are 16 x 16 (conditioning0) and 8 x 8 (conditioning1)": lambda e, m: [
        changed(e("a cat"), mask=m), changed(e("a boat"), mask=left(8))
    ],
    "conditioning1 has 3 masks for 1 pictures": lambda e, m: [
        changed(e("a cat"), mask=m), changed(e("a boat"), mask=m.repeat(3, 1, 1))
    ],
    "the prompts have different numbers of tokens (conditioning0 77, conditioning1 76)": lambda e, m: [
        e("a cat"), cut(e("a boat"), 76)
    ],
}  # fmt: skip


@pytest.mark.parametrize("message", BAD)
def test_what_cannot_be_one_set_is_refused_by_name(demo, conditioning_set, message):
    conditionings = BAD[message](demo.encode, left())
    with pytest.raises(ValueError) as error:
        conditioning_set(*conditionings)
    assert str(error.value).startswith(f"Conditioning Set: {message}")


def test_another_model_s_clip_is_refused(demo, conditioning_set):
    short, long = other_model(demo.encode("a cat")), other_model(demo.encode("a house " * 60))
    with pytest.raises(
        ValueError, match="Conditioning Set: the clip input makes tokens of .* have 12, expected"
    ):
        conditioning_set(short, long, clip=demo.clip)
