"""StyleBlockIPAdapter against diffusers' IP-Adapter: one set of random weights for the UNet in both, one
random adapter file, the same noise, and noise predictions that agree.
"""

import copy
from types import SimpleNamespace

import pytest
import torch
from diffusers.image_processor import IPAdapterMaskProcessor
from diffusers.loaders import IPAdapterMixin

from ..style_aligned.styling import make_adapter, rand, structure_of, styled
from ..style_aligned.styling import make_embeds as embeds
from ..style_aligned.twins import CONTEXT, POOLED, SD15_CONFIG, diffusers_sd15, diffusers_unet, host_model

pytestmark = pytest.mark.host

HEIGHT, WIDTH, ROWS = 12, 16, 3
TOLERANCE = 1e-4
STYLE, LAYOUT = {"up": {"block_0": [0.0, 1.0, 0.0]}}, {"down": {"block_2": [0.0, 1.0]}}
SCALES = {
    "style": STYLE,
    "layout": LAYOUT,
    "style and layout": STYLE | LAYOUT,
    "strong style": {"down": {"block_1": [1.0, 1.0], "block_2": [1.0, 0.0]}, "mid": 1.0, "up": 1.0},
    "all": 1.0,
}


SIGMA = 2.3
PROMPTS = (rand(2, ROWS, 77, CONTEXT), rand(3, ROWS, POOLED))
NEGATIVES = (rand(4, ROWS, 77, CONTEXT), rand(5, ROWS, POOLED))


@pytest.fixture(scope="module")
def network():
    unet = diffusers_unet()
    for name, parameter in unet.named_parameters():
        if ".attn2.to_q." in name:
            parameter *= 2  # or every token is seen alike
    return unet


@pytest.fixture(scope="module")
def model(network):
    return host_model(network)


@pytest.fixture(scope="module")
def make(pack, model, tmp_path_factory):
    """(state, STYLE_ADAPTER) of a random adapter."""

    def make(kind, seed=1):
        states = []
        path = tmp_path_factory.mktemp("adapters") / "x.safetensors"
        adapter = make_adapter(pack, model, path, kind, seed, change=states.append)
        return states[0], adapter

    return make


def patched(pack, model, adapter, image, **settings):
    return styled(pack, model, adapter, image, **settings)[0]


def host_noise(model, size=(HEIGHT, WIDTH)):
    """(negative, positive) noise as the model with its patches sees it, both in one call, negative first."""
    base, noise = model.model, rand(1, ROWS, 4, *size)
    options = copy.copy(model.model_options["transformer_options"])
    options |= {"wrappers": model.wrappers, "cond_or_uncond": [1, 0], "uuids": ["negative", "positive"]}
    context, pooled = (torch.cat([n, p]) for n, p in zip(NEGATIVES, PROMPTS, strict=True))
    y = base.encode_adm(pooled_output=pooled, width=WIDTH * 8, height=HEIGHT * 8)
    added = {"y": y} if y is not None else {}
    x, sigma = torch.cat([noise, noise]), torch.full((2 * ROWS,), SIGMA)
    denoised = base.apply_model(x, sigma, c_crossattn=context, transformer_options=options, **added)
    return (x - denoised) / SIGMA


def diffusers_noise(network, model, states, scale, images, masks=None, size=(HEIGHT, WIDTH)):
    """The same from diffusers. ``images``: per adapter (negative, positive) features (n, ..)."""
    network = copy.deepcopy(network)
    network._load_ip_adapter_weights(copy.deepcopy(states), low_cpu_mem_usage=False)
    IPAdapterMixin.set_ip_adapter_scale(SimpleNamespace(unet=network), scale)
    rows = [
        torch.cat([side[None].expand(ROWS, *side.shape) for side in (negative, positive)])
        for negative, positive in images
    ]
    context, pooled = (torch.cat([n, p]) for n, p in zip(NEGATIVES, PROMPTS, strict=True))
    pixels, noise = [HEIGHT * 8, WIDTH * 8], rand(1, ROWS, 4, *size)
    added = {
        "text_embeds": pooled,
        "time_ids": torch.tensor([[*pixels, 0, 0, *pixels]] * 2 * ROWS),
        "image_embeds": rows,
    }
    x = torch.cat([noise, noise]) / (1 + SIGMA**2) ** 0.5
    t = model.get_model_object("model_sampling").timestep(torch.tensor(SIGMA))
    attention = {"ip_adapter_masks": masks} if masks is not None else None
    return network(x, t, context, added_cond_kwargs=added, cross_attention_kwargs=attention).sample


def both_sides(kind, images):
    """(negative, positive) features of one adapter, no image on the negative side."""
    if kind == "base":
        return torch.zeros_like(images.pooled), images.pooled
    return images.blank.expand_as(images.hidden), images.hidden


def distance(a, b):
    return float((a - b).abs().max())


@pytest.fixture(scope="module")
def plain(network, model):
    with torch.inference_mode():
        return host_noise(model)


def check(noise, expected, plain, tolerance=TOLERANCE):
    assert distance(noise, expected) < tolerance
    assert distance(noise, plain) > 50 * tolerance  # or nothing was compared


@pytest.mark.parametrize("kind", ["base", "plus"])
@pytest.mark.parametrize("preset", SCALES)
def test_presets_are_diffusers_scales(pack, network, model, make, plain, kind, preset):
    state, adapter = make(kind)
    images = embeds(pack, 7)
    expected = diffusers_noise(network, model, [state], SCALES[preset], [both_sides(kind, images)])
    check(host_noise(patched(pack, model, adapter, images, preset=preset)), expected, plain)


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_several_images_and_a_scale(pack, network, model, make, plain, kind):
    state, adapter = make(kind)
    images = embeds(pack, 7, count=3)
    expected = diffusers_noise(network, model, [state], 0.7, [both_sides(kind, images)])
    noise = host_noise(patched(pack, model, adapter, images, preset="all", weight=0.7))
    check(noise, expected, plain)


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_an_image_of_weight_2_is_the_image_twice(pack, network, model, make, plain, kind):
    state, adapter = make(kind)
    images = embeds(pack, 7, count=2, weights=(2.0, 1.0))
    negative, positive = both_sides(kind, images)
    twice = negative[[0, 0, 1]], positive[[0, 0, 1]]
    expected = diffusers_noise(network, model, [state], STYLE, [twice])
    noise = host_noise(patched(pack, model, adapter, images))
    check(noise, expected, plain)
    alike = host_noise(patched(pack, model, adapter, embeds(pack, 7, count=2)))
    assert distance(noise, alike) > 10 * TOLERANCE


def test_a_negative_image(pack, network, model, make, plain):
    state, adapter = make("base")
    images, away = embeds(pack, 7, count=2), embeds(pack, 8, count=2)
    expected = diffusers_noise(network, model, [state], STYLE, [(away.pooled, images.pooled)])
    check(host_noise(patched(pack, model, adapter, images, negative=away)), expected, plain)


def test_precise_style_swaps_the_sides_in_the_layout_block(pack, network, model, make, plain):
    state, adapter = make("base")
    images = embeds(pack, 7)
    negative, positive = both_sides("base", images)
    expected = diffusers_noise(
        network, model, [state, state], [STYLE, LAYOUT], [(negative, positive), (positive, negative)]
    )
    check(host_noise(patched(pack, model, adapter, images, preset="precise style")), expected, plain)


def test_two_adapters_in_either_order(pack, network, model, make, plain):
    (one, first), (two, second) = make("base", 1), make("plus", 2)
    style, layout = embeds(pack, 7), embeds(pack, 8)
    expected = diffusers_noise(
        network, model, [one, two], [STYLE, 0.5], [both_sides("base", style), both_sides("plus", layout)]
    )
    a = patched(pack, model, first, style)
    b = patched(pack, a, second, layout, preset="all", weight=0.5)
    check(host_noise(b), expected, plain)
    other = patched(pack, patched(pack, model, second, layout, preset="all", weight=0.5), first, style)
    assert distance(host_noise(b), host_noise(other)) < 1e-6
    assert torch.equal(host_noise(model), plain)


def test_masks_share_a_picture_between_two_adapters(pack, network, model, make, plain):
    """Two halves, whose border falls between tokens in every layer: diffusers samples its masks, the pack
    averages them.
    """
    (one, first), (two, second) = make("base", 1), make("base", 2)
    left = torch.zeros(1, HEIGHT * 8, WIDTH * 8)
    left[..., : WIDTH * 4] = 1
    masks = IPAdapterMaskProcessor().preprocess([left[0].numpy(), 1 - left[0].numpy()], HEIGHT * 8, WIDTH * 8)
    a, b = embeds(pack, 7), embeds(pack, 8)
    expected = diffusers_noise(
        network, model, [one, two], [1.0, 1.0], [both_sides("base", a), both_sides("base", b)],
        masks=[mask[None] for mask in masks],
    )  # fmt: skip
    half = patched(pack, model, first, a, preset="all", mask=left)
    noise = host_noise(patched(pack, half, second, b, preset="all", mask=1 - left))
    check(noise, expected, plain, 1e-3)


def test_a_padded_file_is_the_style_block_in_diffusers(pack, network, model, make, plain, tmp_path):
    """At scale 1 in all its layers, as software that knows no blocks uses it."""
    from safetensors.torch import load_file

    core = pack.zsamb_core
    _, adapter = make("base")
    structure = structure_of(pack, model)
    style = core.instantstyle.blocks.preset_weights("style", list(structure))
    core.instantstyle.export.export_adapter(adapter, structure, style, tmp_path / "padded.safetensors", True)
    state: dict = {"image_proj": {}, "ip_adapter": {}}
    for name, tensor in load_file(tmp_path / "padded.safetensors").items():
        part, rest = name.split(".", 1)
        state[part][rest] = tensor
    images = embeds(pack, 7)
    expected = diffusers_noise(network, model, [state], 1.0, [both_sides("base", images)])
    check(host_noise(patched(pack, model, adapter, images)), expected, plain)


SD15_SCALES = {
    "style": {"up": {"block_1": 1.0}},
    "style and layout": {"down": {"block_2": 1.0}, "mid": 1.0, "up": {"block_1": 1.0}},
    "all": 1.0,
}


@pytest.mark.parametrize("kind", ["base", "plus"])
@pytest.mark.parametrize("preset", SD15_SCALES)
def test_sd15_with_the_official_blocks(pack, tmp_path, kind, preset):
    import comfy.supported_models

    network = diffusers_sd15()
    for name, parameter in network.named_parameters():
        if ".attn2.to_q." in name:
            parameter *= 2
    model = host_model(network, comfy.supported_models.SD15, SD15_CONFIG)
    states = []
    adapter = make_adapter(pack, model, tmp_path / "x.safetensors", kind, change=states.append)
    images = embeds(pack, 7, count=2)
    expected = diffusers_noise(
        network, model, states, SD15_SCALES[preset], [both_sides(kind, images)], size=(16, 24)
    )
    model_noise = host_noise(patched(pack, model, adapter, images, preset=preset), size=(16, 24))
    check(model_noise, expected, host_noise(model, size=(16, 24)))
