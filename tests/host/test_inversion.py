"""DDIM Invert in the real host."""

import pytest
import torch

pytestmark = pytest.mark.host


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


def regenerate(demo, latent, prompt, steps, cfg):
    import nodes

    return nodes.common_ksampler(
        demo.model,
        0,
        steps,
        cfg,
        "ddim",
        "simple",
        demo.encode(prompt),
        demo.encode(""),
        latent,
        disable_noise=True,
    )[0]["samples"]


def test_inversion_then_generation_returns_the_picture(demo, star):
    """50 steps without guidance; the bar is well under what `nox -s measure` finds."""
    start = demo.vae.encode(star)
    _, latent = demo.invert(star, "a star", steps=50, cfg=1.0)
    back = regenerate(demo, latent, "a star", 50, 1.0)
    assert psnr(demo.vae.decode(back).clamp(0, 1), demo.vae.decode(start).clamp(0, 1)) > 20


def test_the_path_starts_at_the_picture_and_ends_at_the_latent(demo, star):
    reference, latent = demo.invert(star, steps=6)
    path, sampling = reference.references[0].path, demo.model.get_model_object("model_sampling")
    assert len(path.sigmas) == 7
    assert float(path.sigmas[0]) == pytest.approx(float(sampling.sigma_min))
    assert float(path.sigmas[-1]) == pytest.approx(float(sampling.sigma_max))
    start = demo.model.model.process_latent_in(demo.vae.encode(star)) * (1 + path.sigmas[0] ** 2).sqrt()
    torch.testing.assert_close(path.points[:1], start, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        demo.model.model.process_latent_out(path.points[-1:]), latent["samples"], rtol=1e-5, atol=0.1
    )


def test_style_patches_are_left_out_of_inversion(demo, star, reference):
    patched = demo.patched(reference=reference)
    assert torch.equal(
        demo.invert(star, model=patched)[0].references[0].path.points,
        demo.invert(star)[0].references[0].path.points,
    )


def test_every_scheduler_gives_a_rising_path(demo):
    import comfy.samplers

    sigmas_of = demo.pack.nodes._host.inversion.inversion_sigmas
    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        sigmas = sigmas_of(demo.model, scheduler, 10)
        assert len(sigmas) > 2 and bool((sigmas[1:] > sigmas[:-1]).all()), scheduler


def test_inversion_can_be_interrupted(demo, star):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        demo.invert(star)
    comfy.model_management.interrupt_current_processing(False)
