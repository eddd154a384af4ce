"""Bad input: a clear error that names the input, what was found and what to do, before any model call."""

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def sd15():
    """A MODEL with SD1.5's wiring, tiny and untrained, built by the host."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SD15({
        "image_size": 8, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [1, 1],
        "channel_mult": [1, 2], "transformer_depth": [1, 1], "transformer_depth_middle": 1,
        "transformer_depth_output": [1, 1, 1, 1], "use_spatial_transformer": True, "context_dim": 32,
        "legacy": False, "use_temporal_attention": False, "adm_in_channels": None,
    })  # fmt: skip
    config.unet_config.update(num_heads=4, num_head_channels=-1)
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(config.get_model({}, device=cpu), cpu, cpu)


@pytest.mark.parametrize("message", ["model input is odd", "SharedAttention Patch: model input is odd"])
def test_a_node_is_named_once(pack, message):
    """Some of what is called names the node itself."""
    with pytest.raises(ValueError) as error, pack.nodes._common.naming("SharedAttention Patch"):
        raise ValueError(message)
    assert str(error.value) == "SharedAttention Patch: model input is odd"


def test_a_model_that_is_not_sdxl_is_refused(demo, star, sd15):
    for call in (lambda: demo.patched(sd15), lambda: demo.adain(sd15), lambda: demo.invert(star, model=sd15)):
        with pytest.raises(ValueError, match="model input is an SD1.5 model, expected an SDXL model"):
            call()


def test_sdxl_with_other_blocks_is_refused(pack, demo):
    import comfy.model_patcher

    host = pack.nodes._host.demo_model
    config = host.DemoSDXL({**host.UNET_CONFIG, "transformer_depth": [0, 0, 0, 0, 1, 1]})
    config.set_inference_dtype(torch.float32, None)
    cpu = torch.device("cpu")
    model = comfy.model_patcher.ModelPatcher(config.get_model({}, device=cpu), cpu, cpu)
    with pytest.raises(ValueError, match="attention in the blocks input 7, input 8, middle 0"):
        demo.patched(model)


def refused_before_loading(demo, model, positive, monkeypatch, match, **settings):
    import comfy.sampler_helpers

    def loaded(*_, **__):
        raise AssertionError("the model was loaded before the input was checked")

    with monkeypatch.context() as patch:
        patch.setattr(comfy.sampler_helpers, "prepare_sampling", loaded)
        with pytest.raises(ValueError, match=match):
            demo.sample(model, positive, **settings)


def test_references_that_all_weigh_nothing_are_refused(demo, four, reference, monkeypatch):
    model = demo.patched(reference=demo.weigh(reference, 0.0))
    refused_before_loading(demo, model, four, monkeypatch, "1 references all have weight 0")


def test_a_mask_for_another_batch_is_refused(demo, four, reference, monkeypatch):
    model = demo.patched(reference=demo.weigh(reference, mask=torch.ones(3, 16, 16)))
    refused_before_loading(demo, model, four, monkeypatch, "mask holds 3 masks, expected 1, or 4")


def test_a_reference_of_another_kind_of_latent_is_refused(demo, four, reference, monkeypatch):
    from dataclasses import replace

    first = reference.references[0]
    path = replace(first.trajectory, points=torch.zeros(len(first.trajectory.sigmas), 16, 16, 16))
    model = demo.patched(reference=replace(reference, references=(replace(first, trajectory=path),)))
    refused_before_loading(demo, model, four, monkeypatch, "latents of 16 channels, expected 4")


def test_an_offset_beyond_the_path_is_refused(demo, reference):
    with pytest.raises(
        ValueError, match="Style Reference: a reference's offset is 4, expected 0 to 3 for a path of 5 nodes"
    ):
        demo.weigh(reference, offset=4)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_a_weight_that_is_none_is_refused(demo, reference, weight):
    with pytest.raises(ValueError, match="weight is"):
        demo.weigh(reference, weight)


@pytest.mark.parametrize("blocks", ["output 6", "input 4, nothing", "", "input 1-3"])
def test_an_unknown_block_is_refused_with_the_known_ones(demo, blocks):
    with pytest.raises(ValueError, match="SharedAttention Patch: blocks: .*input 4, input 5, input 7"):
        demo.patched(blocks=blocks)


def test_a_window_that_ends_before_it_starts_is_refused(demo):
    with pytest.raises(ValueError, match="start_percent is 0.6 and end_percent 0.5"):
        demo.patched(start_percent=0.6, end_percent=0.5)


def test_prompts_only_takes_any_size(demo, four):
    assert demo.sample(demo.patched(), four, size=24, steps=2).isfinite().all()


def test_an_empty_prompt_set_is_refused(demo):
    with pytest.raises(ValueError, match="Prompt Set: the prompts input is empty"):
        demo.prompts("", "  ")


def test_a_schedule_of_hooks_on_the_encoder_is_refused_by_a_prompt_set(demo):
    """Its prompts would have an entry for each part of the schedule."""
    import comfy.hooks
    from comfy_extras.nodes_hooks import SetClipHooks

    parts = comfy.hooks.HookKeyframeGroup()
    for strength, start in ((1.0, 0.0), (0.5, 0.5)):
        parts.add(comfy.hooks.HookKeyframe(strength, start))
    hook = comfy.hooks.WeightHook()
    hook.weights, hook.weights_clip = {}, {}
    hooks = comfy.hooks.HookGroup()
    hooks.add(hook)
    hooks.set_keyframes_on_hooks(parts)
    clip = SetClipHooks().apply_hooks(demo.clip, True, False, hooks)[0]
    assert len(clip.encode_from_tokens_scheduled(clip.tokenize("a cat"))) == 2
    with pytest.raises(ValueError, match="Prompt Set: the clip input carries a schedule of hooks"):
        demo.pack.nodes.prompts.PromptSet.execute(clip, "a cat\na house", "")


@pytest.mark.parametrize("name", ["unet.safetensors", "text.safetensors", "vae.safetensors"])
def test_a_missing_demo_file_is_named(pack, monkeypatch, tmp_path, name):
    host = pack.nodes._host.demo_model
    for path in host.WEIGHTS.glob("*.safetensors"):
        if path.name != name:
            (tmp_path / path.name).symlink_to(path)
    monkeypatch.setattr(host, "WEIGHTS", tmp_path)
    with pytest.raises(FileNotFoundError, match=f"{name} was not found in {tmp_path}"):
        pack.nodes.demo_model.LoadDemoModel.execute()


def test_inversion_refuses_what_is_not_one_picture(demo):
    node, cond = demo.pack.nodes.references.DDIMInvert, demo.encode("")

    def invert(samples):
        return node.execute(demo.model, {"samples": samples}, cond, cond, 2, 1.0, 0, "simple")

    with pytest.raises(ValueError, match="holds 3 pictures, expected one reference"):
        invert(torch.ones(3, 4, 16, 16))
    with pytest.raises(ValueError, match=r"shape \(1, 16, 16, 16\), expected one SDXL picture of 4 channels"):
        invert(torch.ones(1, 16, 16, 16))
    with pytest.raises(ValueError, match="empty"):
        invert(torch.zeros(1, 4, 16, 16))


def test_a_foreign_attention_replacement_is_not_silently_overwritten(demo):
    model = demo.model.clone()
    model.set_model_attn1_replace(lambda q, k, v, extra: q, "input", 4)
    with pytest.raises(ValueError, match="another node replaces the model's self-attention"):
        demo.patched(model)


def test_an_area_prompt_with_a_masked_reference_is_refused(demo, reference):
    positive = demo.encode("a cat")
    area = [[positive[0][0], {**positive[0][1], "area": (8, 8, 0, 0), "strength": 1.0}]]
    masked = demo.weigh(reference, mask=torch.ones(1, 16, 16))
    with pytest.raises(ValueError, match="part of the picture .*because a reference has a mask"):
        demo.sample(demo.patched(reference=masked), area + positive, batch=1, size=16)


def test_a_picture_with_alpha_or_of_odd_size_becomes_a_reference(demo, star):
    """The host's VAE Encode drops alpha and crops to a multiple of 8; the reference has that size."""
    alpha = torch.cat([star, torch.ones_like(star[..., :1])], -1)
    assert torch.equal(
        demo.invert(alpha)[0].references[0].trajectory.points,
        demo.invert(star)[0].references[0].trajectory.points,
    )
    odd = demo.invert(star[:, :101, :125])[0]
    assert tuple(odd.references[0].latent_shape) == (4, 12, 15)


def test_attention_replaced_behind_the_patch_is_refused(demo, four):
    model = demo.patched().clone()
    for block in (("middle", 0), ("output", 0)):
        model.set_model_attn1_replace(lambda q, k, v, extra: q, *block)
    with pytest.raises(ValueError, match="another node replaces the model's self-attention"):
        demo.sample(model, four)


def test_tiles_stacked_on_the_batch_are_refused_from_prompts_only(demo, four):
    model = demo.patched().clone()

    def two_tiles(apply_model, call):
        x, c = call["input"], dict(call["c"])
        for key in ("c_crossattn", "y"):
            c[key] = c[key].repeat(2, *[1] * (c[key].ndim - 1))
        return apply_model(x.repeat(2, 1, 1, 1), call["timestep"].repeat(2), **c)[: x.shape[0]]

    model.set_model_unet_function_wrapper(two_tiles)
    with pytest.raises(ValueError, match="Tiled and windowed sampling"):
        demo.sample(model, four)


def test_a_scheduler_without_levels_is_named(pack, demo):
    with pytest.raises(ValueError, match="the scheduler kl_optimal has no noise level"):
        pack.nodes._host.style_aligned.inversion.inversion_sigmas(demo.model, "kl_optimal", 1)
