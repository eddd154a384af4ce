"""Recorded references by every sampler of the host: the path is the picture plus unit noise at every level,
also between the levels that were drawn at and above them.
"""

import comfy.samplers
import pytest
import torch

pytestmark = pytest.mark.host
SAMPLERS = [name for name in comfy.samplers.SAMPLER_NAMES if not name.endswith("_gpu")]
ADDS_NOISE = ("euler_ancestral", "dpmpp_2m_sde", "dpmpp_sde", "lcm")
TO = 14.6


def ratios(path, low: float, high: float) -> list[float]:
    """The path's deviation over sqrt(x0^2 + sigma^2) at levels from ``low`` to ``high``."""
    x0 = path.points[0]
    levels = torch.linspace(low, high, 9)
    quotients = path.at(levels).flatten(1).std(1) / (x0.var() + levels**2).sqrt()
    return quotients.tolist()


def recorded(demo, model, latent, sampler, denoise, steps=6, scheduler="simple", **more):
    node = demo.pack.nodes.references.RecordReference
    values = {"seed": 5, "steps": steps, "cfg": 4.0, "sampler_name": sampler, "scheduler": scheduler}
    prompts = {"positive": demo.encode("a star"), "negative": demo.encode("")}
    latent = {"samples": latent, **more}
    outputs = node.execute(model, latent_image=latent, denoise=denoise, **prompts, **values).result
    return outputs[0].references[0].trajectory


@pytest.fixture(scope="module")
def gaussian(demo, star):
    """The demo model with SDXL's noise levels, whose UNet answers exactly for pictures that are normal in
    each pixel around the star.
    """
    from comfy.patcher_extension import WrappersMP
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    with torch.inference_mode():
        latent = demo.model.model.process_latent_in(demo.vae.encode(star))
        mean, spread = latent, 0.5
        model = ModelSamplingDiscrete().patch(demo.model, "eps", False)[0]
        sampling = model.get_model_object("model_sampling")

    def exact(executor, x_in, t, *args, **kwargs):
        s = sampling.sigma(t).view(-1, 1, 1, 1)
        return (x_in * (1 + s**2).sqrt() - mean) * s / (s**2 + spread**2)

    model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "exact", exact)
    return model


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_path_is_the_picture_plus_unit_noise(demo, gaussian, star, sampler):
    latent = demo.vae.encode(star)
    for denoise in (0.3, 0.5, 0.7, 1.0):
        path = recorded(demo, gaussian, latent, sampler, denoise)
        levels = [float(s) for s in path.sigmas]
        for low, high in [*zip(levels[:-1], levels[1:], strict=True), (levels[-1], TO)]:
            if high > low:
                quotients = ratios(path, max(low, 1e-3), high)
                assert min(quotients) > 0.9 and max(quotients) < 1.1, (denoise, low, high, quotients)
        # The picture's mean stays the picture's: what lies over it is the noise that was drawn.
        over = (path.at(torch.tensor([TO]))[0] - path.points[0]) / TO
        assert over.mean().abs() < 0.1


@pytest.mark.parametrize("sampler", [*ADDS_NOISE, "ddim"])
def test_so_it_is_on_a_real_unet(demo, star, sampler):
    path = recorded(demo, demo.model, demo.vae.encode(star), sampler, 0.5)
    levels = [float(s) for s in path.sigmas]
    for low, high in [*zip(levels[:-1], levels[1:], strict=True), (levels[-1], TO)]:
        quotients = ratios(path, max(low, 1e-3), high)
        assert min(quotients) > 0.9 and max(quotients) < 1.1, (low, high, quotients)


@pytest.mark.parametrize("sampler", ["ddim", "euler"])
def test_what_is_drawn_in_ddim_s_steps_keeps_its_straight_lines(demo, star, sampler):
    """Bit for bit, at its nodes and between: nothing was added on the way, so nothing is put back."""
    path = recorded(demo, demo.model, torch.zeros(1, 4, 16, 16), sampler, 1.0)
    assert not path.fresh
    plain = type(path)(path.sigmas, path.points)
    levels = torch.cat([path.sigmas, (path.sigmas[:-1] + path.sigmas[1:]) / 2])
    assert torch.equal(path.at(levels), plain.at(levels))


@pytest.mark.parametrize("sampler", ADDS_NOISE)
def test_a_path_goes_through_what_the_model_saw_bit_for_bit(demo, sampler):
    path = recorded(demo, demo.model, torch.zeros(1, 4, 16, 16), sampler, 1.0, steps=4)
    assert path.fresh and torch.equal(path.at(path.sigmas), path.points)


def test_above_its_levels_a_path_goes_on_with_the_noise_it_came_from(demo, star):
    from comfy.sample import prepare_noise

    latent = demo.vae.encode(star)
    path = recorded(demo, demo.model, latent, "euler_ancestral", 0.4)
    expected = path.points[0] + 9.0 * prepare_noise(latent, 5)[0]
    torch.testing.assert_close(path.at(torch.tensor([9.0]))[0], expected)


def test_a_picture_of_a_set_is_recorded_with_its_own_noise(demo, star):
    from comfy.sample import prepare_noise

    latent = demo.vae.encode(star)[..., :8, :8].contiguous()
    path = recorded(demo, demo.model, latent, "euler", 0.4, steps=2, batch_index=[2])
    own = prepare_noise(latent, 5, [2])[0]
    assert torch.equal(path.noise, own) and not torch.equal(own, prepare_noise(latent, 5)[0])


def test_a_blend_of_recorded_references_keeps_their_noise(demo, star, moon):
    """By a blend that keeps a noise's deviation, between the levels and above them."""
    blended_trajectory = demo.pack.zsamb_core.style_aligned.reference.blended_trajectory
    paths = [
        recorded(demo, demo.model, demo.vae.encode(p), "lcm", 0.5, steps=s) for p, s in ((star, 3), (moon, 4))
    ]
    first = blended_trajectory(paths, lambda points: points[0])
    levels = torch.tensor([0.05, 0.4, 1.1, 1.7, 3.0, 14.0, 90.0])
    torch.testing.assert_close(
        first.at(levels).flatten(1).std(1), paths[0].at(levels).flatten(1).std(1), rtol=0.1, atol=0
    )
    assert first.fresh and torch.equal(first.noise, paths[0].noise)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_3m_sde"])
def test_a_schedule_without_noise_levels_is_refused(demo, star, sampler):
    """The host divides 0 by 0 there, and samplers end in messages of their own, or in nothing drawn."""
    with pytest.raises(
        ValueError, match=r"KSampler \(Record Ref.*: the scheduler kl_optimal has no noise lev"
    ):
        recorded(demo, demo.model, demo.vae.encode(star), sampler, 1.0, steps=1, scheduler="kl_optimal")
