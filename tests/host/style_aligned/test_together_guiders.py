"""Other guiders, samplers, regional prompts by hooks, low memory, tiles, other sizes."""

import pytest
import torch

from .test_together_inputs import lora_file, with_lora

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}
# Without the demo model's last noise level, 4518, where fp32 itself rounds latents by 0.0005.
LEVELS = {"scheduler": "ddim_uniform"}


@pytest.fixture(params=["prompts only", "reference"])
def patched(request, demo, reference):
    return demo.patched(shift=0.7, reference=reference if request.param == "reference" else None)


def guided(demo, guider, model, batch=4, seed=5):
    """With SamplerCustomAdvanced, the same noise and noise levels as `Demo.sample`."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "ddim_uniform", demo.steps)
    latent = demo.empty(batch)
    sampler = comfy.samplers.sampler_object("ddim")
    return SamplerCustomAdvanced.execute(Noise_RandomNoise(seed), guider, sampler, sigmas, latent).result[0][
        "samples"
    ]


def separately(monkeypatch, model, draw):
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(model), "get_free_memory", lambda self, device: 0)
        return draw()


def dual(demo, model, one, two, negative, cfg1, cfg2, nested=False):
    from comfy_extras.nodes_custom_sampler import Guider_DualCFG

    guider = Guider_DualCFG(model)
    guider.set_conds(one, two, negative)
    guider.set_cfg(cfg1, cfg2, nested)
    return guider


@pytest.mark.parametrize("nested", [False, True])
def test_dual_cfg_knows_its_three_conds_by_name(demo, four, patched, nested, monkeypatch):
    """It passes the negative first. With both prompts alike it is plain CFG, so it must give that picture."""
    empty = demo.encode("")
    guider = dual(demo, patched, four, four, empty, 1.0 if nested else 7.0, 4.0, nested)
    plain = demo.sample(patched, four, empty, **LEVELS)
    torch.testing.assert_close(guided(demo, guider, patched), plain, **CLOSE)
    two = demo.prompts("a dog", "a car", "a moon", "a tree")
    guider = dual(demo, patched, four, two, empty, 3.0, 4.0, nested)
    joint = guided(demo, guider, patched)
    assert (joint - plain).abs().mean() > 0.01
    separate = separately(monkeypatch, patched, lambda: guided(demo, guider, patched))
    torch.testing.assert_close(separate, joint, **CLOSE)


def test_perp_neg_knows_its_two_negatives_by_name(demo, four, patched, monkeypatch):
    """Without weight on the negative it is plain CFG against the empty prompt."""
    from comfy_extras.nodes_perpneg import Guider_PerpNeg

    empty = demo.encode("")

    def guider(scale):
        made = Guider_PerpNeg(patched)
        made.set_conds(four, demo.encode("a fish"), empty)
        made.set_cfg(4.0, scale)
        return made

    plain = demo.sample(patched, four, empty, **LEVELS)
    torch.testing.assert_close(guided(demo, guider(0.0), patched), plain, **CLOSE)
    joint = guided(demo, guider(1.0), patched)
    assert joint.isfinite().all() and (joint - plain).abs().mean() > 1e-3
    separate = separately(monkeypatch, patched, lambda: guided(demo, guider(1.0), patched))
    torch.testing.assert_close(separate, joint, **CLOSE)


SAMPLERS = ["euler", "heun", "dpmpp_2m", "dpmpp_2m_sde", "uni_pc", "euler_ancestral", "dpm_adaptive", "lcm"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_any_sampler_gives_one_picture_joint_or_separate(demo, four, patched, sampler, monkeypatch):
    """Several calls in a step, memory of earlier steps, and fresh noise included."""

    def draw():
        return demo.sample(patched, four, sampler=sampler, **LEVELS)

    joint = draw()
    assert joint.isfinite().all()
    assert (joint - demo.sample(demo.model, four, sampler=sampler, **LEVELS)).abs().mean() > 0.01
    torch.testing.assert_close(separately(monkeypatch, patched, draw), joint, **CLOSE)


def hooked(demo, positive, mask=None, strength=1.0):
    """Conditioning with a LoRA of its own, and a region."""
    import comfy.hooks
    from node_helpers import conditioning_set_values

    hooks = comfy.hooks.create_hook_lora(lora_file(demo), strength, 0.0)
    values = {"hooks": hooks}
    if mask is not None:
        values |= {"mask": mask, "set_area_to_bounds": False, "mask_strength": 1.0}
    return conditioning_set_values(positive, values)


def test_a_hook_on_all_prompts_is_the_lora_on_the_model(demo, four, patched):
    """The reference too goes through the weights that the prompt's hooks set."""
    by_hook = demo.sample(patched, hooked(demo, four), hooked(demo, demo.encode("")))
    by_model = demo.sample(with_lora(demo, patched), four)
    torch.testing.assert_close(by_hook, by_model, **CLOSE)


def test_regional_prompts_by_hooks(demo, four, patched, monkeypatch, stock):
    left = torch.zeros(1, 128, 128)
    left[..., :64] = 1
    others = demo.prompts("a dog", "a car", "a moon", "a tree")
    positive = hooked(demo, four, left) + hooked(demo, others, 1 - left, strength=0.5)

    def draw():
        return demo.sample(patched, positive)

    joint = draw()
    assert joint.isfinite().all()
    assert (joint - demo.sample(patched, four)).abs().mean() > 0.01
    torch.testing.assert_close(separately(monkeypatch, patched, draw), joint, **CLOSE)
    assert torch.equal(demo.sample(demo.model, four), stock)


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_weights_that_are_cast_when_used_give_the_same_picture(demo, four, reference, mode):
    """As with --lowvram, group norms included."""
    connected = reference if mode == "reference" else None
    model = demo.patched(shift=0.7, share_group_norm=True, reference=connected)
    expected = demo.sample(model, four)
    modules = [m for m in model.model.diffusion_model.modules() if hasattr(m, "comfy_cast_weights")]
    before = [m.comfy_cast_weights for m in modules]
    try:
        for m in modules:
            m.comfy_cast_weights = True
        torch.testing.assert_close(demo.sample(model, four), expected, **CLOSE)
    finally:
        for m, value in zip(modules, before, strict=True):
            m.comfy_cast_weights = value


def in_tiles(model, stacked):
    """Halves of the picture, one call each or stacked on the batch with all chunks of each, as tiled samplers
    do it.
    """
    model = model.clone()

    def tiles(apply_model, call):
        x, t, c = call["input"], call["timestep"], call["c"]
        halves = x.split(x.shape[-1] // 2, -1)
        if not stacked:
            return torch.cat([apply_model(half, t, **c) for half in halves], -1)

        def double(rows):
            if not isinstance(rows, torch.Tensor) or rows.shape[0] != x.shape[0]:
                return rows
            return torch.cat([rows, rows])

        out = apply_model(torch.cat(halves), double(t), **{k: double(v) for k, v in c.items()})
        return torch.cat(out.chunk(2), -1)

    model.set_model_unet_function_wrapper(tiles)
    return model


def test_tiles_draw_in_the_style_of_a_whole_reference(demo, four, reference):
    patched = demo.patched(shift=0.7, reference=reference)
    one_by_one = demo.sample(in_tiles(patched, False), four)
    assert one_by_one.isfinite().all()
    assert (one_by_one - demo.sample(in_tiles(demo.model, False), four)).abs().mean() > 0.01
    torch.testing.assert_close(demo.sample(in_tiles(patched, True), four), one_by_one, **CLOSE)


def test_an_area_prompt_and_a_reference(demo, four, reference, monkeypatch):
    part = [[four[0][0], {**four[0][1], "area": (8, 8, 4, 4), "strength": 1.0}]]
    patched = demo.patched(shift=0.7, reference=reference)
    positive = part + demo.prompts("a cat", "a boat", "a cat", "a boat")
    joint = demo.sample(patched, positive)
    assert (joint - demo.sample(demo.model, positive)).abs().mean() > 0.01
    separate = separately(monkeypatch, patched, lambda: demo.sample(patched, positive))
    torch.testing.assert_close(separate, joint, **CLOSE)


def test_references_of_other_sizes_than_the_pictures_and_each_other(
    demo, four, star, moon, monkeypatch, stock
):
    """In one model, in any order, joint or separate; and a high-resolution pass after it."""
    wide, small = demo.invert(star[:, :64])[0], demo.invert(moon[:, :96, :96], "a moon")[0]
    patched = demo.patched(shift=0.7, reference=demo.weigh(wide, 2.0, others=small))
    swapped = demo.patched(shift=0.7, reference=demo.weigh(small, 1.0, others=demo.weigh(wide, 2.0)))
    joint = demo.sample(patched, four)
    assert joint.isfinite().all()
    assert (joint - stock).abs().mean() > 0.01
    torch.testing.assert_close(demo.sample(swapped, four), joint, **CLOSE)
    separate = separately(monkeypatch, patched, lambda: demo.sample(patched, four))
    torch.testing.assert_close(separate, joint, **CLOSE)
    larger = torch.nn.functional.interpolate(joint, (24, 32))
    high = demo.sample(patched, four, latent={"samples": larger}, denoise=0.5)
    assert high.shape == (4, 4, 24, 32) and high.isfinite().all()


def test_the_memory_estimate_counts_the_references(demo, four, star, reference, monkeypatch):
    import comfy.sampler_helpers

    shapes, original = [], comfy.sampler_helpers._prepare_sampling

    def listen(model, noise_shape, *args, **kwargs):
        shapes.append(tuple(noise_shape))
        return original(model, noise_shape, *args, **kwargs)

    monkeypatch.setattr(comfy.sampler_helpers, "_prepare_sampling", listen)
    settings = {"steps": 1, "size": 16}
    demo.sample(demo.patched(), four, **settings)
    demo.sample(demo.patched(reference=reference), four, **settings)
    both = demo.weigh(demo.invert(star[:, :64])[0], others=reference)
    demo.sample(demo.patched(reference=both), four, **settings)
    # What either keeps takes less than a picture does, and both together too: test_bank_size has the bytes.
    assert [shape[0] for shape in shapes if shape[0] > 1] == [4, 5, 5]
