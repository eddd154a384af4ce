"""Image encoders: the host's against transformers' per crop mode, wrong ones refused, content by text."""

import numpy as np
import pytest
import torch
from PIL import Image

from ..style_aligned.styling import context_width, make_embeds, structure_of, styled

pytestmark = pytest.mark.host

SIDE = 64
CONFIG = {
    "hidden_size": 96, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 3,
    "image_size": SIDE, "patch_size": 16, "num_channels": 3, "projection_dim": 128, "hidden_act": "gelu",
    "layer_norm_eps": 1e-5, "attention_dropout": 0.0, "initializer_factor": 1.0, "initializer_range": 0.02,
    "model_type": "clip_vision_model",
}  # fmt: skip


def twins(config=CONFIG, seed=3):
    """(the host's CLIP_VISION, transformers' model) with the same random weights."""
    import comfy.clip_vision
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    torch.manual_seed(seed)
    theirs = CLIPVisionModelWithProjection(CLIPVisionConfig(**config)).eval()
    state = {}
    for name, value in theirs.state_dict().items():
        value = value.clone()
        if value.ndim == 2 and "layers" in name:
            value *= 3  # at their initial size the layers hardly act
        state[name] = value
    theirs.load_state_dict(state)
    ours = comfy.clip_vision.ClipVisionModel(config)
    # Files have this prefix; in newer transformers the modules themselves do not.
    prefixed = {n if n.startswith("vis") else f"vision_model.{n}": v for n, v in state.items()}
    missing, extra = ours.load_sd(prefixed)
    assert not missing and all("position_ids" in name for name in extra)
    return ours, theirs


@pytest.fixture(scope="module")
def encoders():
    with torch.inference_mode():
        return twins()


@pytest.fixture(scope="module")
def photo(star):
    """(1, 120, 210, 3), so that every crop mode sees something else."""
    x = torch.nn.functional.interpolate(star.movedim(-1, 1), (120, 210), mode="bicubic").clamp(0, 1)
    return (x * 255).round().div(255).movedim(1, -1)


def squares(photo, crop):
    """What a crop mode should leave, by PIL: pictures, and transformers' settings for them."""
    picture = Image.fromarray((photo[0].numpy() * 255).round().astype(np.uint8))
    w, h = picture.size
    whole = {"do_center_crop": False, "size": {"height": SIDE, "width": SIDE}}
    if crop == "centre":
        return [picture], {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}
    if crop == "squash":
        return [picture], whole
    if crop == "pad":
        square = Image.new("RGB", (w, w), (123, 117, 104))  # CLIP's mean color
        square.paste(picture, (0, (w - h) // 2))
        return [square], whole
    side = h // 2
    lefts = [round(i * (w - side) / 3) for i in range(4)]
    return [picture.crop((x, y, x + side, y + side)) for y in (0, side) for x in lefts], whole


@pytest.mark.parametrize("crop", ["centre", "pad", "squash", "tiles"])
def test_the_host_and_transformers_see_the_same(pack, encoders, photo, crop):
    """Within 1 % of the embedding's length: the two resize with other code, and on a CPU the host keeps the
    encoder's weights in fp16. (Where the longer side does not come to whole pixels, the host rounds it and
    transformers cuts it: centre then sees up to half a pixel of the encoder's aside.)
    """
    from transformers import CLIPImageProcessor

    ours, theirs = encoders
    embeds = pack.nodes._host.instantstyle.vision.encode_images(ours, photo, crop, "test")
    pictures, settings = squares(photo, crop)
    pixels = CLIPImageProcessor(**settings)(pictures, return_tensors="pt")["pixel_values"]
    assert pixels.shape[2:] == (SIDE, SIDE)
    expected = theirs(pixel_values=pixels, output_hidden_states=True)
    assert embeds.pooled.shape == (len(pictures), 128)
    for a, b in ((embeds.pooled, expected.image_embeds), (embeds.hidden, expected.hidden_states[-2])):
        assert a.shape == b.shape
        error = (a - b).flatten(1).norm(dim=1) / b.flatten(1).norm(dim=1)
        assert float(error.max()) < 0.01, crop
    assert sum(embeds.weights) == pytest.approx(1.0)


def test_crop_modes_differ(pack, encoders, photo):
    encode = pack.nodes._host.instantstyle.vision.encode_images
    embeds = [
        encode(encoders[0], photo, crop, "test").pooled[0] for crop in ("centre", "pad", "squash", "tiles")
    ]
    for i, a in enumerate(embeds):
        assert all((a - b).norm() > 0.02 * a.norm() for b in embeds[:i])


def test_no_image_is_zero_pixels(pack, encoders, photo):
    ours, theirs = encoders
    embeds = pack.nodes._host.instantstyle.vision.encode_images(ours, photo, "centre", "test")
    pixels = torch.zeros(1, 3, SIDE, SIDE)
    expected = theirs(pixel_values=pixels, output_hidden_states=True).hidden_states[-2][0]
    assert embeds.blank.shape == expected.shape
    assert (embeds.blank - expected).norm() < 0.005 * expected.norm()


def test_transparency_is_dropped_and_batches_are_rows(pack, encoders, photo):
    encode = pack.nodes._host.instantstyle.vision.encode_images
    rgba = torch.cat([photo, torch.rand(1, 120, 210, 1)], -1)
    many = encode(encoders[0], rgba.repeat(11, 1, 1, 1), "pad", "test")
    one = encode(encoders[0], photo, "pad", "test")
    assert many.pooled.shape == (11, 128) and len(many.weights) == 11
    torch.testing.assert_close(many.pooled, one.pooled.expand(11, -1), rtol=0, atol=1e-5)


def adapter_for(pack, model, path, kind, features):
    from ..adapters import adapter_state, saved

    state = adapter_state(structure_of(pack, model), context_width(model), kind, features)
    return pack.zsamb_core.instantstyle.adapter_file.open_adapter(saved(state, path))


def test_a_picture_through_the_node(pack, demo, encoders, photo, four, tmp_path, stock):
    """IMAGE and CLIP_VISION give what embeds of them give, for base and plus; encoded by any crop."""
    for kind, features in (("base", 128), ("plus", 96)):
        adapter = adapter_for(pack, demo.model, tmp_path / f"{kind}.safetensors", kind, features)
        direct = styled(pack, demo.model, adapter, photo, clip_vision=encoders[0], crop="pad")[0]
        node = pack.nodes.style_embeds.EncodeStyleImages
        embeds = node.execute(encoders[0], photo, "1", "pad").result[0]
        by_embeds = styled(pack, demo.model, adapter, embeds)[0]
        out = demo.sample(direct, four)
        assert torch.equal(out, demo.sample(by_embeds, four))
        assert (out - stock).abs().mean() > 1e-3


def test_wrong_encoders_are_refused_before_they_run(pack, demo, encoders, photo, tmp_path, monkeypatch):
    """96 hidden and 128 projected channels: an adapter for 96 projected ones is not one for 96 hidden."""
    monkeypatch.setattr(type(encoders[0]), "encode_image", None)
    for kind, features in (("base", 96), ("plus", 128), ("base", 1024), ("plus", 1280)):
        adapter = adapter_for(pack, demo.model, tmp_path / f"{kind}{features}.safetensors", kind, features)
        with pytest.raises(ValueError, match="StyleBlockIPAdapter: the adapter is made for") as error:
            styled(pack, demo.model, adapter, photo, clip_vision=encoders[0])
        assert str(features) in str(error.value) and "96 hidden, 128 projected" in str(error.value)
    assert "clip_vision_h.safetensors in models/clip_vision" in str(error.value)
    with pytest.raises(ValueError, match="image input is an IMAGE and clip_vision is not connected"):
        styled(pack, demo.model, adapter, photo)


def test_an_encoder_without_a_projection_is_refused(pack, photo):
    import comfy.clip_vision

    config = {k: v for k, v in CONFIG.items() if k != "projection_dim"}
    other = comfy.clip_vision.ClipVisionModel({**config, "model_type": "siglip_vision_model"})
    with pytest.raises(ValueError, match="clip_vision input is a siglip_vision_model of 96 channels"):
        pack.nodes.style_embeds.EncodeStyleImages.execute(other, photo, "1", "centre")


def test_the_text_is_transformers_text(pack, demo):
    """The pooled, projected embedding of the SDXL CLIP's second encoder, not normalized."""
    from transformers import CLIPTextConfig, CLIPTextModelWithProjection

    from demo.unet import TEXT_G_CONFIG

    tower = demo.clip.cond_stage_model.clip_g.transformer
    config = CLIPTextConfig(**{**TEXT_G_CONFIG, "projection_dim": 128})
    config.eos_token_id = 2  # transformers then takes the highest token's place, as the published code did
    theirs = CLIPTextModelWithProjection(config).eval()
    state = {n: v.float() for n, v in tower.state_dict().items() if "position_ids" not in n}
    wanted = set(theirs.state_dict())
    state = {n if n in wanted else n.removeprefix("text_model."): v for n, v in state.items()}
    theirs.load_state_dict(state, strict=False)
    core = pack.zsamb_core.instantstyle.style_embeds
    text_space = pack.nodes._host.instantstyle.text_space
    content = text_space.content_of_text(demo.clip, "a cat", core.Encoder(96, 128), "test")
    ids = [i for i, *_ in demo.clip.tokenize("a cat")["g"][0]]
    expected = theirs(input_ids=torch.tensor([ids])).text_embeds[0]
    torch.testing.assert_close(content, expected, rtol=0, atol=1e-3)
    assert abs(float(content.norm()) - 1) > 0.1


def subtract(pack, embeds, method="subtract", scale=1.0, content="", **inputs):
    return pack.nodes.style_embeds.SubtractContent.execute(embeds, method, scale, content, **inputs).result[0]


@pytest.fixture(scope="module")
def image(pack, encoders, photo):
    with torch.inference_mode():
        return pack.nodes._host.instantstyle.vision.encode_images(encoders[0], photo, "centre", "test")


def test_subtraction_by_text_and_its_scale_0(pack, demo, image, four, tmp_path):
    core = pack.zsamb_core
    text = pack.nodes._host.instantstyle.text_space.content_of_text(demo.clip, "a cat", image.encoder, "test")
    changed = subtract(pack, image, scale=0.7, content="a cat", clip=demo.clip)
    assert torch.equal(changed.pooled, image.pooled - 0.7 * text) and changed.changed and not image.changed
    for method, function in (("project out", "project_out"), ("mask", "mask_content")):
        expected = getattr(core.instantstyle.content, function)(image.pooled, text)
        assert torch.equal(subtract(pack, image, method, content="a cat", clip=demo.clip).pooled, expected)
    # Scale 0 is none, bit for bit; the inline socket is the node.
    adapter = adapter_for(pack, demo.model, tmp_path / "x.safetensors", "base", 128)

    def draw(embeds, **settings):
        return demo.sample(styled(pack, demo.model, adapter, embeds, **settings)[0], four)

    plain = draw(image)
    assert torch.equal(draw(subtract(pack, image, scale=0.0, content="a cat", clip=demo.clip)), plain)
    assert torch.equal(draw(image, content="a cat", content_scale=0.0, clip=demo.clip), plain)
    inline = draw(image, content="a cat", content_scale=0.7, clip=demo.clip)
    assert torch.equal(inline, draw(changed)) and not torch.equal(inline, plain)


def test_nothing_is_subtracted_from_the_unconditional_branch(pack, demo, image, tmp_path):
    adapter = adapter_for(pack, demo.model, tmp_path / "x.safetensors", "base", 128)
    core, structure = pack.zsamb_core, structure_of(pack, demo.model)
    weights = core.instantstyle.blocks.preset_weights("style", list(structure))
    without = subtract(pack, image, content="a cat", clip=demo.clip)
    project = core.instantstyle.style_images.project_images
    a, b = (project(adapter, embeds, weights, structure) for embeds in (image, without))
    for layer in weights:
        assert all(
            torch.equal(x, y) for x, y in zip(a.blank.layers[layer], b.blank.layers[layer], strict=True)
        )
        assert not torch.equal(a.image.layers[layer][0], b.image.layers[layer][0])


def test_subtraction_by_image(pack, image, encoders, moon):
    encode = pack.nodes.style_embeds.EncodeStyleImages.execute
    shown = encode(encoders[0], torch.cat([moon, 1 - moon]), "3, 1", "centre").result[0]
    changed = subtract(pack, image, scale=0.5, content_embeds=shown)
    expected = image.pooled - 0.5 * (0.75 * shown.pooled[0] + 0.25 * shown.pooled[1])
    torch.testing.assert_close(changed.pooled, expected)
    with pytest.raises(ValueError, match="Subtract Content: .*expected one encoder"):
        subtract(pack, image, content_embeds=make_embeds(pack))


def other_clip(name, width, identity=False):
    """A CLIP of the host with one small text encoder, named as SD1.5's ("l") or SD2's ("h")."""
    import comfy.sd
    import comfy.supported_models_base
    from comfy import sd1_clip

    config = {
        "hidden_size": width, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": width,
        "hidden_act": "gelu", "max_position_embeddings": 77, "vocab_size": 49408, "eos_token_id": 49407,
    }  # fmt: skip

    class Tower(sd1_clip.SDClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(
                device=device,
                dtype=torch.float32,
                textmodel_json_config=config,
                model_options={**model_options, "model_name": f"clip_{name}"},
            )

    class Model(sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options={}):
            super().__init__(device, dtype, model_options, clip_name=name, clip_model=Tower)

    class Tokenizer(sd1_clip.SD1Tokenizer):
        def __init__(self, embedding_directory=None, tokenizer_data={}):
            super().__init__(embedding_directory, tokenizer_data, clip_name=name)

    target = comfy.supported_models_base.ClipTarget(Tokenizer, Model)
    clip = comfy.sd.CLIP(target)
    generator = torch.Generator().manual_seed(1)
    for parameter in clip.cond_stage_model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    if identity:
        tower = getattr(clip.cond_stage_model, f"clip_{name}")
        tower.transformer.text_projection.weight.data = torch.eye(width)
    return clip


def test_a_vit_h_like_tower_is_accepted_and_every_wrong_space_is_refused(pack, demo, image):
    right = other_clip("h", 128)
    changed = subtract(pack, image, content="a cat", clip=right)
    assert not torch.equal(changed.pooled, image.pooled)
    assert not torch.equal(changed.pooled, subtract(pack, image, content="a dog", clip=right).pooled)
    wrong = {
        "gives text without its projection": (other_clip("h", 128, identity=True), image),
        r"pooled text is ViT-L's \(64 channels\)": (other_clip("l", 64), image),
        r"pooled text is bigG's \(128 channels\)": (demo.clip, make_embeds(pack)),
    }
    for message, (clip, embeds) in wrong.items():
        with pytest.raises(ValueError, match=f"Subtract Content: .*{message}"):
            subtract(pack, embeds, content="a cat", clip=clip)
    with pytest.raises(ValueError, match="content text is empty"):
        subtract(pack, image, content="  ", clip=demo.clip)
    with pytest.raises(ValueError, match="neither of clip and content_embeds"):
        subtract(pack, image)
    with pytest.raises(ValueError, match="content is 'a cat' and clip is not connected"):
        subtract(pack, image, content="a cat", content_embeds=image)


def test_plus_adapters_refuse_subtraction_and_say_why(pack, demo, image, tmp_path):
    plus = adapter_for(pack, demo.model, tmp_path / "p.safetensors", "plus", 96)
    for embeds, settings in (
        (subtract(pack, image, content="a cat", clip=demo.clip), {}),
        (image, {"content": "a cat", "clip": demo.clip}),
    ):
        with pytest.raises(ValueError, match="plus adapter, which reads patch features"):
            styled(pack, demo.model, plus, embeds, **settings)


def test_weights_of_images(pack, encoders, photo, moon):
    encode = pack.nodes.style_embeds.EncodeStyleImages.execute
    two = torch.cat([photo, 1 - photo])
    assert encode(encoders[0], two, "2", "centre").result[0].weights == (2.0, 2.0)
    first = encode(encoders[0], two, "2, 0.5", "centre").result[0]
    chained = encode(encoders[0], moon, "3", "tiles", first).result[0]
    assert chained.weights == (2.0, 0.5, 0.75, 0.75, 0.75, 0.75)
    for text in ("1, 2, 3", "x", "-1", "nan", ""):
        with pytest.raises(ValueError, match="Encode Style Images: weights(:| is) .*for example: 1, 1"):
            encode(encoders[0], two, text, "centre")
    with pytest.raises(ValueError, match="Encode Style Images: all weights are 0"):
        encode(encoders[0], two, "0", "centre")
    with pytest.raises(ValueError, match="Encode Style Images: .*expected one encoder"):
        encode(encoders[0], two, "1", "centre", make_embeds(pack))
