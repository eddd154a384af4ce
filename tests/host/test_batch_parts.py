"""A set that is drawn in parts has the prompts, masks and style of the whole batch."""

import logging

import pytest
import torch

pytestmark = pytest.mark.host
# Two ways of batching the same rows differ by fp32 rounding; sampled latents have a spread of about 8.
CLOSE = {"rtol": 0, "atol": 2e-3}
STEPS = 2


def sample(demo, *args, **settings):
    return demo.sample(*args, **{"steps": STEPS, **settings})


def rebatched(latent, size):
    from comfy_extras.nodes_rebatch import LatentRebatch

    return LatentRebatch.execute([latent], [size]).result[0]


def in_parts(demo, model, positive, size=2, latent=None, **settings):
    """The batch drawn after Rebatch Latents, put together again."""
    parts = rebatched(demo.empty() if latent is None else latent, size)
    return torch.cat([sample(demo, model, positive, latent=part, **settings) for part in parts])


def numbers(pack):
    return pack.nodes._host.batch_part


@pytest.mark.parametrize("side", [16, 5])  # of 5 x 5 the host's whole and row-by-row noise differ
def test_the_noise_says_which_pictures_a_run_draws(pack, side):
    from comfy.sample import prepare_noise

    pictures_of = numbers(pack).pictures_of
    latent = torch.zeros(4, 4, side, side)
    assert pictures_of(prepare_noise(latent, 7), 7) == (0, 1, 2, 3)
    for picked in ((2, 3), (3,), (0, 0, 5), (9, 2, 4)):
        assert pictures_of(prepare_noise(latent[: len(picked)], 7, list(picked)), 7) == picked
    assert pictures_of(torch.zeros(2, 4, 8, 8), 7) is None
    assert pictures_of(prepare_noise(latent, 8), 7) is None
    assert pictures_of(prepare_noise(latent, 8), None) is None
    assert pictures_of(prepare_noise(latent.half(), 7, [1, 2, 3, 4]), 7) == (1, 2, 3, 4)


def test_the_furthest_picture_of_a_set_is_found_and_none_behind(pack):
    from comfy.sample import prepare_noise

    pictures_of, most = numbers(pack).pictures_of, numbers(pack).FURTHEST
    assert most >= 512
    latent = torch.zeros(1, 4, 4, 4)
    assert pictures_of(prepare_noise(latent, 7, [most - 1]), 7) == (most - 1,)
    assert pictures_of(prepare_noise(latent, 7, [most]), 7) is None


def test_rows_of_a_set_are_those_of_the_pictures_that_are_drawn(pack):
    rows, values = numbers(pack).rows_of, torch.arange(4)
    assert rows(values, (2, 3), 2).tolist() == [2, 3]
    assert rows(values, (3, 0, 3), 3).tolist() == [3, 0, 3]
    # As they are: unknown pictures, one behind the set's end, rows of the batch, and one for all.
    for count, pictures, batch in ((4, None, 2), (4, (3, 4), 2), (2, (2, 3), 2), (1, (2, 3), 2)):
        assert torch.equal(rows(values[:count], pictures, batch), values[:count])


def test_looking_for_the_pictures_leaves_the_state_of_random_numbers(pack):
    before = torch.manual_seed(5).get_state()
    numbers(pack).pictures_of(torch.ones(2, 4, 8, 8), 7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("size", [1, 3])
def test_parts_with_a_reference_are_the_whole_set(demo, reference, four, size):
    model = demo.patched(reference=reference)
    latent = demo.empty(4, 16)
    parts, whole = in_parts(demo, model, four, size, latent), sample(demo, model, four, latent=latent)
    torch.testing.assert_close(parts, whole, **CLOSE)


def test_parts_by_other_nodes_and_samplers(demo, reference, four):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    import nodes

    model = demo.patched(reference=reference)
    all_four = sample(demo, model, four)
    (part,) = nodes.LatentFromBatch().frombatch(demo.empty(), 2, 2)
    torch.testing.assert_close(sample(demo, model, four, latent=part), all_four[2:], **CLOSE)
    (advanced,) = nodes.KSamplerAdvanced().sample(
        model, "enable", 5, STEPS, 4.0, "ddim", "simple", four, demo.encode(""), part, 0, 10000, "disable"
    )
    torch.testing.assert_close(advanced["samples"], all_four[2:], **CLOSE)
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(four, demo.encode(""))
    guider.set_cfg(4.0)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    sampler = comfy.samplers.sampler_object("ddim")
    custom = SamplerCustomAdvanced.execute(Noise_RandomNoise(5), guider, sampler, sigmas, part).result[0]
    torch.testing.assert_close(custom["samples"], all_four[2:], **CLOSE)
    # The host numbers copies on, and prompts repeat as they do in the whole batch.
    (last,) = nodes.LatentFromBatch().frombatch(demo.empty(), 3, 1)
    (twice,) = nodes.RepeatLatentBatch().repeat(last, 2)
    assert twice["batch_index"] == [3, 4]
    out = sample(demo, model, four, latent=twice)
    torch.testing.assert_close(out, sample(demo, model, four, batch=5)[3:], **CLOSE)


def test_a_negative_set_goes_by_the_parts_too(demo, reference, four):
    model = demo.patched(reference=reference)
    away = demo.prompts("a moon", "a car", "a tree", "a cup")
    parts = in_parts(demo, model, four, negative=away)
    torch.testing.assert_close(parts, sample(demo, model, four, away), **CLOSE)


def test_a_conditioning_made_for_the_part_stays(demo, reference, four):
    """Two prompts for two pictures are theirs, whatever their number in the set."""
    model = demo.patched(reference=reference)
    part = rebatched(demo.empty(), 2)[1]
    out = sample(demo, model, demo.prompts("a boat", "a flower"), latent=part)
    torch.testing.assert_close(out, sample(demo, model, four)[2:], **CLOSE)


def test_masks_of_references_go_by_the_parts(demo, reference, other, four):
    masks = torch.zeros(4, 16, 16)
    masks[0, :, :8], masks[1, :, 8:], masks[2], masks[3, :8] = 1, 1, 0.5, 1
    both = demo.weigh(reference, mask=masks, others=demo.weigh(other, mask=1 - masks))
    model = demo.patched(reference=both)
    drawn = sample(demo, model, four)
    torch.testing.assert_close(in_parts(demo, model, four), drawn, **CLOSE)
    torch.testing.assert_close(in_parts(demo, model, four, 3), drawn, **CLOSE)


def test_masks_of_style_images_go_by_the_parts(demo, pack, four, tmp_path):
    from .style_aligned.styling import make_adapter, make_embeds, styled

    masks = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(1)).round()
    adapter = make_adapter(pack, demo.model, tmp_path / "adapter.safetensors")
    model, hooks = styled(pack, demo.model, adapter, make_embeds(pack), preset="all", mask=masks)
    drawn = sample(demo, model, four)
    torch.testing.assert_close(in_parts(demo, model, four), drawn, **CLOSE)
    hooked = [[tokens, {**details, "hooks": hooks}] for tokens, details in four]
    negative = [[tokens, {**details, "hooks": hooks}] for tokens, details in demo.encode("")]
    by_hooks = in_parts(demo, demo.model, hooked, negative=negative)
    torch.testing.assert_close(by_hooks, drawn, **CLOSE)


def test_a_recorded_first_picture_keeps_the_style_of_a_set_in_parts(demo, pack, four):
    """The way without pictures_at_once: record picture one, then draw the set in parts with it."""
    settings = {"seed": 5, "steps": STEPS, "cfg": 4.0, "sampler_name": "ddim", "scheduler": "simple"}
    settings |= {"positive": four, "negative": demo.encode(""), "denoise": 1.0}
    recorded, first = pack.nodes.references.RecordReference.execute(
        demo.model, latent_image=demo.empty(1), **settings
    ).result
    set_of_four = sample(demo, demo.patched(), four)
    torch.testing.assert_close(first["samples"], set_of_four[:1], **CLOSE)
    parts = in_parts(demo, demo.patched(reference=recorded), four)
    torch.testing.assert_close(parts, set_of_four, rtol=0, atol=0.02)
    assert (in_parts(demo, demo.patched(), four)[2:] - set_of_four[2:]).abs().mean() > 0.05


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_pictures_at_once_draw_the_same_set(demo, reference, four, mode, at_once):
    settings = {"shift": 0.7, "share_group_norm": True, "end_percent": 0.6}
    settings["reference"] = reference if mode == "reference" else None
    drawn = sample(demo, demo.patched(**settings), four)
    sizes = []
    handle = demo.model.model.diffusion_model.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append(len(args[0])), with_kwargs=True
    )
    try:
        parts = sample(demo, demo.patched(pictures_at_once=at_once, **settings), four)
    finally:
        handle.remove()
    assert max(sizes) <= 2 * at_once  # positive and negative
    torch.testing.assert_close(parts, drawn, **CLOSE)


def test_pictures_at_once_with_masks_controlnets_and_style_images(demo, pack, reference, four, tmp_path):
    from .style_aligned.styling import make_adapter, make_embeds, styled
    from .style_aligned.test_together_inputs import control_net, controlled

    masks = torch.rand(4, 16, 16, generator=torch.Generator().manual_seed(1)).round()
    adapter = make_adapter(pack, demo.model, tmp_path / "adapter.safetensors")
    look = {"preset": "all", "mask": masks.flip(0)}
    positive, negative = controlled(demo, four, control_net())
    weighed = demo.weigh(reference, mask=masks)
    drawn = {}
    for at_once in (0, 1, 3):
        model = demo.patched(reference=weighed, pictures_at_once=at_once)
        after = styled(pack, model, adapter, make_embeds(pack), **look)[0]
        first = styled(pack, demo.model, adapter, make_embeds(pack), **look)[0]
        before = demo.patched(first, reference=weighed, pictures_at_once=at_once)
        drawn[at_once, "after"] = sample(demo, after, positive, negative)
        drawn[at_once, "before"] = sample(demo, before, positive, negative)
    for out in drawn.values():
        torch.testing.assert_close(out, drawn[0, "after"], **CLOSE)


@pytest.mark.parametrize("at_once, pictures", [(0, 6), (2, 2), (6, 6), (9, 6)])
def test_the_memory_that_is_asked_for_is_that_of_the_pictures_at_once(pack, demo, at_once, pictures):
    """And of what the first picture, in parts the reference, leaves in the layers."""
    host = pack.nodes._host
    options = pack.zsamb_core.style_aligned.options.StyleOptions(at_once=at_once)
    run = host.style_aligned.call.Run(options, batch=6, size=(8, 8), start=9.0, end=0.0, patches={})
    asked = host.style_aligned.patch.count_references(
        lambda model, shape, **_: shape, demo.model, [6, 4, 8, 8],
        model_options={"transformer_options": {host.style_aligned.call.RUN: run}},
    )  # fmt: skip
    kept = host.style_aligned.bank_size.bytes_of_bank(demo.model, run)
    assert (kept > 0) == (pictures < 6)
    rows, of_one = asked[0] - pictures, demo.model.model.memory_required([1, 4, 8, 8])
    assert asked[1:] == [4, 8, 8] and (rows - 1) * of_one < kept <= rows * of_one


def test_never_more_than_the_pictures_at_once_are_in_the_model(demo, four):
    """Nor at the noise levels where nothing is shared."""
    from comfy.patcher_extension import WrappersMP

    rows = []

    def noted(executor, x, *args, **kwargs):
        rows.append(len(x))
        return executor(x, *args, **kwargs)

    model = demo.patched(pictures_at_once=2, end_percent=0.5)
    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "noted", noted)
    sample(demo, model, four)
    assert max(rows) <= 2 * 2 and sum(rows) == STEPS * 2 * 4


def test_pictures_at_once_and_all_pictures_exclude_each_other(demo):
    with pytest.raises(ValueError, match="SharedAttention Patch: pictures_at_once is 2 and share is all"):
        demo.patched(share="all pictures", pictures_at_once=2)


def test_what_hears_one_layer_of_the_whole_batch_refuses_parts_of_it(demo, reference, four):
    """Self-Attention Guidance blurs by what the layer's last call saw: the last pictures alone."""
    from .style_aligned.test_together_guidance import self_attention_guided

    guided = self_attention_guided(demo.model, 0.5)
    for ref in (None, reference):
        model = demo.patched(guided, reference=ref, pictures_at_once=2)
        with pytest.raises(
            ValueError, match="SharedAttention Patch: pictures_at_once is 2, and another node"
        ):
            sample(demo, model, four)
        whole_batch = demo.patched(guided, reference=ref)
        two = sample(demo, model, four, batch=2, steps=1)
        torch.testing.assert_close(two, sample(demo, whole_batch, four, batch=2, steps=1), **CLOSE)


def test_prompt_set_part_gives_a_stock_model_the_prompts_of_a_part(demo, pack, four):
    node = pack.nodes.prompts.PromptSetPart
    drawn = sample(demo, demo.model, four)
    for part, expected in zip(rebatched(demo.empty(), 2), drawn.split(2), strict=True):
        rows = node.execute(four, part).result[0]
        torch.testing.assert_close(sample(demo, demo.model, rows, latent=part), expected, **CLOSE)
        # A patched model leaves them as they are.
        model = demo.patched(strength=0.0)
        torch.testing.assert_close(sample(demo, model, rows, latent=part), expected, **CLOSE)
    assert node.execute(four, demo.empty()).result[0][0][0].equal(four[0][0])
    assert node.execute(demo.encode("a cat"), part).result[0][0][0].shape[0] == 1
    with pytest.raises(ValueError, match=r"Prompt Set Part: the latent input has batch_index \[1\] for 2"):
        node.execute(four, {**demo.empty(2), "batch_index": [1]})
    with pytest.raises(
        ValueError, match=r"Prompt Set Part: the latent input has batch_index \[0, -1\] for 2"
    ):
        node.execute(four, {**demo.empty(2), "batch_index": [0, -1]})


@pytest.fixture
def log_lines(caplog):
    caplog.set_level(logging.INFO)

    def lines():
        messages = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return messages

    return lines


def test_rows_that_were_made_for_the_batch_stay_whichever_pictures_it_holds(pack):
    def picked(rows):
        entry = {"cross_attn": torch.arange(rows).view(-1, 1, 1), "other": torch.zeros(3)}
        numbers(pack).pick_prompts({"positive": [entry]}, (3, 0), 2, "Node")
        return entry["cross_attn"].flatten().tolist()

    assert picked(2) == [0, 1] and picked(1) == [0]
    assert picked(4) == [3, 0] and picked(3) == [0, 0]


def test_pictures_behind_the_last_prompt_are_said_of_a_part_too(pack, demo, four, log_lines):
    node = pack.nodes.prompts.PromptSetPart
    log_lines()
    ((tokens, _),) = node.execute(four, {**demo.empty(2), "batch_index": [1, 5]}).result[0]
    assert tokens.equal(four[0][0][[1, 1]])
    (line,) = [line for line in log_lines() if line.startswith("Prompt Set Part: ")]
    assert "there are 4 prompts, so picture 6 of the set repeats prompt 2." in line


def test_what_is_not_drawn_or_repeated_is_said(demo, reference, four, log_lines):
    model = demo.patched(reference=reference)
    for latent, message in (
        (demo.empty(2), "SharedAttention Patch: of 4 prompts this run draws pictures 1, 2."),
        (rebatched(demo.empty(), 2)[1], "SharedAttention Patch: of 4 prompts this run draws pictures 3, 4."),
        (
            demo.empty(6),
            "SharedAttention Patch: there are 4 prompts, so pictures 5, 6 of the set repeat prompts 1, 2.",
        ),
    ):
        log_lines()
        sample(demo, model, four, latent=latent, steps=1)
        assert [line for line in log_lines() if line.startswith(message)], message
    sample(demo, model, four, steps=1)
    assert not [line for line in log_lines() if "prompts" in line]
    sample(demo, model, four, batch=2, steps=1, disable_noise=True)
    (line,) = [line for line in log_lines() if "nothing tells" in line]
    assert line.startswith("SharedAttention Patch: 4 prompts for 2 pictures, and nothing tells which")


def test_parts_from_prompts_alone_are_warned_of(demo, reference, four, log_lines):
    model = demo.patched()
    first, second = rebatched(demo.empty(), 2)
    sample(demo, model, four, latent=first, steps=1)
    assert not [line for line in log_lines() if "without its first" in line]
    sample(demo, model, four, latent=second, steps=1)
    (line,) = [line for line in log_lines() if "without its first" in line]
    assert "pictures 3, 4 of a set without its first picture" in line and "pictures_at_once" in line
    sample(demo, model, four, batch=1, steps=1)
    assert [line for line in log_lines() if "one picture and no reference" in line]
    for latent in (second, demo.empty(1)):
        sample(demo, demo.patched(reference=reference), four, latent=latent, steps=1)
        assert not [line for line in log_lines() if "reference" in line]


def test_context_windows_over_the_batch_have_each_picture_s_prompt(demo, reference):
    """Three prompts for six pictures: the host by itself cuts only what has a row for every picture."""
    from .instantstyle.test_style_images import windows

    three = demo.prompts("a cat", "a house", "a boat")
    model = demo.patched(reference=reference)
    parts = windows(model, 2, 1, 0)
    drawn, whole = (sample(demo, m, three, batch=6, size=16) for m in (parts, model))
    torch.testing.assert_close(drawn, whole, **CLOSE)
