"""One training step's numbers, drawn for each sample from the run's seed and the sample's place.

A sample's draws depend on nothing else: not on the number of processes, nor on where a run was interrupted.
Values are those of tencent-ailab/IP-Adapter's ``tutorial_train_sdxl.py`` where nothing else is said. Style-
friendly noise levels: Choi et al., arXiv 2411.14793; min-SNR: Hang et al., arXiv 2303.09556.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Recipe:
    """``drop_image``, ``drop_text``, ``drop_both``: shares of samples, exclusive. ``offset_noise``: of each
    channel's own constant. ``timesteps``: "uniform", or "style": of a share of the samples the log of the
    signal-to-noise ratio is normal, with ``style_mean`` and ``style_spread``. ``min_snr``: gamma, 0 for none.
    """

    drop_image: float = 0.05
    drop_text: float = 0.05
    drop_both: float = 0.05
    offset_noise: float = 0.0
    timesteps: str = "uniform"
    style_mean: float = -3.5
    style_spread: float = 2.0
    style_share: float = 0.7
    min_snr: float = 0.0


@dataclass(frozen=True)
class Draw:
    """What one sample got: a step of the schedule, and whether its image and its caption are kept."""

    step: int
    image: bool
    text: bool
    noise: torch.Tensor


def draw(recipe: Recipe, seed: int, place: int, shape: tuple[int, ...], log_snr: np.ndarray) -> Draw:
    """The numbers of the sample at ``place`` of the run, for a latent of ``shape``; ``log_snr`` by step."""
    rng = np.random.default_rng([seed, place, 1])
    kind = rng.random()
    both = recipe.drop_image + recipe.drop_text
    image = not (kind < recipe.drop_image or both <= kind < both + recipe.drop_both)
    text = not (recipe.drop_image <= kind < both + recipe.drop_both)
    step = int(rng.integers(0, len(log_snr)))
    if recipe.timesteps == "style" and rng.random() < recipe.style_share:
        step = nearest(log_snr, truncated_normal(rng, recipe, log_snr))
    noise = rng.standard_normal(shape, np.float32)
    if recipe.offset_noise:
        noise += recipe.offset_noise * rng.standard_normal((shape[0], 1, 1), np.float32)
    return Draw(step, image, text, torch.from_numpy(noise))


def truncated_normal(rng: np.random.Generator, recipe: Recipe, log_snr: np.ndarray) -> float:
    """Drawn again until it is within the schedule. SDXL's ends at -5.4; all that lies beyond would meet in
    its last step.
    """
    low, high = float(log_snr.min()), float(log_snr.max())
    while True:
        value = float(rng.normal(recipe.style_mean, recipe.style_spread))
        if low <= value <= high:
            return value


def nearest(log_snr: np.ndarray, value: float) -> int:
    return int(np.abs(log_snr - value).argmin())


def log_snr_of(alphas: torch.Tensor) -> np.ndarray:
    """log(a / (1 - a)) of each step, (1000,)."""
    a = alphas.double().clamp(1e-9, 1 - 1e-9)
    ratio: np.ndarray = (a / (1 - a)).log().numpy()
    return ratio


def noised(
    latents: torch.Tensor, noise: torch.Tensor, a: torch.Tensor, velocity: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the UNet sees and what it is to say, in fp32; ``a`` (n,): the product of alphas at each sample's
    step.
    """
    a = a.view(-1, 1, 1, 1)
    x = a.sqrt() * latents + (1 - a).sqrt() * noise
    return x, a.sqrt() * noise - (1 - a).sqrt() * latents if velocity else noise


def errors(said: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """The mean squared error of each sample, (n,), in fp32."""
    return F.mse_loss(said.float(), wanted, reduction="none").mean((1, 2, 3))


def weights(recipe: Recipe, a: torch.Tensor, velocity: bool) -> torch.Tensor:
    """How much each sample counts: 1, or min(SNR, gamma) over SNR (over SNR + 1 for v)."""
    if not recipe.min_snr:
        return torch.ones_like(a)
    snr = a / (1 - a)
    return snr.clamp(max=recipe.min_snr) / (snr + 1 if velocity else snr)
