"""Recorded attention is the layers' own, and recording changes nothing."""

import math

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture
def recording(demo):
    """A patched model, the same that records, and its record."""

    def recording(model=None, **settings):
        plain = demo.patched(model, **settings)
        return plain, *demo.pack.nodes.attention_picture.RecordAttention.execute(plain).result

    return recording


def show(demo, record, samples, images=None, blocks="all", size=64, start=0.0, end=1.0):
    node = demo.pack.nodes.attention_picture.AttentionPicture
    return node.execute(record, {"samples": samples}, blocks, size, start, end, images).result[0]


def masked(demo, reference):
    mask = torch.zeros(1, 64, 64)
    mask[..., :32] = 1
    return demo.weigh(reference, mask=mask)


@pytest.mark.parametrize(
    "kind", ["prompts alone", "a reference", "a mask", "in parts", "parts of a reference"]
)
def test_what_is_drawn_is_the_same_to_the_last_bit(demo, four, reference, recording, kind):
    settings = {
        "prompts alone": {},
        "a reference": {"reference": reference, "shift": math.log(2), "share_group_norm": True},
        "a mask": {"reference": masked(demo, reference)},
        "in parts": {"pictures_at_once": 2},
        "parts of a reference": {"reference": reference, "pictures_at_once": 3},
    }[kind]
    plain, model, record = recording(**settings)
    drawn = demo.sample(model, four)
    assert torch.equal(drawn, demo.sample(plain, four))
    maps = record.of(drawn)
    assert len(maps.levels(0, 1)) == demo.steps and len(maps.blocks) == 11
    alone = "reference" not in settings
    for block in maps.blocks:
        mean = maps.mean(block, maps.levels(0, 1))
        assert mean[0].isnan().all() == alone and not mean[1:].isnan().any()
        assert mean[1:].min() >= 0 and mean[1:].max() <= 1


def softmax_mass(q, k, parts, heads):
    """(rows, N): the explicit softmax's mass on the parts' tokens, mean over heads."""

    def split(x):
        return x.unflatten(-1, (heads, -1)).movedim(-2, -3).double()

    queries, width = split(q), (q.shape[-1] // heads) ** -0.5
    logits = [queries @ split(k).mT * width]
    for part in parts:
        shift = part.shift[:, None, :, None] if isinstance(part.shift, torch.Tensor) else part.shift
        logits.append(queries @ split(part.k).mT * (width * part.scale) + shift)
    return torch.softmax(torch.cat(logits, -1), -1)[..., k.shape[1] :].sum(-1).mean(1)


@pytest.mark.parametrize("kind", ["prompts alone", "a reference", "a mask"])
def test_the_recorded_share_is_the_softmax_s_mass(demo, four, reference, recording, monkeypatch, kind):
    """Of the positive prompt's rows, as the layers get their queries and keys: mean over heads, layers and
    steps.
    """
    layers = demo.pack.nodes._host.style_aligned.layers
    expected = {}
    shared, noted = layers.shared_attention, layers.note_shares
    seen = []

    def spy(q, k, v, parts, heads, whole=None, shares=None):
        seen.append([softmax_mass(q[g], k[g], parts[g], heads) for g in range(len(q))])
        return shared(q, k, v, parts, heads, whole, shares)

    def note(call, layer, pictures, shares, extra):
        # The positive chunk by the host's own index, 0.
        mass = seen.pop()[extra["cond_or_uncond"].index(0)]
        expected.setdefault(layer.block, []).append(mass)
        noted(call, layer, pictures, shares, extra)

    monkeypatch.setattr(layers, "shared_attention", spy)
    monkeypatch.setattr(layers, "note_shares", note)
    settings = {
        "prompts alone": {"shift": 0.4},
        "a reference": {"reference": reference, "shift": math.log(2), "scale": 0.7},
        "a mask": {"reference": masked(demo, reference)},
    }[kind]
    _, model, record = recording(**settings)
    drawn = demo.sample(model, four)
    maps = record.of(drawn)
    assert set(expected) == set(maps.blocks)
    for block, masses in expected.items():
        mean = maps.mean(block, maps.levels(0, 1)).flatten(1)[-len(masses[0]) :]
        torch.testing.assert_close(mean.double(), torch.stack(masses).mean(0), rtol=0, atol=1e-5)
    assert max(float(x.std()) for x in expected[("input", 4)]) > 1e-3


def test_a_mask_is_seen_in_the_maps(demo, four, reference, recording):
    """The reference counts on the left half alone."""
    _, model, record = recording(reference=masked(demo, reference))
    drawn = demo.sample(model, four)
    maps = record.of(drawn)
    mean = maps.mean(("input", 4), maps.levels(0, 1))
    width = mean.shape[-1] // 2
    assert mean[..., :width].min() > 0.1 and mean[..., width:].max() == 0


def test_parts_of_a_batch_have_the_maps_of_the_whole(demo, four, reference, recording):
    whole, parts = (recording(reference=reference, pictures_at_once=n) for n in (0, 3))
    maps = []
    for _, model, record in (whole, parts):
        maps.append(record.of(demo.sample(model, four)))
    levels = maps[0].levels(0, 1)
    for block in maps[0].blocks:
        torch.testing.assert_close(*(m.mean(block, levels) for m in maps), rtol=0, atol=1e-3)


@pytest.mark.parametrize("alone", [True, False])
def test_each_picture_s_strength_is_seen_in_its_map(demo, four, reference, recording, alone):
    """At its own strength a picture has the map of a set that is all at that strength; at 0 it looks at
    nothing, which is no gap in the maps. What prompts alone have for a reference has none.
    """
    settings = {} if alone else {"reference": reference}
    factors = (1.0, 0.5, 0.0, 1.0)
    _, model, record = recording(**settings, strength_by_picture=", ".join(map(str, factors)))
    maps = record.of(demo.sample(model, four))
    levels = maps.levels(0, 1)
    for picture, factor in list(enumerate(factors))[alone:]:
        for block in (("input", 4), ("output", 5)):
            own = maps.mean(block, levels)[picture]
            if not factor:
                assert not own.any()
                continue
            _, at_strength, its_record = recording(**settings, strength=factor)
            uniform = its_record.of(demo.sample(at_strength, four)).mean(block, levels)[picture]
            torch.testing.assert_close(own, uniform, rtol=0, atol=1e-3)
    assert maps.mean(("input", 4), levels)[0].isnan().all() == alone


def test_each_run_has_its_own_maps(demo, four, recording):
    """Two seeds on one model, whatever was drawn last; an interrupted run leaves nothing."""
    _, model, record = recording()
    one, two = (demo.sample(model, four, seed=s) for s in (1, 2))

    def interrupt(args):
        raise RuntimeError("interrupted")

    broken = model.clone()
    broken.set_model_sampler_post_cfg_function(interrupt)
    with pytest.raises(RuntimeError, match="interrupted"):
        demo.sample(broken, four, seed=3)
    assert len(record) == 2
    pictures = [show(demo, record, x) for x in (one, two, one)]
    assert torch.equal(pictures[0], pictures[2]) and not torch.equal(pictures[0], pictures[1])


def test_branches_do_not_fill_each_other_s_record(demo, four, recording):
    plain, model, record = recording()
    other, others = demo.pack.nodes.attention_picture.RecordAttention.execute(plain).result
    demo.sample(other, four)
    demo.sample(plain, four)
    assert len(record) == 0 and len(others) == 1


def test_the_picture_has_a_row_for_each_block(demo, four, recording):
    """Rows: pictures, mean, blocks, scale. From prompts alone the first column is the picture alone."""
    _, model, record = recording()
    drawn = demo.sample(model, four)
    images = torch.rand(4, 64, 64, 3)
    sheets = [
        show(demo, record, drawn, images, blocks) for blocks in ("input 4", "input 4, output 0-2", "all")
    ]
    heights = [sheet.shape[1] for sheet in sheets]
    row = (heights[2] - heights[1]) / 7
    assert row == (heights[1] - heights[0]) / 4 > 64
    bare = show(demo, record, drawn, None, "input 4")
    assert sheets[0].shape[1] - bare.shape[1] == 64 + 8
    found = [
        torch.equal(sheets[0][0, y : y + 64, x : x + 64], images[0])
        for y in range(60)
        for x in range(sheets[0].shape[2] - 64)
    ]
    assert sum(found) == 1


def test_the_window_chooses_the_steps(demo, four, recording):
    _, model, record = recording()
    drawn = demo.sample(model, four, steps=4)
    sheets = [show(demo, record, drawn, None, "input 4", 64, *w) for w in ((0, 0.25), (0.75, 1), (0, 0.2))]
    assert torch.equal(sheets[0], sheets[2]) and not torch.equal(sheets[0], sheets[1])


def test_a_model_without_sharing_is_refused_before_any_work(demo, reference):
    record = demo.pack.nodes.attention_picture.RecordAttention.execute
    with pytest.raises(ValueError, match="Record Attention: the model shares no attention.*strength above 0"):
        record(demo.model)
    with pytest.raises(ValueError, match="shares no attention"):
        record(demo.patched(strength=0.0))
    with pytest.raises(ValueError, match="share all pictures, expected reference"):
        record(demo.patched(share="all pictures", reference=reference))


def test_what_was_not_recorded_is_said(demo, four, recording):
    plain, model, record = recording()
    with pytest.raises(ValueError, match="Attention Picture: nothing was recorded yet.*change the seed"):
        show(demo, record, torch.zeros(4, 4, 8, 8))
    drawn = demo.sample(model, four)
    with pytest.raises(ValueError, match="none of the 1 recorded runs drew this latent"):
        show(demo, record, drawn * 0.5)
    with pytest.raises(ValueError, match=r"images has shape \(3, 64, 64, 3\), expected the 4 pictures"):
        show(demo, record, drawn, torch.zeros(3, 64, 64, 3))
    with pytest.raises(ValueError, match="Attention Picture: images has 12288 of 49152 values that are not"):
        images = torch.zeros(4, 64, 64, 3)
        images[1] = math.nan
        show(demo, record, drawn, images)
    with pytest.raises(ValueError, match="Attention Picture: blocks: 'output 9' names no block"):
        show(demo, record, drawn, None, "output 9")
    with pytest.raises(ValueError, match="start_percent is 0.5 and end_percent 0.5"):
        show(demo, record, drawn, start=0.5, end=0.5)
    with pytest.raises(ValueError, match="size is 0, expected 1 pixel or more"):
        show(demo, record, drawn, size=0)
    alone = demo.sample(model, demo.encode("a cat"), batch=1)
    with pytest.raises(ValueError, match="shared no attention that can be shown"):
        show(demo, record, alone)


def test_layers_that_do_not_share_have_no_row(demo, four, recording):
    _, model, record = recording(blocks="input 4, output 5")
    maps = record.of(demo.sample(model, four))
    assert maps.blocks == (("input", 4), ("output", 5))


def test_areas_are_not_recorded(demo, four, reference, recording):
    """A call on a part of the picture tells nothing of which part. The whole picture's calls count."""
    from nodes import ConditioningSetArea

    _, model, record = recording(reference=reference)
    area = ConditioningSetArea().append(demo.encode("a cat"), 32, 64, 0, 0, 1.0)[0]
    drawn = demo.sample(model, area, batch=2)
    with pytest.raises(ValueError, match="Tiles, areas"):
        show(demo, record, drawn)
