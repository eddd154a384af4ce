"""NaN and infinity are refused where they enter, by node and input, before any model runs."""

import asyncio

import pytest
import torch

from .instantstyle.test_vision import twins
from .style_aligned.styling import block_weights, make_adapter, make_embeds, styled

pytestmark = pytest.mark.host
VALUES = [float("nan"), float("inf"), float("-inf")]


@pytest.fixture(scope="module")
def encoder():
    with torch.inference_mode():
        return twins()[0]


@pytest.fixture
def silent(demo, encoder, monkeypatch):
    """No model may run."""

    def ran(*_, **__):
        raise AssertionError("a model ran before its input was checked")

    monkeypatch.setattr(type(demo.model.model), "apply_model", ran)
    monkeypatch.setattr(type(encoder), "encode_image", ran)


def broken(x, value):
    """``x`` with one bad value."""
    x = x.clone()
    x.view(-1)[x.numel() // 2] = value
    return x


def prompt(demo, value, pooled=False):
    ((tokens, details),) = demo.encode("a star")
    if pooled:
        return [[tokens, {**details, "pooled_output": broken(details["pooled_output"], value)}]]
    return [[broken(tokens, value), details]]


def invert(demo, latent, positive=None, negative=None):
    prompts = positive or demo.encode("a star"), negative or demo.encode("")
    return demo.pack.nodes.references.DDIMInvert.execute(demo.model, latent, *prompts, 2, 1.0, 0, "simple")


def noise(demo, latent, positive=None, negative=None):
    prompts = positive or demo.encode("a star"), negative or demo.encode("")
    return demo.pack.nodes.references.NoiseReference.execute(demo.model, latent, *prompts, 1)


def record(demo, latent, positive=None, negative=None):
    prompts = positive or demo.encode("a star"), negative or demo.encode("")
    node = demo.pack.nodes.references.RecordReference
    return node.execute(demo.model, 1, 2, 4.0, "ddim", "simple", *prompts, latent, 1.0)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize(
    "node, name", [(invert, "DDIM Invert"), (noise, "Noise Reference"), (record, r"KSampler \(Record Ref")]
)
def test_references_refuse_latents_and_prompts(demo, silent, node, name, value):
    good, bad = torch.ones(1, 4, 8, 8), broken(torch.ones(1, 4, 8, 8), value)
    message = "1 of [0-9]+ values that are not numbers"
    with pytest.raises(ValueError, match=f"^{name}.*: the latent input has {message}"):
        node(demo, {"samples": bad})
    for pooled in (False, True):
        with pytest.raises(ValueError, match=f"^{name}.*: the positive input has {message}"):
            node(demo, {"samples": good}, positive=prompt(demo, value, pooled))
        with pytest.raises(ValueError, match=f"^{name}.*: the negative input has {message}"):
            node(demo, {"samples": good}, negative=prompt(demo, value, pooled))
    if node is record:
        with pytest.raises(ValueError, match=f"^{name}.*: the latent input's noise mask has {message}"):
            node(demo, {"samples": good, "noise_mask": broken(torch.ones(1, 8, 8), value)})


@pytest.mark.parametrize(
    "node, what", [(invert, "the path that the model made"), (record, "the picture that")]
)
def test_a_model_that_overflows_is_said(demo, node, what, monkeypatch):
    """As half precision does with some checkpoints."""

    def overflowing(self, x, *_, **__):
        return torch.full_like(x, float("nan"))

    monkeypatch.setattr(type(demo.model.model), "apply_model", overflowing)
    with pytest.raises(ValueError, match=f"{what}.* has [0-9]+ of .*--force-fp32"):
        node(demo, {"samples": torch.ones(1, 4, 8, 8)})


@pytest.mark.parametrize("value", VALUES)
def test_masks_and_numbers_of_references_are_refused(demo, reference, value):
    with pytest.raises(ValueError, match="Style Reference: the mask input has 1 of 64 values"):
        demo.weigh(reference, mask=broken(torch.ones(1, 8, 8), value))
    for name, settings in (
        ("score_shift", {"shift": value}),
        ("score_scale", {"shift": 0.0, "scale": value}),
    ):
        with pytest.raises(ValueError, match=f"Style Reference: a reference's {name} is"):
            demo.weigh(reference, **settings)


@pytest.mark.parametrize("shape", [(0, 8, 8), (1, 0, 8)])
def test_a_mask_of_nothing_is_refused(demo, reference, shape):
    with pytest.raises(ValueError, match="Style Reference: a reference's mask has shape"):
        demo.weigh(reference, mask=torch.ones(shape))


@pytest.mark.parametrize("value", VALUES)
def test_blends_refuse_latents_and_pictures(demo, star, value):
    node = demo.pack.nodes.blend.MultiRefBlend
    latents = {"reference0": {"samples": torch.ones(1, 4, 8, 8)}}
    latents["reference1"] = {"samples": broken(torch.ones(1, 4, 8, 8), value)}
    with pytest.raises(ValueError, match="Multi-Ref Blend: latent 2 of the references has 1 of 256"):
        node.execute("1", "karcher", "crop", latents)
    pictures = {"reference0": broken(star, value), "reference1": star}
    with pytest.raises(ValueError, match="Multi-Ref Blend: picture 1 of the references has 1 of"):
        node.execute("1", "karcher", "crop", pictures, demo.vae)


@pytest.mark.parametrize("value", VALUES)
def test_style_images_and_their_masks_are_refused(pack, demo, encoder, silent, star, tmp_path, value):
    node = pack.nodes.style_embeds.EncodeStyleImages
    with pytest.raises(ValueError, match="Encode Style Images: the image input has 1 of"):
        node.execute(encoder, broken(star, value), "1", "centre")
    adapter = make_adapter(pack, demo.model, tmp_path / "a.safetensors")
    embeds = make_embeds(pack)
    with pytest.raises(ValueError, match="StyleBlockIPAdapter: the mask input has 1 of 64"):
        styled(pack, demo.model, adapter, embeds, mask=broken(torch.ones(1, 8, 8), value))
    vision = pack.nodes._host.instantstyle.vision
    for name in ("image", "negative"):
        with pytest.raises(ValueError, match=f"StyleBlockIPAdapter: the {name} input has 1 of"):
            vision.encode_images(encoder, broken(star, value), "centre", "StyleBlockIPAdapter", name=name)


@pytest.mark.parametrize("value", VALUES)
@pytest.mark.parametrize("name", ["pooled", "hidden", "blank"])
def test_embeds_that_are_no_numbers_cannot_be(pack, name, value):
    """So that no node meets any: not from an encoder that overflows, a file, or a subtraction."""
    from dataclasses import replace

    embeds = make_embeds(pack)
    with pytest.raises(ValueError, match="of the style images has 1 of .* not numbers"):
        replace(embeds, **{name: broken(getattr(embeds, name), value)})


@pytest.mark.parametrize("value", VALUES)
def test_numbers_by_a_link_are_refused(pack, demo, silent, tmp_path, value):
    """The host holds what is typed to its bounds, but not what another node gives; and NaN passes those."""
    nodes, one = pack.nodes, {"samples": torch.ones(1, 4, 8, 8)}
    prompts = demo.encode("a star"), demo.encode("")
    adapter = make_adapter(pack, demo.model, tmp_path / "a.safetensors")
    embeds = make_embeds(pack)

    def refused(node, name):
        return pytest.raises(ValueError, match=f"^{node}: {name} is {value}, expected a number")

    for name, setting in (
        ("strength", "strength"),
        ("score_shift", "shift"),
        ("score_scale", "scale"),
        ("start_percent", "start_percent"),
        ("end_percent", "end_percent"),
    ):
        with refused("SharedAttention Patch", name):
            demo.patched(**{setting: value})
    with refused("AdaIN Queries", "strength"):
        demo.adain(strength=value)
    with refused("DDIM Invert", "cfg"):
        nodes.references.DDIMInvert.execute(demo.model, one, *prompts, 2, value)
    for name, cfg, denoise in (("cfg", value, 1.0), ("denoise", 4.0, value)):
        with refused(r"KSampler \(Record Reference\)", name):
            nodes.references.RecordReference.execute(
                demo.model, 1, 2, cfg, "ddim", "simple", *prompts, one, denoise
            )
    for name in ("weight", "content_scale", "start_percent", "end_percent"):
        with refused("StyleBlockIPAdapter", name):
            styled(pack, demo.model, adapter, embeds, **{name: value})
    with refused("Block Weights", "output_1"):
        block_weights(pack, output_1=value)
    with refused("Subtract Content", "scale"):
        nodes.style_embeds.SubtractContent.execute(embeds, "subtract", value, "", content_embeds=embeds)
    for name in ("cache_minutes", "timeout"):
        settings = {"cache_minutes": 10.0, "timeout": 1.0, name: value}
        ask = nodes.weather.DescribeWeather.execute(
            "Open-Meteo", "Rome", "metric", "{condition}", offline="", **settings
        )
        with refused("Describe Weather", name):
            asyncio.run(ask)
