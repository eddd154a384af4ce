"""Style images on the demo model: identities first, then branches, neighbors and what is left behind."""

import gc

import pytest
import torch

from ..style_aligned.styling import block_weights, make_adapter, make_embeds, structure_of, styled

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}
LEVELS = {"scheduler": "ddim_uniform"}


@pytest.fixture(scope="module")
def adapter(pack, demo, tmp_path_factory):
    return make_adapter(pack, demo.model, tmp_path_factory.mktemp("a") / "full.safetensors")


@pytest.fixture(scope="module")
def plus(pack, demo, tmp_path_factory):
    return make_adapter(pack, demo.model, tmp_path_factory.mktemp("a") / "p.safetensors", "plus", seed=2)


@pytest.fixture(scope="module")
def image(pack):
    return make_embeds(pack)


@pytest.fixture(scope="module")
def stock(demo, four):
    with torch.inference_mode():
        return demo.sample(demo.model, four, **LEVELS)


@pytest.fixture
def style(pack, demo, adapter, image):
    """MODEL of StyleBlockIPAdapter with other settings."""
    return lambda model=None, image=image, adapter=adapter, **settings: styled(
        pack, model or demo.model, adapter, image, **settings
    )[0]


def sampled(demo, model, positive, **settings):
    return demo.sample(model, positive, **{**LEVELS, **settings})


def differ(a, b):
    return float((a - b).abs().mean()) > 1e-3


def test_weight_0_is_stock_bit_for_bit(demo, four, style, stock):
    assert torch.equal(sampled(demo, style(weight=0.0), four), stock)
    assert torch.equal(sampled(demo, style(weight_curve="0 0"), four), stock)
    assert differ(sampled(demo, style(), four), stock)


def test_style_alone_is_the_whole_adapter_with_other_blocks_at_0(pack, demo, four, style, adapter, tmp_path):
    """And so is a file that holds nothing but the style block, saved by the node or padded with zeros."""
    expected = sampled(demo, style(), four)
    one = block_weights(pack, output_1=1.0)
    assert torch.equal(sampled(demo, style(preset="all", block_weights=one), four), expected)
    core = pack.zsamb_core
    layers = list(structure_of(pack, demo.model))
    for padded in (False, True):
        path = tmp_path / f"{padded}.safetensors"
        chosen = core.instantstyle.blocks.preset_weights("style", layers)
        structure = structure_of(pack, demo.model)
        core.instantstyle.export.export_adapter(adapter, structure, chosen, path, padded)
        part = core.instantstyle.adapter_file.open_adapter(path)
        assert torch.equal(sampled(demo, style(adapter=part), four), expected)
        assert len(part.layers) == (len(layers) if padded else len(chosen))
        if padded:
            whole = sampled(demo, style(adapter=part, preset="all"), four)
            torch.testing.assert_close(whole, expected, rtol=0, atol=1e-4)


def test_layers_can_be_weighed_one_by_one(pack, demo, four, style):
    """The block's layers by name are the block; half a weight is not."""
    whole = sampled(demo, style(preset="layout"), four)
    depth = sum(layer[:2] == ("input", 8) for layer in structure_of(pack, demo.model))
    by_layer = block_weights(pack, f"input 8.0-{depth - 1} = 1")
    assert torch.equal(sampled(demo, style(block_weights=by_layer), four), whole)
    half = block_weights(pack, "input 8.0 = 0.5", input_8=1.0)
    assert differ(sampled(demo, style(block_weights=half), four), whole)


def test_only_the_layers_with_a_weight_are_patched(demo, four, style, monkeypatch, pack):
    """And none outside the window: the host keeps its own path there."""
    import comfy.ldm.modules.attention as attention

    calls = []
    original = attention.BasicTransformerBlock.forward

    def forward(self, x, context=None, transformer_options={}):
        replaced = transformer_options.get("patches_replace", {}).get("attn2", {})
        calls.append((float(transformer_options["sigmas"][0]), sorted(replaced)))
        return original(self, x, context, transformer_options)

    monkeypatch.setattr(attention.BasicTransformerBlock, "forward", forward)
    sampled(demo, style(end_percent=0.5), four)
    style_layers = [layer for layer in structure_of(pack, demo.model) if layer[:2] == ("output", 1)]
    middle = demo.model.get_model_object("model_sampling").percent_to_sigma(0.5)
    high = {tuple(layers) for sigma, layers in calls if sigma >= middle}
    low = {tuple(layers) for sigma, layers in calls if sigma < middle}
    assert high == {tuple(style_layers)} and low == {()}


def test_a_curve_is_the_weight_at_each_step(demo, four, style):
    """A flat curve is a weight; a falling one lies between; halves of a window are the window."""
    assert torch.equal(
        sampled(demo, style(weight_curve="0.5, 0.5"), four), sampled(demo, style(weight=0.5), four)
    )
    full = sampled(demo, style(), four)
    falling = sampled(demo, style(weight_curve="1, 0"), four)
    rising = sampled(demo, style(weight_curve="0, 1"), four)
    assert differ(falling, full) and differ(rising, full) and differ(falling, rising)
    first = style(end_percent=0.5)
    second = style(first, start_percent=0.501)
    assert torch.equal(sampled(demo, second, four), full)


def test_two_adapters_in_either_order(demo, four, style, plus, pack):
    other = make_embeds(pack, 8, count=2)
    a = style(style(), image=other, adapter=plus, preset="all", weight=0.5)
    b = style(style(image=other, adapter=plus, preset="all", weight=0.5))
    assert torch.equal(sampled(demo, a, four), sampled(demo, b, four))


def test_nothing_upstream_or_beside_changes(demo, four, style, stock, pack):
    """Peers add to the patch that the parent's clone holds."""
    first = style()
    alone = sampled(demo, first, four)
    second = style(first, image=make_embeds(pack, 8))
    third = style(first, image=make_embeds(pack, 9))
    b, c = sampled(demo, second, four), sampled(demo, third, four)
    assert differ(b, alone) and differ(c, alone) and differ(b, c)
    assert torch.equal(sampled(demo, first, four), alone)
    assert torch.equal(sampled(demo, second, four), b)
    assert torch.equal(sampled(demo, demo.model, four), stock)


def foreign(model, key):
    """Another pack's attn2 replacement, on a layer or a block."""
    from comfy.ldm.modules.attention import optimized_attention

    def patch(q, k, v, extra):
        return optimized_attention(q, k, v * 1.5, extra["n_heads"], attn_precision=extra["attn_precision"])

    model = model.clone()
    model.set_model_attn2_replace(patch, *key)
    return model


@pytest.mark.parametrize("key", [("output", 1), ("output", 1, 0)])
def test_a_foreign_patch_before_or_after(demo, four, style, key):
    after, before = foreign(style(), key), style(foreign(demo.model, key))
    a = sampled(demo, after, four)
    assert torch.equal(a, sampled(demo, before, four))
    assert differ(a, sampled(demo, style(), four))
    assert differ(a, sampled(demo, foreign(demo.model, key), four))


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("cfg", [1.0, 4.0])
def test_joint_and_separate_calls_agree(demo, style, monkeypatch, batch, cfg):
    model = style(preset="precise style")
    positive = demo.encode("a cat")
    joint = sampled(demo, model, positive, batch=batch, cfg=cfg)
    assert differ(joint, sampled(demo, demo.model, positive, batch=batch, cfg=cfg))
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(model), "get_free_memory", lambda self, device: 0)
        separate = sampled(demo, model, positive, batch=batch, cfg=cfg)
    torch.testing.assert_close(separate, joint, **CLOSE)


def guided(demo, guider, model, seed=5, batch=4):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", demo.steps)
    latent = demo.empty(batch)
    sampler = comfy.samplers.sampler_object("ddim")
    out = SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas, latent)
    return out.result[0]["samples"]


@pytest.mark.parametrize("split", [False, True])
def test_three_conds_are_known_by_name(demo, four, style, monkeypatch, split):
    """DualCFG passes its negative first, PerpNeg passes two; alike prompts make plain CFG of both."""
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    model, empty = style(preset="all"), demo.encode("")
    if split:
        monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 0)
    plain = sampled(demo, model, four)
    dual = Guider_DualCFG(model)
    dual.set_conds(four, four, empty)
    dual.set_cfg(7.0, 4.0, False)
    torch.testing.assert_close(guided(demo, dual, model), plain, **CLOSE)
    perp = Guider_PerpNeg(model)
    perp.set_conds(four, demo.encode("a fish"), empty)
    perp.set_cfg(4.0, 0.0)
    torch.testing.assert_close(guided(demo, perp, model), plain, **CLOSE)


def test_hooks_on_both_prompts_are_the_patch_on_the_model(pack, demo, four, adapter, image, stock):
    from node_helpers import conditioning_set_values

    model, hooks = styled(pack, demo.model, adapter, image)
    expected = sampled(demo, model, four)
    positive = conditioning_set_values(four, {"hooks": hooks})
    negative = conditioning_set_values(demo.encode(""), {"hooks": hooks})
    torch.testing.assert_close(sampled(demo, demo.model, positive, negative=negative), expected, **CLOSE)
    on_one = sampled(demo, demo.model, positive)
    assert differ(on_one, expected) and differ(on_one, stock)
    assert torch.equal(sampled(demo, demo.model, four), stock)


def test_a_style_for_each_region_by_hooks(pack, demo, adapter, four):
    """Two prompts, two halves, two styles; the left half hardly knows the right one's style."""
    from node_helpers import conditioning_set_values

    def half(side, image):
        mask = torch.zeros(1, 128, 128)
        mask[..., (slice(None, 64), slice(64, None))[side]] = 1
        hooks = styled(pack, demo.model, adapter, image)[1]
        values = {"hooks": hooks, "mask": mask, "set_area_to_bounds": False, "mask_strength": 1.0}
        return conditioning_set_values(four, values)

    a, b, c = (make_embeds(pack, seed) for seed in (7, 8, 9))
    one = sampled(demo, demo.model, half(0, a) + half(1, b), cfg=1.0, steps=2, size=16)
    two = sampled(demo, demo.model, half(0, a) + half(1, c), cfg=1.0, steps=2, size=16)
    change = (one - two).abs().mean((0, 1, 2))
    assert change[:8].mean() < 0.5 * change[8:].mean()


def test_a_mask_of_ones_is_none_and_of_zeros_is_stock(demo, four, style, stock):
    whole = sampled(demo, style(), four)
    ones = torch.ones(1, 37, 53)
    torch.testing.assert_close(sampled(demo, style(mask=ones), four), whole, rtol=0, atol=1e-4)
    assert torch.equal(sampled(demo, style(mask=0 * ones), four), stock)


@pytest.mark.parametrize("size", [(16, 16), (13, 21), (9, 40)])
def test_masks_fit_latents_of_any_size(demo, four, style, size):
    """A mask and its complement are the whole, whatever the layers' sizes come to."""
    latent = {"samples": torch.zeros(4, 4, *size)}
    mask = torch.rand(1, 64, 96, generator=torch.Generator().manual_seed(1))
    both = style(style(mask=mask), mask=1 - mask)
    torch.testing.assert_close(
        sampled(demo, both, four, latent=latent), sampled(demo, style(), four, latent=latent), **CLOSE
    )


def test_a_mask_for_each_picture(demo, four, style, stock):
    masks = torch.stack([torch.full((32, 32), float(on)) for on in (1, 0, 0, 1)])
    out, whole = sampled(demo, style(mask=masks), four), sampled(demo, style(), four)
    torch.testing.assert_close(out[[0, 3]], whole[[0, 3]], **CLOSE)
    torch.testing.assert_close(out[[1, 2]], stock[[1, 2]], **CLOSE)
    with pytest.raises(ValueError, match="expected one mask or one per picture"):
        sampled(demo, style(mask=masks[:3]), four)


def test_area_prompts_see_their_part_of_the_mask(demo, four, style):
    """Two areas that make the picture, and a mask on one of them: the style on that area's prompt alone."""
    from nodes import ConditioningSetArea

    def area(x):
        return ConditioningSetArea().append(four, 64, 128, x, 0, 1.0)[0]

    areas, settings = area(0) + area(64), {"cfg": 1.0, "size": 16}
    whole = sampled(demo, style(), areas, **settings)
    ones = torch.ones(1, 128, 128)
    torch.testing.assert_close(sampled(demo, style(mask=ones), areas, **settings), whole, rtol=0, atol=1e-4)
    left = ones.clone()
    left[..., 64:] = 0
    masked = sampled(demo, style(mask=left), areas, **settings)
    # At CFG 1 the areas do not meet: each half is its own run.
    torch.testing.assert_close(masked[..., :8], whole[..., :8], **CLOSE)
    bare = sampled(demo, demo.model, areas, **settings)
    torch.testing.assert_close(masked[..., 8:], bare[..., 8:], **CLOSE)


def windows(model, length, overlap, dim):
    from comfy_extras.nodes_context_windows import ContextWindowsManualNode

    # Its inputs are not the same in every ComfyUI: the others at their defaults.
    values = {i.id: getattr(i, "default", None) for i in ContextWindowsManualNode.define_schema().inputs}
    values |= {"model": model, "context_length": length, "context_overlap": overlap, "dim": dim}
    values |= {"context_schedule": "standard_static", "fuse_method": "pyramid"}
    return ContextWindowsManualNode.execute(**values).result[0]


def test_context_windows_over_the_batch(demo, style):
    """Every picture has its own mask, in windows of two as in one piece."""
    positive = demo.encode("a cat")
    masks = torch.stack([torch.full((32, 32), on) for on in (1.0, 0.0, 0.5, 1.0, 0.0)])
    model = style(mask=masks, preset="all")
    whole = sampled(demo, model, positive, batch=5)
    torch.testing.assert_close(sampled(demo, windows(model, 2, 1, 0), positive, batch=5), whole, **CLOSE)


def test_context_windows_over_the_width(demo, style):
    """A window sees its part of the mask: a mask and its complement are the whole there too."""
    positive, latent = demo.encode("a cat"), {"samples": torch.zeros(1, 4, 16, 32)}
    mask = torch.zeros(1, 128, 256)
    mask[..., 100:] = 1

    def draw(model):
        return sampled(demo, windows(model, 16, 4, 3), positive, latent=latent)

    whole, left, right = draw(style()), style(mask=1 - mask), style(mask=mask)
    torch.testing.assert_close(draw(style(left, mask=mask)), whole, **CLOSE)
    assert differ(draw(left), whole) and differ(draw(left), draw(right))


@pytest.mark.parametrize("stacked", [False, True])
def test_tiles_each_with_all_prompts(demo, four, style, stacked):
    """A tile sees the images of its own prompt's side; a mask cannot be cut for it, and says so."""
    from ..style_aligned.test_together_guiders import in_tiles

    model = style(preset="all")
    one_by_one = sampled(demo, in_tiles(model, False), four)
    assert differ(one_by_one, sampled(demo, in_tiles(demo.model, False), four))
    torch.testing.assert_close(sampled(demo, in_tiles(model, stacked), four), one_by_one, **CLOSE)
    with pytest.raises(ValueError, match="leave the mask out"):
        sampled(demo, in_tiles(style(mask=torch.ones(1, 8, 8)), stacked), four)


def test_inversion_sees_no_style_images(demo, style, star):
    assert torch.equal(demo.invert(star, model=style())[1]["samples"], demo.invert(star)[1]["samples"])


def test_more_negatives_than_images(pack, demo, four, style, adapter):
    """Numbers that do not divide: the shorter side is filled up with tokens that nobody sees."""
    away, two = make_embeds(pack, 9, count=3), make_embeds(pack, 7, count=2)
    uneven = style(image=two, negative=away)
    core, structure = pack.zsamb_core, structure_of(pack, demo.model)
    weights = core.instantstyle.blocks.preset_weights("style", list(structure))
    images = core.instantstyle.style_images.project_images(adapter, two, weights, structure, away)
    assert len(images.image.bias) == 12 and images.blank.bias is None
    # The same with the common multiple of copies, 6 images on each side.
    import dataclasses

    def copies(embeds, n):
        return dataclasses.replace(
            embeds, pooled=embeds.pooled.repeat(n, 1), hidden=embeds.hidden.repeat(n, 1, 1),
            weights=embeds.weights * n,
        )  # fmt: skip

    even = style(image=copies(two, 3), negative=copies(away, 2))
    torch.testing.assert_close(sampled(demo, uneven, four), sampled(demo, even, four), **CLOSE)


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_with_shared_attention_in_either_order(demo, four, reference, style, mode, monkeypatch):
    """Both methods in one graph. What a reference leaves in the layers knows nothing of the style image."""
    from ..style_aligned.test_together_inputs import bank_of

    connected = reference if mode == "reference" else None
    shared = demo.patched(shift=0.7, reference=connected)
    with bank_of(demo, monkeypatch) as without:
        alone = sampled(demo, shared, four)
    with bank_of(demo, monkeypatch) as with_images:
        a = sampled(demo, style(shared), four)
    b = sampled(demo, demo.patched(style(), shift=0.7, reference=connected), four)
    assert torch.equal(a, b)
    assert differ(a, alone) and differ(a, sampled(demo, style(), four))
    assert len(without) == len(with_images) == (2 * demo.steps if connected else 0)
    assert all(torch.equal(x, y) for x, y in zip(without, with_images, strict=True))


def test_with_a_controlnet_a_lora_and_an_inpainting_mask(demo, four, style, star, monkeypatch):
    from ..style_aligned.test_together_inputs import control_net, controlled, with_lora

    positive, negative = controlled(demo, four, control_net())
    model = with_lora(demo, style())
    torch.testing.assert_close(
        sampled(demo, model, positive, negative=negative),
        sampled(demo, style(with_lora(demo, demo.model)), positive, negative=negative),
        rtol=0,
        atol=0,
    )
    latent = {"samples": demo.vae.encode(star).repeat(4, 1, 1, 1), "noise_mask": torch.zeros(1, 1, 128, 128)}
    latent["noise_mask"][..., 64:] = 1
    out = sampled(demo, model, positive, negative=negative, latent=latent)
    torch.testing.assert_close(out[..., :8], latent["samples"][..., :8], rtol=0, atol=1e-2)
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(model), "get_free_memory", lambda self, device: 0)
        separate = sampled(demo, model, positive, negative=negative, latent=latent)
    torch.testing.assert_close(separate, out, **CLOSE)


@pytest.mark.parametrize("first", ["stock", "styled"])
def test_a_compiled_model_gives_the_same_pictures(demo, four, style, first):
    """The host's compiled models keep the patches of their first call."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    compiled = demo.model.clone()
    set_torch_compile_wrapper(compiled, "eager", options={"guard_filter_fn": skip_torch_compile_dict})
    torch._dynamo.reset()
    models = {"stock": compiled, "styled": style(compiled, start_percent=0.4)}
    expected = {"stock": demo.model, "styled": style(start_percent=0.4)}
    for name in (first, *(n for n in models if n != first)):
        torch.testing.assert_close(
            sampled(demo, models[name], four), sampled(demo, expected[name], four), **CLOSE
        )


def test_nothing_is_left_behind(demo, four, style):
    """Not in the model's options, and no tensor alive."""

    def tensors():
        gc.collect()
        return sum(isinstance(x, torch.Tensor) for x in gc.get_objects())

    before = set(demo.model.model_options["transformer_options"])
    sampled(demo, style(preset="all"), four)
    alive = tensors()
    for _ in range(10):
        sampled(demo, style(preset="all", mask=torch.ones(1, 8, 8)), four)
    assert tensors() <= alive
    assert set(demo.model.model_options["transformer_options"]) == before


def test_the_image_follows_the_query(pack, adapter, demo, image):
    """Keys and values take the query's precision, whatever the file's."""
    host = pack.nodes._host.instantstyle.style_images
    core = pack.zsamb_core
    structure = structure_of(pack, demo.model)
    weights = core.instantstyle.blocks.preset_weights("style", list(structure))
    images = core.instantstyle.style_images.project_images(adapter, image, weights, structure)
    layer = next(iter(weights))
    options = {"uuids": [1, 2], "cond_or_uncond": [1, 0]}
    call = host.Call(options, torch.Size([4, 4, 16, 16]))
    replace = host.WithImages(call, layer, [(images, 1.0)], None)
    width = structure[layer]
    extra = {"n_heads": width // 32, "attn_precision": None, "activations_shape": [4, width, 4, 4]}
    q, k, v = (torch.randn(4, n, width, dtype=torch.bfloat16) for n in (16, 7, 7))
    out = replace(q, k, v, extra)
    assert out.dtype == torch.bfloat16 and out.shape == q.shape
    exact = replace(q.float(), k.float(), v.float(), extra)
    torch.testing.assert_close(out.float(), exact, rtol=0, atol=0.2)


ERRORS = [
    ({"start_percent": 0.5, "end_percent": 0.5}, "start_percent is 0.5 and end_percent 0.5"),
    ({"weight_curve": "1, x"}, "weight_curve: 'x' is not a number"),
    ({"mask": torch.ones(4, 4)}, "mask input has shape"),
    ({"content": "a cat"}, "content is set and clip is not connected"),
]


@pytest.mark.parametrize("settings, message", ERRORS)
def test_errors_name_the_input(style, settings, message):
    with pytest.raises(ValueError, match=f"StyleBlockIPAdapter: .*{message}"):
        style(**settings)
