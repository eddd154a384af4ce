"""What must not change, does not: strength 0, other branches, the reference's own row, and how the host
batches.
"""

import pytest
import torch

pytestmark = pytest.mark.host

# Two ways of batching the same rows differ by fp32 rounding; sampled latents have a spread of about 8.
CLOSE = {"rtol": 0, "atol": 2e-3}


def test_strength_0_is_stock_bit_for_bit(demo, four, reference, stock):
    assert torch.equal(demo.sample(demo.patched(strength=0.0), four), stock)
    assert torch.equal(demo.sample(demo.patched(strength=0.0, reference=reference), four), stock)
    assert torch.equal(demo.sample(demo.adain(strength=0.0), four), stock)


def test_a_patched_branch_leaves_the_model_bit_identical(demo, four, reference, stock):
    patched = demo.patched(reference=reference)
    assert not torch.equal(demo.sample(patched, four), stock)
    assert torch.equal(demo.sample(demo.model, four), stock)
    assert torch.equal(demo.sample(demo.model.clone(), four), stock)


def test_switching_a_patched_branch_off_again_is_stock(demo, four, stock):
    patched = demo.patched()
    before = demo.sample(patched, four)
    assert torch.equal(demo.sample(demo.patched(patched, strength=0.0), four), stock)
    assert torch.equal(demo.sample(patched, four), before)


def test_the_patch_does_something(demo, four, reference, stock):
    for patched in (demo.patched(), demo.patched(reference=reference), demo.adain()):
        assert (demo.sample(patched, four)[1:] - stock[1:]).abs().mean() > 0.02


def test_the_first_picture_of_a_set_is_the_stock_picture(demo, four, stock):
    """It is the reference of all others, and a reference row's attention is plain attention."""
    aligned = demo.sample(demo.patched(shift=0.7), four)
    torch.testing.assert_close(aligned[0], stock[0], **CLOSE)


def test_pictures_of_a_set_do_not_depend_on_each_other(demo, reference):
    """With a reference from outside, a picture is the same alone and in company."""
    together = demo.sample(demo.patched(reference=reference), demo.prompts("a cat", "a house"), batch=2)
    latent = together[:1]
    alone = demo.sample(demo.patched(reference=reference), demo.prompts("a cat"), batch=1)
    torch.testing.assert_close(alone, latent, **CLOSE)


@pytest.fixture(params=["prompts only", "reference"])
def patched(request, demo, reference):
    return demo.patched(shift=0.7, reference=reference if request.param == "reference" else None)


def chunks_seen(model):
    """Record how many cond entries the host puts into each model call."""
    sizes = []

    def record(apply_model, call):
        sizes.append(len(call["cond_or_uncond"]))
        return apply_model(call["input"], call["timestep"], **call["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(record)
    return model, sizes


def test_joint_and_separate_calls_give_one_picture(demo, four, patched, monkeypatch):
    joint_model, joint_chunks = chunks_seen(patched)
    joint = demo.sample(joint_model, four)
    assert set(joint_chunks) == {2}
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(patched), "get_free_memory", lambda self, device: 0)
        split_model, split_chunks = chunks_seen(patched)
        split = demo.sample(split_model, four)
    assert set(split_chunks) == {1}
    torch.testing.assert_close(split, joint, **CLOSE)


def test_a_negative_of_another_length_gives_one_picture(demo, four, patched):
    """Repeating a prompt's tokens changes nothing, but five times the length makes the host call
    separately.
    """
    negative = demo.encode("")
    long = [[negative[0][0].repeat(1, 5, 1), negative[0][1]]]
    model, chunks = chunks_seen(patched)
    separate = demo.sample(model, four, long)
    assert set(chunks) == {1}
    torch.testing.assert_close(separate, demo.sample(patched, four, negative), **CLOSE)


def test_a_long_negative_prompt_runs(demo, four, patched):
    assert demo.sample(patched, four, demo.encode("a car, " * 150)).isfinite().all()


def test_cfg_1_with_and_without_the_negative_is_one_picture(demo, four, patched):
    model, chunks = chunks_seen(patched)
    alone = demo.sample(model, four, cfg=1.0)
    assert set(chunks) == {1}
    both, both_chunks = chunks_seen(patched)
    both.set_model_sampler_cfg_function(
        lambda a: a["uncond"] + (a["cond"] - a["uncond"]) * a["cond_scale"], True
    )
    torch.testing.assert_close(demo.sample(both, four, cfg=1.0), alone, **CLOSE)
    assert set(both_chunks) == {2}


def test_node_order_does_not_matter(demo, four):
    first = demo.adain(demo.patched(), keys=False, strength=0.5)
    second = demo.patched(demo.adain(keys=False, strength=0.5))
    assert torch.equal(demo.sample(first, four), demo.sample(second, four))
    assert not torch.equal(demo.sample(first, four), demo.sample(demo.patched(), four))


@pytest.mark.parametrize("sampler", ["euler", "heun", "dpmpp_2m", "euler_ancestral"])
def test_any_sampler_gives_one_picture_joint_or_separate(demo, four, patched, sampler, monkeypatch):
    """Several calls in a step, memory of earlier steps, and fresh noise included.

    The noise levels leave out the demo model's last, 4518, where fp32 itself rounds latents by 0.0005.
    """
    settings = {"sampler": sampler, "scheduler": "ddim_uniform"}
    joint = demo.sample(patched, four, **settings)
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(patched), "get_free_memory", lambda self, device: 0)
        separate = demo.sample(patched, four, **settings)
    torch.testing.assert_close(separate, joint, **CLOSE)


def test_combined_prompts_are_three_chunks_and_one_picture(demo, four, patched):
    """Conditioning (Combine) of a prompt set with itself: the same picture, from three chunks in a call."""
    model, chunks = chunks_seen(patched)
    combined = demo.sample(model, four + four)
    assert set(chunks) == {3}
    torch.testing.assert_close(combined, demo.sample(patched, four), **CLOSE)


def test_an_area_of_the_whole_picture_is_the_plain_prompt(demo, four, patched):
    """The host then copies the positive entry into the negative, which must still count as negative."""
    area = [[four[0][0], {**four[0][1], "area": ("percentage", 1.0, 1.0, 0.0, 0.0), "strength": 1.0}]]
    torch.testing.assert_close(demo.sample(patched, area), demo.sample(patched, four), **CLOSE)


def test_an_area_prompt_works_from_prompts_only(demo, four):
    part = [[four[0][0], {**four[0][1], "area": (8, 8, 0, 0), "strength": 1.0}]]
    model, aligned = demo.prompts("a cat", "a boat", "a cat", "a boat"), demo.patched()
    out = demo.sample(aligned, part + model)
    assert out.isfinite().all()
    assert not torch.equal(out, demo.sample(demo.model, part + model))


def test_sampler_custom_advanced_agrees_with_ksampler(demo, four, patched):
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import Noise_RandomNoise, SamplerCustomAdvanced

    guider = comfy.samplers.CFGGuider(patched)
    guider.set_conds(four, demo.encode(""))
    guider.set_cfg(4.0)
    sigmas = comfy.samplers.calculate_sigmas(patched.get_model_object("model_sampling"), "simple", demo.steps)
    custom = SamplerCustomAdvanced.execute(
        Noise_RandomNoise(5),
        guider,
        comfy.samplers.sampler_object("ddim"),
        sigmas,
        demo.empty(),
    ).result[0]["samples"]
    torch.testing.assert_close(custom, demo.sample(patched, four), **CLOSE)


def pieces(demo, line, more):
    """``line`` as the host encodes it with ``more`` empty pieces of 77 tokens behind."""
    tokens, empty = demo.clip.tokenize(line), demo.clip.tokenize("")
    return demo.clip.encode_from_tokens_scheduled({k: v + more * empty[k] for k, v in tokens.items()})[0]


def test_prompt_set_rows_are_the_prompts_with_empty_pieces_behind(demo):
    """Row i of a set is what the host gives for prompt i, filled up to the longest of them."""
    lines = ["a cat", "a house " * 60, "(a boat:1.3) in neon style", "a moon, " * 180]
    lengths = [demo.encode(line.strip())[0][0].shape[1] for line in lines]
    longest = max(lengths)
    assert len(set(lengths)) == 3 and longest > 2 * sorted(lengths)[2]
    rows = demo.prompts(*lines)
    assert rows[0][0].shape[:2] == (4, longest) and rows[0][1]["pooled_output"].shape[0] == 4
    for i, line in enumerate(lines):
        tokens, details = pieces(demo, line.strip(), (longest - lengths[i]) // 77)
        torch.testing.assert_close(rows[0][0][i : i + 1], tokens, rtol=0, atol=1e-4)
        torch.testing.assert_close(rows[0][1]["pooled_output"][i : i + 1], details["pooled_output"])
        alone = demo.encode(line.strip())[0]
        assert torch.equal(rows[0][0][i : i + 1, : lengths[i]], alone[0])
        assert torch.equal(rows[0][1]["pooled_output"][i : i + 1], alone[1]["pooled_output"])


def test_prompts_of_one_length_are_left_as_they_are(demo):
    rows = demo.prompts("a cat", "a house in neon style")
    alone = [demo.encode(line)[0][0] for line in ("a cat", "a house in neon style")]
    assert torch.equal(rows[0][0], torch.cat(alone))


def test_prompts_of_seven_lengths_are_as_long_as_the_longest(demo):
    rows = demo.prompts(*("a moon, " * (20 * n) for n in range(1, 8)))
    longest = demo.encode(("a moon, " * 140).strip())[0][0].shape[1]
    assert rows[0][0].shape[:2] == (7, longest)
