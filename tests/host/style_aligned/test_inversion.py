"""DDIM Invert in the real host."""

import pytest
import torch

pytestmark = pytest.mark.host


def psnr(a, b):
    return float(-10 * torch.log10((a - b).square().mean()))


def regenerate(demo, latent, prompt, steps, cfg, model=None):
    import nodes

    return nodes.common_ksampler(
        model or demo.model,
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
    path, sampling = reference.references[0].trajectory, demo.model.get_model_object("model_sampling")
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
        demo.invert(star, model=patched)[0].references[0].trajectory.points,
        demo.invert(star)[0].references[0].trajectory.points,
    )


def test_every_scheduler_gives_a_rising_path(demo):
    import comfy.samplers

    sigmas_of = demo.pack.nodes._host.style_aligned.inversion.inversion_sigmas
    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        sigmas = sigmas_of(demo.model, scheduler, 10)
        assert len(sigmas) > 2 and bool((sigmas[1:] > sigmas[:-1]).all()), scheduler


@pytest.mark.parametrize("refinements", [0, 1])
def test_a_distilled_model_is_asked_once_at_each_of_its_levels(demo, star, caplog, refinements):
    """ModelSamplingDiscrete's lcm has 50 levels: more steps than that, by any scheduler, repeat some."""
    import comfy.samplers
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    model = ModelSamplingDiscrete().patch(demo.model, "lcm", False)[0]
    sigmas_of = demo.pack.nodes._host.style_aligned.inversion.inversion_sigmas
    start = 0.0 if refinements else None
    for scheduler in comfy.samplers.SCHEDULER_NAMES:
        for steps in (3, 51, 300):
            sigmas = sigmas_of(model, scheduler, steps, start)
            assert bool((sigmas[1:] > sigmas[:-1]).all()), (scheduler, steps)
    caplog.clear()
    picture = {"samples": demo.vae.encode(star)[..., :4, :4].contiguous()}
    path = (
        demo.invert(None, steps=60, model=model, refinements=refinements, latent=picture)[0]
        .references[0]
        .trajectory
    )
    assert len(path.sigmas) in (50, 51) and path.points.isfinite().all()
    (message,) = [r.getMessage() for r in caplog.records if r.getMessage().startswith("DDIM Invert:")]
    assert "of the 60 steps by the scheduler simple repeat a noise level" in message


def test_inversion_can_be_interrupted(demo, star):
    import comfy.model_management

    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        demo.invert(star)
    comfy.model_management.interrupt_current_processing(False)


def predicting(demo, kind):
    """The demo model as one that predicts noise, or an EDM model: its UNet's velocity is turned into what
    such a UNet puts out, so that the picture it means stays the same.
    """
    from comfy.patcher_extension import WrappersMP
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM, ModelSamplingDiscrete

    own = demo.model.get_model_object("model_sampling")
    if kind.startswith("edm"):
        model, data = ModelSamplingContinuousEDM().patch(demo.model, kind, 80.0, 0.002)[0], 0.5
    else:
        model, data = ModelSamplingDiscrete().patch(demo.model, kind, True)[0], 1.0
    sampling = model.get_model_object("model_sampling")

    def as_kind(executor, x_in, t, *args, **kwargs):
        sigma = (t * 4).exp() if kind.startswith("edm") else sampling.sigma(t)
        s = sigma.view(-1, 1, 1, 1)
        x = x_in * (s**2 + data**2).sqrt()
        v = executor(own.calculate_input(sigma, x), own.timestep(sigma).float(), *args, **kwargs)
        denoised = own.calculate_denoised(sigma, v, x)
        if kind == "eps":
            return (x - denoised) / s
        return (denoised - x * data**2 / (s**2 + data**2)) * (s**2 + data**2).sqrt() / (s * data)

    if kind != "v_prediction":
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "as_kind", as_kind)
    return model


@pytest.mark.parametrize("kind", ["eps", "v_prediction", "edm"])
def test_inversion_works_for_every_kind_of_sdxl(demo, star, kind):
    """By the published rule sampling comes back near the picture, refined much nearer."""
    model = predicting(demo, kind)
    start = demo.vae.encode(star)
    errors = []
    for refinements in (0, 1, 3):
        reference, latent = demo.invert(star, steps=20, model=model, refinements=refinements)
        path, sampling = reference.references[0].trajectory, model.get_model_object("model_sampling")
        first = 0.0 if refinements else float(sampling.sigma_min)
        assert float(path.sigmas[0]) == pytest.approx(first, rel=1e-4)
        assert path.points.isfinite().all()
        back = regenerate(demo, latent, "a star", 20, 1.0, model)
        errors.append(psnr(demo.vae.decode(back).clamp(0, 1), demo.vae.decode(start).clamp(0, 1)))
    assert errors[0] > 20 and errors[1] > errors[0] + 3 and errors[2] > errors[1] + 3


def test_a_model_with_another_latent_format_starts_at_its_picture(demo, star):
    """Playground 2.5 takes a mean from its latents and divides by a deviation, channel by channel."""
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    model = ModelSamplingContinuousEDM().patch(demo.model, "edm_playground_v2.5", 80.0, 0.002)[0]
    reference, latent = demo.invert(star, model=model)
    expected = model.get_model_object("latent_format").process_in(demo.vae.encode(star))
    torch.testing.assert_close(reference.references[0].trajectory.points[:1], expected, rtol=1e-4, atol=1e-4)
    assert latent["samples"].isfinite().all()


def test_a_model_that_is_a_flow_is_refused_with_a_reference(demo, four, reference, star):
    from comfy_extras.nodes_model_advanced import ModelSamplingContinuousEDM

    flow = ModelSamplingContinuousEDM().patch(demo.model, "cosmos_rflow", 80.0, 0.002)[0]
    with pytest.raises(ValueError, match="DDIM Invert: the model input samples as .*COSMOS_RFLOW"):
        demo.invert(star, model=flow)
    with pytest.raises(ValueError, match="SharedAttention Patch: the model input samples as"):
        demo.sample(demo.patched(flow, reference=reference), four)
    assert demo.sample(demo.patched(flow), four).isfinite().all()


def test_refinement_counts_its_calls(demo, star, monkeypatch):
    import comfy.utils

    moves = []
    inversion = demo.pack.nodes._host.style_aligned.inversion

    class Listening(comfy.utils.ProgressBar):
        def update_absolute(self, value, total=None, preview=None):
            moves.append((value, total))
            super().update_absolute(value, total, preview)

    monkeypatch.setattr(inversion, "ProgressBar", Listening)
    demo.invert(star, steps=3, refinements=2)
    assert moves == [(i, 6) for i in range(1, 7)]


def shown_beside(demo, star, monkeypatch, steps=6, cfg=2.0, refinements=0):
    """DDIM Invert with vae: its output, and the sheet that it shows."""
    node = demo.pack.nodes.references
    sheets = []
    monkeypatch.setattr(node.ui, "PreviewImage", lambda image: sheets.append(image))
    latent = {"samples": demo.vae.encode(star)}
    settings = {"steps": steps, "cfg": cfg, "refinements": refinements, "scheduler": "simple"}
    prompts = {"positive": demo.encode("a star"), "negative": demo.encode("")}
    out = node.DDIMInvert.execute(demo.model, latent, **prompts, **settings, vae=demo.vae)
    return out.result, sheets


@pytest.mark.parametrize("refinements", [0, 1])
def test_with_vae_it_shows_what_ksampler_advanced_gets_back(demo, star, monkeypatch, caplog, refinements):
    """Beside the picture, bit for bit, and with the distance; what comes out of the node is the same."""
    caplog.set_level("INFO")
    (reference, latent), (sheet,) = shown_beside(demo, star, monkeypatch, refinements=refinements)
    plain, plain_latent = demo.invert(star, "a star", steps=6, cfg=2.0, refinements=refinements)
    assert torch.equal(latent["samples"], plain_latent["samples"])
    paths = [r.references[0].trajectory for r in (reference, plain)]
    assert torch.equal(paths[0].points, paths[1].points) and torch.equal(paths[0].sigmas, paths[1].sigmas)
    picture = demo.vae.decode(demo.vae.encode(star))[0]
    back = demo.vae.decode(regenerate(demo, latent, "a star", 6, 2.0))[0]
    expected = demo.pack.nodes.references.comparison(picture, back)
    assert torch.allclose(sheet[0], expected, atol=1e-5)
    said = f"PSNR {psnr(picture.clamp(0, 1), back.clamp(0, 1)):.1f} dB to the picture"
    assert said in caplog.text


def test_without_vae_no_call_is_made_for_show(demo, star, monkeypatch):
    """An old workflow's inversion takes as long as it did, and shows nothing."""

    def never(*_):
        raise AssertionError("sampled back without vae")

    monkeypatch.setattr(demo.pack.nodes.references, "rebuilt", never)
    node = demo.pack.nodes.references.DDIMInvert
    latent = {"samples": demo.vae.encode(star)}
    assert node.execute(demo.model, latent, demo.encode("a star"), demo.encode(""), 2, 1.0).ui is None


def test_the_picture_stands_to_the_left_of_what_came_back(pack):
    """Each as it is; the rest is white paper with black and gray letters, which are no pure colors."""
    picture, back = torch.zeros(40, 60, 3), torch.zeros(40, 60, 3)
    picture[..., 0], back[..., 2] = 1, 1
    sheet = pack.nodes.references.comparison(picture, back)
    ys, xs = torch.where((sheet == picture[0, 0]).all(-1))
    right_ys, right_xs = torch.where((sheet == back[0, 0]).all(-1))
    assert len(xs) == len(right_xs) == 40 * 60
    assert xs.max() < right_xs.min() and ys.min() == right_ys.min() and ys.max() == right_ys.max()


def test_large_pictures_are_shown_smaller(pack):
    comparison = pack.nodes.references.comparison
    large, small = torch.rand(700, 1400, 3), torch.rand(64, 128, 3)
    assert 2 * 512 < comparison(large, large).shape[1] < 2 * 512 + 200
    assert 2 * 128 < comparison(small, small).shape[1] < 2 * 128 + 100


def test_a_perfect_return_has_no_bound(pack):
    core = pack.zsamb_core.style_aligned.inversion
    one = torch.rand(4, 4, 3)
    assert core.psnr(one, one) == float("inf")
    assert core.psnr(torch.zeros(4), torch.full((4,), 0.1)) == pytest.approx(20.0)
