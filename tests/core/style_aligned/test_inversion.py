"""The published DDIM inversion rule, from an independent scalar implementation in its own variables."""

import math

import pytest
import torch

from zsamb_core.style_aligned.inversion import ddim_invert, step_up, velocity
from zsamb_core.style_aligned.reference import Trajectory


def published(z0, alpha_bars, eps_model):
    """z_t = sqrt(a_t) (z - sqrt(1 - a) eps) / sqrt(a) + sqrt(1 - a_t) eps, eps taken at the target level;
    floats only.
    """
    z, a, path = z0, alpha_bars[0], [z0]
    for a_t in alpha_bars[1:]:
        eps = eps_model(z, a_t)
        z = math.sqrt(a_t) * (z - math.sqrt(1 - a) * eps) / math.sqrt(a) + math.sqrt(1 - a_t) * eps
        a = a_t
        path.append(z)
    return path


def test_sigma_space_rule_is_the_published_rule():
    alpha_bars = [0.9991 * 0.93**i for i in range(50)]

    def eps_model(z, a_t):
        return math.tanh(1.3 * z + a_t) - 0.2

    expected = published(0.7, alpha_bars, eps_model)
    sigmas = torch.tensor([math.sqrt((1 - a) / a) for a in alpha_bars], dtype=torch.float64)

    def denoise(x, sigma):
        a_t = 1 / (1 + sigma**2)
        return x - sigma * eps_model(float(x) * math.sqrt(a_t), a_t)

    path = ddim_invert(torch.full((1, 1, 1, 1), 0.7, dtype=torch.float64), sigmas, denoise)
    points = [float(x) * math.sqrt(a) for x, a in zip(path, alpha_bars, strict=True)]
    assert points == pytest.approx(expected, abs=1e-6)


def test_a_path_is_exact_at_its_nodes_and_straight_between_and_beyond():
    points = torch.tensor([1.0, 3.0, 4.0]).view(3, 1, 1, 1)
    path = Trajectory(torch.tensor([0.5, 1.0, 2.0]), points)
    at = path.at(torch.tensor([0.5, 1.0, 2.0, 0.75, 1.5, 4.0, 0.25])).flatten().tolist()
    assert at == pytest.approx([1, 3, 4, 2, 3.5, 6, 0])


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 1.0], [2.0, 1.0], [[1.0, 2.0]]])
def test_a_path_needs_rising_nodes(sigmas):
    sigmas = torch.tensor(sigmas)
    with pytest.raises(ValueError, match="path"):
        Trajectory(sigmas, torch.zeros(len(sigmas), 1, 1, 1))


def analytic(x, sigma, spread=0.7):
    """The exact x0 prediction for a Gaussian picture of deviation ``spread``."""
    return x * spread**2 / (spread**2 + sigma**2)


def resampled(x, sigmas):
    """DDIM down the same noise levels."""
    for high, low in zip(sigmas.flip(0)[:-1], sigmas.flip(0)[1:], strict=True):
        x = x + (low - high) * (x - analytic(x, high)) / high
    return x


@pytest.mark.parametrize("levels", [torch.logspace(-1.5, 1.2, 12), torch.tensor([0.03, 1.0, 15.0, 4500.0])])
def test_refinement_converges_to_the_inverse_of_the_ddim_steps(levels):
    """So far that sampling returns the picture, from the smallest noise levels to the largest."""
    z0 = torch.linspace(-2, 2, 5, dtype=torch.float64).view(1, 1, 1, 5)
    sigmas = torch.cat([torch.zeros(1), levels])
    published = float((resampled(ddim_invert(z0, levels, analytic)[-1], sigmas) - z0).abs().max())
    errors = [
        float((resampled(ddim_invert(z0, sigmas, analytic, n)[-1], sigmas) - z0).abs().max())
        for n in (1, 3, 40)
    ]
    assert published > errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-6


def test_a_step_up_and_the_ddim_step_down_undo_each_other():
    x, v, low, high = (torch.tensor([value], dtype=torch.float64) for value in (1.3, -0.4, 0.5, 2.0))
    low, high = float(low), float(high)
    x_high = step_up(x, low, v, high)
    denoised = x_high / (1 + high**2) - high / math.sqrt(1 + high**2) * v
    torch.testing.assert_close(velocity(x_high, denoised, high), v)
    torch.testing.assert_close(x_high + (low - high) * (x_high - denoised) / high, x)


@pytest.mark.parametrize(("refinements", "calls"), [(0, 2), (1, 2), (3, 6)])
def test_every_call_of_the_model_is_told(refinements, calls):
    reports, sigmas = [], torch.tensor([0.1, 1.0, 2.0])
    ddim_invert(torch.ones(1, 1, 1, 1), sigmas, analytic, refinements, lambda i, x, d: reports.append(i))
    assert reports == list(range(calls))
