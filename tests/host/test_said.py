"""Where an input does nothing, one line in the log says so."""

import logging
from functools import partial

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture
def log_line(caplog):
    caplog.set_level(logging.INFO)

    def line(part):
        """The one line with ``part``."""
        messages = [r.getMessage() for r in caplog.records if part in r.getMessage()]
        assert len(messages) == 1, (part, [r.getMessage() for r in caplog.records])
        caplog.clear()
        return messages[0]

    line.nothing = lambda part: part not in caplog.text
    return line


def patch(demo, **settings):
    node = demo.pack.nodes.style_aligned.SharedAttention
    values = {i.id: i.default for i in node.define_schema().inputs if getattr(i, "default", None) is not None}
    return node.execute(**{**values, "model": demo.model, **settings}).result[0]


def test_no_reference(demo, reference, log_line):
    patch(demo)
    assert log_line("no reference is connected").endswith("the first picture is it.")
    patch(demo, share="all pictures")
    assert log_line("no reference is connected").endswith("see each other.")
    patch(demo, reference=reference)
    assert log_line.nothing("no reference")


@pytest.mark.parametrize("typed", [{"score_shift": -5.0}, {"score_scale": 0.3}])
@pytest.mark.parametrize("preset", ["auto", "normal", "famous", "none"])
def test_a_shift_beside_a_preset(demo, log_line, preset, typed):
    ((name, value),) = typed.items()
    patch(demo, preset=preset, **typed)
    assert log_line("does nothing with preset") == (
        f"SharedAttention Patch: {name} {value:g} does nothing with preset {preset}. Choose preset custom."
    )
    patch(demo, preset="custom", **typed)
    patch(demo, preset=preset)
    assert log_line.nothing("does nothing")


def test_a_shift_beside_a_reference_s_preset(demo, reference, log_line):
    node = demo.pack.nodes.references.WeighReference
    node.execute(1.0, "as the patch", -5.0, 0.3, 0, reference)
    assert log_line("do nothing").startswith("Style Reference: score_shift -5 and score_scale 0.3 do nothing")
    node.execute(1.0, "custom", -5.0, 0.3, 0, reference)
    assert log_line.nothing("nothing")


def test_a_second_patch_in_a_row(demo, reference, log_line):
    first = patch(demo, reference=reference)
    patch(demo, model=first)
    assert "takes its place, reference and all" in log_line("SharedAttention Patch already")
    patch(demo, model=first, strength=0.0)  # a way to switch it off
    assert log_line.nothing("already")
    demo.adain(demo.adain())
    log_line("the model has AdaIN Queries already")


def test_what_leaves_the_patch_without_effect(demo, log_line):
    patch(demo, only_self_level=1.0)
    log_line("no layer shares")
    demo.adain(queries=False, keys=False)
    log_line("AdaIN Queries: queries, keys and values are all off")
    demo.adain(strength=0.0)
    log_line("AdaIN Queries: strength is 0")
    patch(demo, share="all pictures", preset="famous")
    log_line("preset famous does nothing with share all pictures and no reference")


def test_one_picture_alone(demo, log_line):
    demo.sample(demo.patched(), demo.prompts("a cat"), batch=1, steps=1)
    log_line("one picture and no reference")


def test_several_prompts_for_one_picture(demo, star, four, log_line):
    nodes, latent = demo.pack.nodes.references, {"samples": demo.vae.encode(star)}
    empty, negative = {"samples": torch.zeros(1, 4, 16, 16)}, demo.encode("")
    nodes.DDIMInvert.execute(demo.model, latent, four, negative, 1, 1.0, 0, "simple")
    assert log_line("DDIM Invert: positive holds 4 prompts").endswith("the first of them is taken.")
    nodes.NoiseReference.execute(demo.model, latent, negative, four, 1)
    log_line("Noise Reference: negative holds 4 prompts")
    nodes.RecordReference.execute(demo.model, 1, 1, 4.0, "ddim", "simple", four, negative, empty, 1.0)
    log_line("KSampler (Record Reference): positive holds 4 prompts")


def test_decimal_commas(demo, pack, star, tmp_path, log_line):
    from .style_aligned.styling import make_adapter, make_embeds, styled

    adapter = make_adapter(pack, demo.model, tmp_path / "adapter.safetensors")
    styled(pack, demo.model, adapter, make_embeds(pack), weight_curve="0,5")
    assert log_line("weight_curve '0,5' is read as 0, 5").startswith("StyleBlockIPAdapter: ")
    with pytest.raises(ValueError, match="StyleBlockIPAdapter: weight_curve: '0,5 1,5' has decimal commas"):
        styled(pack, demo.model, adapter, make_embeds(pack), weight_curve="0,5 1,5")
    rows = partial(pack.nodes.blend.weight_rows, node="Multi-Ref Blend")
    assert rows("0,7", 2) == [[0, 7]]
    log_line("Multi-Ref Blend: weights '0,7' is read as 0, 7")
    with pytest.raises(ValueError, match="weights: '0,7 0,3' has decimal commas. Write a point: 0.7 0.3"):
        rows("0,7 0,3", 2)
    assert pack.nodes.style_embeds.parse_numbers("1,2", 2, "Encode Style Images") == (1, 2)
    log_line("Encode Style Images: weights '1,2' is read as 1, 2")
    with pytest.raises(ValueError, match="Encode Style Images: weights: '0,05' has decimal commas"):
        pack.nodes.style_embeds.parse_numbers("0,05", 2, "Encode Style Images")


def test_what_does_nothing_in_instantstyle(pack):
    without_effect = pack.nodes.ip_adapter.without_effect
    assert without_effect("style", None, "", 0.5, None) == []
    assert without_effect("style", {}, "a cat", 0.5, object()) == []
    assert without_effect("all", {}, "", 0.5, None) == ["block_weights takes the place of preset all"]
    assert without_effect("style", None, "a cat", 0.0, object()) == [
        "content_scale is 0, so nothing is subtracted"
    ]
    (line,) = without_effect("style", None, "", 0.5, object())
    assert line.startswith("content is empty")
