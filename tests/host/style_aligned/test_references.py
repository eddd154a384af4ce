"""References: any number of them, by whatever way they were made, and what must be equal among them."""

import gc
from contextlib import suppress

import pytest
import torch

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}


def drawn(demo, four, reference, **settings):
    return demo.sample(demo.patched(shift=0.7, reference=reference, **settings), four)


def test_weight_0_is_absence_bit_for_bit(demo, four, reference, other):
    alone = drawn(demo, four, reference)
    assert torch.equal(drawn(demo, four, demo.weigh(other, 0.0, others=reference)), alone)
    assert torch.equal(drawn(demo, four, demo.weigh(reference, others=demo.weigh(other, 0.0))), alone)


def test_a_single_weight_says_nothing(demo, four, reference):
    assert torch.equal(drawn(demo, four, demo.weigh(reference, 0.3)), drawn(demo, four, reference))


@pytest.mark.parametrize("settings", [{}, {"share_group_norm": True}, {"share": "all pictures"}])
def test_halves_of_equal_references_are_one(demo, four, reference, settings):
    halves = demo.weigh(reference, 0.5, others=demo.weigh(reference, 0.5))
    torch.testing.assert_close(
        drawn(demo, four, halves, **settings), drawn(demo, four, reference, **settings), **CLOSE
    )


def test_the_order_of_references_does_not_matter(demo, four, reference, other):
    mask = torch.zeros(1, 16, 16)
    mask[..., 6:] = 0.8
    one, two = demo.weigh(reference, 2.0, shift=0.1, scale=0.9), demo.weigh(other, 1.0, mask=mask)
    torch.testing.assert_close(
        drawn(demo, four, demo.weigh(one, others=two)),
        drawn(demo, four, demo.weigh(two, others=one)),
        **CLOSE,
    )


def test_a_mask_of_ones_is_no_mask_and_one_of_zeros_no_reference(demo, four, reference, other, stock):
    ones = demo.weigh(reference, mask=torch.ones(1, 64, 64))
    torch.testing.assert_close(drawn(demo, four, ones), drawn(demo, four, reference), **CLOSE)
    nowhere = demo.weigh(reference, mask=torch.zeros(1, 64, 64))
    torch.testing.assert_close(drawn(demo, four, nowhere), stock, **CLOSE)


def test_regions_take_their_own_reference(demo, reference, other):
    """Where a mask leaves a half to the other reference, that half follows the other reference's change."""
    left = torch.zeros(1, 16, 16)
    left[..., :8] = 1
    four = demo.prompts("a cat")
    both = demo.weigh(reference, mask=left, others=demo.weigh(other, mask=1 - left))

    def draw(ref):
        return demo.sample(demo.patched(shift=0.7, reference=ref), four, batch=1, steps=8, size=16)[0]

    mixed, one, two = draw(both), draw(reference), draw(other)
    near = [
        [(mixed[..., h] - d[..., h]).square().mean() for d in (one, two)] for h in (slice(0, 8), slice(8, 16))
    ]
    assert near[0][0] < near[0][1] and near[1][1] < near[1][0]


def test_without_its_reference_a_link_of_a_chain_passes_the_others_on(demo, reference, caplog):
    """As where the node that gives it is muted; the host then leaves the input out."""
    caplog.clear()
    assert demo.weigh(None, 2.0, others=reference) is reference
    assert [r.getMessage() for r in caplog.records if "Style Reference: no reference" in r.getMessage()]
    with pytest.raises(ValueError, match="Style Reference: neither reference nor others is connected"):
        demo.weigh(None)


def test_a_recorded_first_picture_is_what_prompts_only_shares(demo):
    """From prompts only, the others see the first picture on its way; recorded on its own, its way is the
    same, so the others come out the same: with samplers that add no noise and ask once per level.
    """
    lines = ("a cat", "a house", "a boat")
    latent = {**demo.empty(3), "batch_index": [0, 1, 2]}
    settings = {
        "seed": 5,
        "steps": demo.steps,
        "cfg": 4.0,
        "sampler_name": "dpmpp_2m",
        "scheduler": "ddim_uniform",
    }
    first = {**demo.empty(1), "batch_index": [0]}
    node = demo.pack.nodes.references.RecordReference
    reference, picture = node.execute(
        demo.model,
        positive=demo.encode("a cat"),
        negative=demo.encode(""),
        latent_image=first,
        denoise=1.0,
        **settings,
    ).result

    def draw(model, prompts, latent):
        return demo.sample(model, prompts, latent=latent, sampler="dpmpp_2m", scheduler="ddim_uniform")

    together = draw(demo.patched(shift=0.7), demo.prompts(*lines), latent)
    torch.testing.assert_close(picture["samples"], together[:1], **CLOSE)
    rest = {**demo.empty(2), "batch_index": [1, 2]}
    with_reference = demo.patched(shift=0.7, reference=reference)
    torch.testing.assert_close(draw(with_reference, demo.prompts(*lines[1:]), rest), together[1:], **CLOSE)
    # The picture it was recorded from comes out again too, since it shares with itself.
    again = draw(with_reference, demo.prompts(lines[0]), first)
    torch.testing.assert_close(again, together[:1], **CLOSE)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc", "euler_ancestral", "dpmpp_sde"])
def test_recording_changes_nothing_of_the_picture(demo, sampler):
    positive = demo.encode("a cat")
    node = demo.pack.nodes.references.RecordReference
    reference, picture = node.execute(
        demo.model, 5, demo.steps, 4.0, sampler, "simple", positive, demo.encode(""),
        demo.empty(1), 1.0,
    ).result  # fmt: skip
    stock = demo.sample(demo.model, positive, batch=1, sampler=sampler)
    assert torch.equal(picture["samples"], stock)
    path = reference.references[0].trajectory
    assert len(path.sigmas) > demo.steps and path.sigmas[0] == 0
    latent = demo.model.model.process_latent_in(stock)
    torch.testing.assert_close(path.points[:1], latent, rtol=0, atol=1e-5)


def test_a_noised_reference_is_the_hosts_noise_on_the_hosts_latent(demo, four, star, stock):
    import comfy.sample

    latent = {"samples": demo.vae.encode(star)}
    node = demo.pack.nodes.references.NoiseReference
    reference = node.execute(demo.model, latent, demo.encode("a star"), demo.encode(""), 7).result[0]
    sigma = torch.tensor([3.0])
    expected = demo.model.model.process_latent_in(latent["samples"]) + 3.0 * comfy.sample.prepare_noise(
        latent["samples"], 7
    )
    torch.testing.assert_close(reference.references[0].trajectory.at(sigma), expected, rtol=0, atol=1e-5)
    out = drawn(demo, four, reference)
    assert (out - stock).abs().mean() > 0.02


def test_an_offset_acts_at_the_start_only(demo, four, star):
    reference = demo.invert(star, steps=8)[0]
    late = demo.patched(reference=demo.weigh(reference, offset=2), start_percent=0.5)
    torch.testing.assert_close(
        demo.sample(late, four),
        demo.sample(demo.patched(reference=reference, start_percent=0.5), four),
        **CLOSE,
    )
    whole = drawn(demo, four, demo.weigh(reference, offset=2))
    assert (whole - drawn(demo, four, reference)).abs().mean() > 1e-3


def test_the_window_is_in_parts_of_the_schedule(demo, four, reference):
    """Two halves of a schedule make the whole; before its start the picture is the stock model's."""
    whole = demo.patched(reference=reference)
    assert torch.equal(
        demo.sample(demo.patched(reference=reference, start_percent=0.0, end_percent=1.0), four),
        demo.sample(whole, four),
    )
    late = demo.patched(reference=reference, start_percent=0.9)
    stock = demo.sample(demo.model, four, last_step=2, force_full_denoise=False)
    assert torch.equal(demo.sample(late, four, last_step=2, force_full_denoise=False), stock)
    assert not torch.equal(demo.sample(late, four, steps=20), demo.sample(demo.model, four, steps=20))


def test_sharing_group_norms_does_something_and_goes_with_the_clone(demo, four, reference, stock):
    shared = demo.patched(reference=reference, share_group_norm=True)
    assert not torch.equal(demo.sample(shared, four), demo.sample(demo.patched(reference=reference), four))
    assert torch.equal(demo.sample(demo.model, four), stock)
    off = demo.patched(shared, strength=0.0)
    assert torch.equal(demo.sample(off, four), stock)
    again = demo.patched(shared, reference=reference)
    torch.testing.assert_close(
        demo.sample(again, four), demo.sample(demo.patched(reference=reference), four), **CLOSE
    )


def test_group_norms_by_choice(demo, four, reference):
    """True and False are of workflows that were saved before there was a choice."""
    for connected, same in ((reference, True), (None, False)):
        drawn = {
            choice: demo.sample(demo.patched(reference=connected, share_group_norm=choice), four, steps=1)
            for choice in ("auto", "on", "off", True, False)
        }
        assert torch.equal(drawn["on"], drawn[True]) and torch.equal(drawn["off"], drawn[False])
        assert not torch.equal(drawn["on"], drawn["off"])
        assert torch.equal(drawn["auto"], drawn[same])
    with pytest.raises(ValueError, match=r"^SharedAttention Patch: share_group_norm is 'yes', expected auto"):
        demo.patched(share_group_norm="yes")


def test_a_foreign_group_norm_patch_is_refused(demo, reference):
    model = demo.model.clone()
    model.add_object_patch("diffusion_model.out.0.forward", lambda x: x)
    assert demo.patched(model) is not None
    with pytest.raises(ValueError, match="another node has patched diffusion_model.out.0.forward"):
        demo.patched(model, share_group_norm=True)


def alive() -> int:
    """Bytes of all tensors that Python still holds."""
    gc.collect()
    storages = {}
    for tensor in gc.get_objects():
        if isinstance(tensor, torch.Tensor) and tensor.device.type == "cpu":
            storage = tensor.untyped_storage()
            with suppress(RuntimeError):  # what a torch.compile before left behind has no memory
                storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def test_fifty_runs_leave_nothing_behind(demo, four, reference, other):
    """Patch, run, unpatch, run, branch, run: stock stays bit-identical, and no tensor stays."""
    stock = demo.sample(demo.model, four, steps=1)
    both = demo.weigh(reference, 0.3, others=other)
    kinds = (
        lambda: demo.patched(reference=both, share_group_norm=True),
        lambda: demo.patched(share_group_norm=True),
        lambda: demo.patched(reference=reference, share="all pictures"),
        lambda: demo.adain(demo.patched(strength=0.0, reference=reference), values=True),
        lambda: demo.patched(demo.patched(reference=both, share_group_norm=True), strength=0.0),
    )
    held, expected = {}, {}
    for i in range(50):
        kind = i % len(kinds)
        out = demo.sample(kinds[kind](), four, steps=1)
        assert torch.equal(out, expected.setdefault(kind, out)), f"run {i}"
        if i % 5 == 4:
            assert torch.equal(demo.sample(demo.model, four, steps=1), stock), f"run {i}"
            held[i] = alive()
    assert held[49] <= held[9], held
    context = demo.pack.nodes._host.style_aligned.call.CALL
    assert context.get() is None
