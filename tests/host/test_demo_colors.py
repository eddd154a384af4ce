"""Previews of the demo model have the demo's colors, and no other model's change."""

import json

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def seen():
    """Latents and decoded colors of pictures that the fit was not made on."""
    from demo.training.latent_rgb import pairs
    from demo.training.train_vae import drawn

    with torch.inference_mode():
        return pairs(drawn(36, 77))


def test_the_stored_colors_are_those_of_the_autoencoder(seen):
    """After a training they are made again: ``python -m demo.training.latent_rgb``. Colors are compared: the
    channels are correlated, and factors may trade.
    """
    from demo.training.latent_rgb import FILE, explained, fit

    stored = json.loads(FILE.read_text())
    factors, bias = (torch.tensor(stored[name], dtype=torch.float64) for name in ("factors", "bias"))
    latents, colors = seen
    fresh = fit(latents, colors)
    differ = (latents @ factors + bias - latents @ fresh[0] - fresh[1]).square().mean().sqrt()
    assert differ < 0.15 * colors.std()
    own = explained(latents, colors, factors, bias)
    assert own > 0.8 and abs(own - stored["r2"]) < 0.05
    assert explained(latents, colors, *fresh) - own < 0.03


def test_they_are_the_demo_s_alone(demo, seen):
    import comfy.latent_formats

    from demo.training.latent_rgb import explained

    ours, sdxl = demo.model.model.latent_format, comfy.latent_formats.SDXL()
    assert isinstance(ours, comfy.latent_formats.SDXL) and ours.scale_factor == sdxl.scale_factor
    assert ours.latent_rgb_factors != sdxl.latent_rgb_factors and sdxl.taesd_decoder_name

    def quality(latents):
        return explained(
            *seen,
            *(
                torch.tensor(x, dtype=torch.float64)
                for x in (latents.latent_rgb_factors, latents.latent_rgb_factors_bias)
            ),
        )

    assert quality(ours) > 0.8 and quality(sdxl) < 0.3


def test_a_preview_looks_like_the_picture(demo, star):
    import numpy as np
    from latent_preview import Latent2RGBPreviewer

    ours = demo.model.model.latent_format
    previewer = Latent2RGBPreviewer(ours.latent_rgb_factors, ours.latent_rgb_factors_bias)
    latent = ours.process_in(demo.vae.encode(star))
    shown = np.asarray(previewer.decode_latent_to_preview(latent), np.float32) / 255
    small = torch.nn.functional.avg_pool2d(star.movedim(-1, 1), 8)[0].movedim(0, -1).numpy()
    assert shown.shape == small.shape and np.abs(shown - small).mean() < 0.12
