"""Multi-Ref Blend: latents, pictures and style references through the node, and on to sampling."""

import pytest
import torch

pytestmark = pytest.mark.host
METHODS = ["linear", "slerp", "karcher", "variance preserving", "as coded"]


def blended(pack, *references, weights="1", method="karcher", fit="crop", vae=None):
    """(LATENT, STYLE_REFERENCE, IMAGE) of the node; the last references come first in the dict."""
    inputs = {f"reference{i}": value for i, value in enumerate(references)}
    node = pack.nodes.blend.MultiRefBlend
    return node.execute(weights, method, fit, dict(reversed(inputs.items())), vae).result


def latent(*samples):
    return {"samples": torch.cat(samples)}


@pytest.fixture(scope="module")
def two(demo, star, moon):
    with torch.inference_mode():
        return demo.vae.encode(star), demo.vae.encode(moon)


@pytest.mark.parametrize("method", METHODS)
def test_latents_by_the_equations(pack, two, method):
    core = pack.zsamb_core.style_aligned.blend
    expected = core.blend(torch.cat(two), [3, 1], core.METHODS[method])[None]
    output, reference, preview = blended(pack, *map(latent, two), weights="0.6 0.2", method=method)
    torch.testing.assert_close(output["samples"], expected, rtol=0, atol=1e-4)
    assert "output latent" in reference.message and "needs vae" in preview.message
    as_batch = blended(pack, latent(*two), weights="0.6, 0.2", method=method)[0]
    assert torch.equal(as_batch["samples"], output["samples"])
    assert torch.equal(blended(pack, latent(*two), weights="0, 2", method=method)[0]["samples"], two[1])


def test_a_sweep_is_a_batch(pack, two, demo):
    output, _, preview = blended(pack, latent(*two), weights="1, 0\n0.5 0.5\n\n0, 1\n", vae=demo.vae)
    assert output["samples"].shape == (3, 4, 16, 16) and preview.shape == (3, 128, 128, 3)
    assert torch.equal(output["samples"][0], two[0][0]) and torch.equal(output["samples"][2], two[1][0])
    torch.testing.assert_close(preview, demo.vae.decode(output["samples"]))


@pytest.mark.parametrize("fit", ["crop", "pad", "squash"])
def test_pictures_of_other_sizes_take_the_first_s(pack, demo, star, moon, fit):
    wide = torch.nn.functional.interpolate(moon.movedim(-1, 1), (100, 200)).movedim(1, -1)
    samples = blended(pack, star, wide, weights="0, 1", fit=fit, vae=demo.vae)[0]["samples"]
    assert samples.shape == (1, 4, 16, 16)
    core = pack.zsamb_core.style_aligned.resize
    expected = demo.vae.encode(core.fit(wide.movedim(-1, 1), (128, 128), fit, 0.5).movedim(1, -1))
    torch.testing.assert_close(samples, expected, rtol=0, atol=1e-3)
    others = [core.fit(wide.movedim(-1, 1), (128, 128), other, 0.5) for other in core.FITS if other != fit]
    assert all(not torch.equal(core.fit(wide.movedim(-1, 1), (128, 128), fit, 0.5), x) for x in others)


def test_ten_inputs_keep_their_order(pack, two):
    zeros = latent(torch.zeros_like(two[0]))
    latents = [zeros] * 9 + [latent(two[1])] + [latent(two[0])]
    weights = ", ".join(["0"] * 9 + ["0", "1"])
    assert torch.equal(blended(pack, *latents, weights=weights)[0]["samples"], two[0])


def test_style_references_side_by_side_are_the_weighed_ones(pack, demo, four, reference, other):
    mixture = blended(pack, reference, other, weights="0.7, 0.3", method="attention")[1]
    weighed = demo.weigh(other, 0.3, others=demo.weigh(reference, 0.7))
    a, b = (demo.sample(demo.patched(shift=0.7, reference=r), four) for r in (mixture, weighed))
    torch.testing.assert_close(a, b, rtol=0, atol=2e-3)


@pytest.mark.parametrize("method", ["linear", "karcher", "variance preserving"])
def test_style_references_blend_at_every_noise_level(pack, demo, four, reference, other, method):
    """A path between two, which draws something else than either, and at the ends is theirs."""

    def draw(source):
        return demo.sample(demo.patched(shift=0.7, reference=source), four)

    mixture = blended(pack, reference, other, weights="0.5, 0.5", method=method)[1]
    (one,) = mixture.references
    core = pack.zsamb_core.style_aligned.blend
    sigma = torch.tensor([3.0])
    at = torch.cat([r.references[0].trajectory.at(sigma) for r in (reference, other)])
    nodes = reference.references[0].trajectory.sigmas
    assert torch.equal(
        one.trajectory.sigmas, torch.cat([nodes, other.references[0].trajectory.sigmas]).unique()
    )
    node = nodes[2:3]
    at = torch.cat([r.references[0].trajectory.at(node) for r in (reference, other)])
    expected = core.blend(at, [0.5, 0.5], core.METHODS[method])
    torch.testing.assert_close(one.trajectory.at(node)[0], expected, rtol=0, atol=1e-4)
    out = draw(mixture)
    assert out.isfinite().all()
    for end in (reference, other):
        assert (out - draw(end)).abs().mean() > 0.01
    alone = blended(pack, reference, other, weights="1, 0", method=method)[1]
    assert torch.equal(draw(alone), draw(reference))


def test_the_conditioning_of_a_blend_is_the_host_s_average(pack, demo):
    from nodes import ConditioningAverage

    long = demo.encode("a cat and " * 30)
    average = pack.nodes._host.conditioning.average
    a, b = demo.encode("a star"), demo.encode("a moon")
    mixture = average([(a, 0.7), (b, 0.3)])
    (expected,) = ConditioningAverage().addWeighted(a, b, 0.7)
    torch.testing.assert_close(mixture[0][0], expected[0][0])
    torch.testing.assert_close(mixture[0][1]["pooled_output"], expected[0][1]["pooled_output"])
    (expected,) = ConditioningAverage().addWeighted(long, b, 0.7)
    torch.testing.assert_close(average([(long, 0.7), (b, 0.3)])[0][0], expected[0][0])


def test_all_else_in_the_conditioning_of_a_blend_is_the_heaviest_s(pack, demo):
    average = pack.nodes._host.conditioning.average
    light, heavy = demo.encode("a star"), demo.encode("a moon")
    light[0][1].update(width=64, strength=0.5)
    heavy[0][1].update(width=128)
    for order in ([(light, 0.3), (heavy, 0.7)], [(heavy, 0.7), (light, 0.3)]):
        ((_, details),) = average(order)
        assert details["width"] == 128 and "strength" not in details
    assert "pooled_output" in heavy[0][1] and not torch.equal(
        details["pooled_output"], heavy[0][1]["pooled_output"]
    )


def test_where_one_conditioning_has_no_pooled_output_the_heaviest_s_stays(pack, demo):
    average = pack.nodes._host.conditioning.average
    light, heavy = demo.encode("a star"), demo.encode("a moon")
    pooled = heavy[0][1]["pooled_output"]
    del light[0][1]["pooled_output"]
    assert average([(light, 0.3), (heavy, 0.7)])[0][1]["pooled_output"] is pooled
    assert "pooled_output" not in average([(light, 0.7), (heavy, 0.3)])[0][1]


ERRORS = [
    ({"weights": "1, 2, 3"}, "3 weights for 2 references"),
    ({"weights": "1, -2"}, "expected numbers of 0 or more"),
    ({"weights": "0, 0"}, "one reference at least that counts"),
    ({"weights": "nan, 1"}, "expected numbers of 0 or more"),
    ({"weights": "one, two"}, "weights: 'one' is not a number"),
    ({"weights": " \n "}, "weights is empty"),
    ({"method": "attention"}, "method attention is for style references"),
]


@pytest.mark.parametrize("settings, message", ERRORS)
def test_errors_name_the_input(pack, two, settings, message):
    with pytest.raises(ValueError, match=f"Multi-Ref Blend: .*{message}"):
        blended(pack, latent(*two), **settings)


def test_kinds_do_not_mix(pack, demo, two, star, reference):
    for references, message in (
        ((star,), "vae is not connected"),
        ((star, latent(*two)), "expected one kind"),
        ((reference, latent(*two)), "expected one kind"),
        ((latent(two[0]), latent(two[1][:, :3])), "expected pictures of one model"),
    ):
        vae = None if "vae" in message else demo.vae
        with pytest.raises(ValueError, match=f"Multi-Ref Blend: .*{message}"):
            blended(pack, *references, vae=vae)
    with pytest.raises(ValueError, match="weights has 2 lines"):
        blended(pack, reference, reference, weights="1, 0\n0, 1")
