"""Save and Load Style Reference: what is drawn with a loaded reference, names, pictures, and errors."""

import logging
from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(autouse=True)
def folders(pack, tmp_path, monkeypatch):
    """The host's folders, of this test's own."""
    import folder_paths

    paths = [str(tmp_path / place / "style_references") for place in ("models", "output")]
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "style_references", (paths, {".safetensors"}))
    (tmp_path / "models" / "style_references").mkdir(parents=True)
    (tmp_path / "temp").mkdir()
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


@pytest.fixture
def nodes(pack):
    return pack.nodes.reference_files


def kept(nodes, reference, **inputs):
    """The reference by way of a file."""
    name = nodes.SaveStyleReference.execute(reference, "kept/x", **inputs).result[0]
    return nodes.LoadStyleReference.execute(name).result[0]


def draw(demo, four, reference, **settings):
    return demo.sample(demo.patched(shift=0.7, reference=reference, **settings), four)


def record(demo, prompt, sampler, denoise=1.0):
    node = demo.pack.nodes.references.RecordReference
    latent = {"samples": torch.ones(1, 4, 8, 8)}
    return node.execute(
        demo.model, 5, 4, 4.0, sampler, "simple", prompt, demo.encode(""), latent, denoise
    ).result[0]  # fmt: skip


def noised(demo, star):
    node, latent = demo.pack.nodes.references.NoiseReference, {"samples": demo.vae.encode(star)}
    return node.execute(demo.model, latent, demo.encode("a star"), demo.encode(""), 7).result[0]


def sized(demo):
    """A prompt with SDXL's sizes, as the host's CLIPTextEncodeSDXL makes it."""
    ids = {"width": 512, "height": 256, "crop_w": 16, "crop_h": 0, "target_width": 128, "target_height": 96}
    tokens = demo.clip.tokenize("a star")
    return demo.clip.encode_from_tokens_scheduled(tokens, add_dict=ids)


def mask():
    left = torch.zeros(1, 64, 64)
    left[..., :24] = 0.7
    return left


WAYS = {
    "inverted": lambda demo, star, a, b: a,
    "refined, other size": lambda demo, star, a, b: demo.invert(star[:, :96], refinements=1, cfg=2.0)[0],
    "noised": lambda demo, star, a, b: noised(demo, star),
    "recorded": lambda demo, star, a, b: record(demo, demo.encode("a star"), "dpmpp_2m"),
    "recorded with noise": lambda demo, star, a, b: record(demo, demo.encode("a"), "euler_ancestral", 0.6),
    "sized prompt": lambda demo, star, a, b: record(demo, sized(demo), "ddim"),
    "several prompts": lambda demo, star, a, b: record(demo, demo.prompts("a cat", "a boat"), "ddim"),
    "weighed": lambda demo, star, a, b: demo.weigh(a, 0.3, b, mask(), offset=1, shift=1 / 3, scale=0.9),
    "halves": lambda demo, star, a, b: demo.weigh(a, 0.5, demo.weigh(a, 0.5)),
    "a blend": lambda demo, star, a, b: demo.pack.nodes.blend.MultiRefBlend.execute(
        "0.7, 0.3", "karcher", "crop", {"reference0": a, "reference1": b}
    ).result[1],
}


@pytest.mark.parametrize("way", WAYS)
def test_a_loaded_reference_draws_what_the_saved_one_drew_bit_for_bit(
    demo, four, star, reference, other, nodes, way
):
    saved = WAYS[way](demo, star, reference, other)
    loaded = kept(nodes, saved)
    assert loaded is not saved
    pictures = draw(demo, four, saved)
    assert torch.equal(draw(demo, four, loaded), pictures)
    assert not torch.equal(draw(demo, four, kept(nodes, demo.weigh(saved, shift=-0.5))), pictures)


def test_the_sizes_of_a_prompt_count(demo, four, nodes):
    """Else the case above would say nothing of them."""
    saved = record(demo, sized(demo), "ddim")
    (one,) = kept(nodes, saved).references
    assert one.positive[0][1]["width"] == 512 and one.positive[0][1]["crop_w"] == 16
    plain = [[one.positive[0][0], {"pooled_output": one.positive[0][1]["pooled_output"]}]]
    other = type(saved)((replace(one, positive=plain),))
    assert not torch.equal(draw(demo, four, other), draw(demo, four, saved))


def test_a_loaded_reference_goes_on_in_a_chain(demo, four, reference, other, nodes):
    chain = demo.weigh(reference, 0.4, others=other)
    again = demo.weigh(kept(nodes, reference), 0.4, others=kept(nodes, other))
    assert torch.equal(draw(demo, four, again), draw(demo, four, chain))
    shared = {"share_group_norm": True, "share": "all pictures"}
    assert torch.equal(draw(demo, four, kept(nodes, chain), **shared), draw(demo, four, chain, **shared))


def test_files_are_numbered_nested_and_never_replaced(reference, other, nodes, folders):
    save = nodes.SaveStyleReference.execute
    names = [save(r, "ink/brush").result[0] for r in (reference, other)]
    assert names == ["ink/brush_00001_.safetensors", "ink/brush_00002_.safetensors"]
    first = folders / "output" / "style_references" / names[0]
    content = first.with_name("brush_00002_.safetensors").read_bytes()
    first.unlink()
    assert save(reference, "ink/brush").result[0] == "ink/brush_00003_.safetensors"
    assert save(reference, "").result[0] == "reference_00001_.safetensors"
    assert first.with_name("brush_00002_.safetensors").read_bytes() == content and not first.exists()
    options = nodes.LoadStyleReference.define_schema().inputs[0].options
    assert {"ink/brush_00002_.safetensors", "reference_00001_.safetensors"} <= {
        name.replace("\\", "/") for name in options
    }


@pytest.mark.parametrize("prefix", ["../x", "/etc/x", ".", "a/..", "x" * 240])
def test_a_prefix_that_is_no_place_is_named(reference, nodes, folders, prefix):
    with pytest.raises(
        ValueError, match="^Save Style Reference: filename_prefix is .*name such as reference"
    ):
        nodes.SaveStyleReference.execute(reference, prefix)
    assert not [p for p in folders.rglob("*") if p.is_file()]


def test_the_picture_comes_back_and_is_shown(reference, star, nodes, folders):
    name = nodes.SaveStyleReference.execute(reference, "x", star).result[0]
    loaded = nodes.LoadStyleReference.execute(name)
    picture = loaded.result[1]
    assert picture.shape == star.shape and (picture - star).abs().mean() < 0.02
    (shown,) = loaded.ui.as_dict()["images"]
    assert (folders / "temp" / shown["filename"]).is_file()


def test_where_there_is_no_picture_a_gray_one_stands_and_the_log_says_so(reference, nodes, caplog):
    caplog.set_level(logging.INFO)
    name = nodes.SaveStyleReference.execute(reference, "x").result[0]
    loaded = nodes.LoadStyleReference.execute(name)
    assert loaded.result[1].shape == (1, 256, 256, 3) and (loaded.result[1] == 0.5).all()
    assert loaded.ui is None
    assert [r.getMessage() for r in caplog.records if "without a picture" in r.getMessage()] == [
        f"Load Style Reference: {name} was saved without a picture: output picture is plain gray."
    ]


def test_of_several_pictures_the_first_is_kept(reference, star, nodes, caplog):
    name = nodes.SaveStyleReference.execute(reference, "x", torch.cat([star, 1 - star])).result[0]
    assert "picture holds 2 pictures: the first of them is taken" in caplog.text
    assert (nodes.LoadStyleReference.execute(name).result[1] - star).abs().mean() < 0.02
    broken = star.clone()
    broken[0, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="Save Style Reference: the picture input has 1 of"):
        nodes.SaveStyleReference.execute(reference, "x", broken)


def test_what_a_prompt_carries_is_refused_by_name(demo, star, nodes, folders):
    """The host's own ControlNet and hooks, as its nodes put them into a prompt."""
    import comfy.controlnet
    import comfy.hooks

    control = comfy.controlnet.ControlBase()
    tokens, details = demo.encode("a star")[0]
    for carried, message in (
        ({"control": control}, "a ControlNet in its entry 1 .control is a ControlBase"),
        ({"hooks": comfy.hooks.HookGroup()}, "hooks .scheduled LoRAs or weights. in its entry 1"),
    ):
        reference = noised(demo, star)
        (one,) = reference.references
        with_it = type(reference)((replace(one, positive=[[tokens, {**details, **carried}]]),))
        expected = f"^Save Style Reference: reference 1: the positive prompt carries {message}"
        with pytest.raises(ValueError, match=expected):
            nodes.SaveStyleReference.execute(with_it, "x")
    assert not [p for p in folders.rglob("*") if p.is_file()]


def test_missing_and_broken_files_are_named(reference, nodes, folders):
    load = nodes.LoadStyleReference.execute
    with pytest.raises(ValueError, match="Load Style Reference: the file 'no.safetensors' was not found"):
        load("no.safetensors")
    place = folders / "models" / "style_references" / "cut.safetensors"
    place.write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match="Load Style Reference: cut.safetensors cannot be read as safetens"):
        load("cut.safetensors")
    name = nodes.SaveStyleReference.execute(reference, "x").result[0]
    content = (folders / "output" / "style_references" / name).read_bytes()
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(
        ValueError, match="Load Style Reference: cut.safetensors is a damaged style reference"
    ):
        load("cut.safetensors")


def test_a_file_that_changes_is_loaded_again(reference, other, nodes, folders):
    import os

    fingerprint = nodes.LoadStyleReference.fingerprint_inputs
    name = nodes.SaveStyleReference.execute(reference, "x").result[0]
    first = fingerprint(name)
    assert fingerprint(name) == first
    os.utime(folders / "output" / "style_references" / name, ns=(1, 1))
    assert fingerprint(name) != first


def test_a_reference_of_another_model_is_refused_before_anything_is_loaded(
    demo, four, reference, nodes, monkeypatch
):
    """As one of SDXL's, with tokens of 2048 channels, on the demo model."""
    import comfy.sampler_helpers

    def loaded(*_, **__):
        raise AssertionError("the model was loaded before the reference was checked")

    (one,) = reference.references
    wide = [[torch.ones(1, 77, 2048), {"pooled_output": torch.ones(1, 1280)}]]
    for name in ("positive", "negative"):
        foreign = kept(nodes, type(reference)((replace(one, **{name: wide}),)))
        with monkeypatch.context() as patch:
            patch.setattr(comfy.sampler_helpers, "prepare_sampling", loaded)
            with pytest.raises(
                ValueError,
                match=f"SharedAttention Patch: a reference's {name} prompt has tokens of 2048 channels,"
                " expected 192 .*another kind of model",
            ):
                draw(demo, four, foreign)


def test_references_of_two_models_are_not_blended(reference, other, pack, nodes):
    (one,) = reference.references
    wide = [[torch.ones(1, 77, 2048), {"pooled_output": torch.ones(1, 1280)}]]
    foreign = kept(nodes, type(reference)((replace(one, positive=wide, negative=wide),)))
    with pytest.raises(ValueError, match="Multi-Ref Blend: .* tokens of 192 and 2048 channels, expected one"):
        pack.nodes.blend.MultiRefBlend.execute(
            "1", "karcher", "crop", {"reference0": other, "reference1": foreign}
        )


def test_a_model_that_does_not_say_its_width_is_not_refused(demo, four, pack, reference, monkeypatch):
    width = pack.nodes._host.sdxl.context_width
    assert width(demo.model) == 192
    pictures = draw(demo, four, reference)
    monkeypatch.setattr(demo.model.model.model_config, "unet_config", {})
    assert width(demo.model) is None
    assert torch.equal(draw(demo, four, reference), pictures)
