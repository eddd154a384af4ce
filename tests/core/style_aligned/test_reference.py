"""Trajectories, weights and masks of references."""

import math

import pytest
import torch

from zsamb_core.style_aligned.reference import (
    Reference,
    StyleReference,
    Trajectory,
    blended_trajectory,
    noised_trajectory,
    normalised_weights,
    recorded_trajectory,
)


def path(nodes=7, h=2):
    sigmas = torch.linspace(0.1, 10, nodes)
    return Trajectory(sigmas, torch.randn(nodes, 4, h, h, generator=torch.Generator().manual_seed(0)))


def reference(weight=1.0, mask=None, **settings):
    return Reference(path(), None, None, weight=weight, mask=mask, **settings)


def test_a_noised_path_is_the_forward_process_at_any_level():
    x0, noise = torch.randn(4, 3, 3), torch.randn(4, 3, 3)
    sigmas = torch.tensor([0.0, 0.3, 14.6, 4518.0])
    expected = x0 + sigmas.view(-1, 1, 1, 1) * noise
    torch.testing.assert_close(noised_trajectory(x0, noise).at(sigmas), expected, rtol=1e-5, atol=1e-5)


def test_a_recorded_path_goes_through_what_was_seen():
    """In the order of a sampler with two calls at a level, and one that came back to 0 itself."""
    at = {s: torch.full((1, 1, 1), float(i)) for i, s in enumerate([5.0, 2.0, 1.0])}
    corrected = torch.full((1, 1, 1), 9.0)
    levels = [(5.0, at[5.0]), (2.0, at[2.0]), (2.0, corrected), (1.0, at[1.0]), (0.0, corrected)]
    calls = [(sigma, x, torch.zeros(1, 1, 1)) for sigma, x in levels]
    trajectory = recorded_trajectory(calls, torch.full((1, 1, 1), -1.0), torch.ones(1, 1, 1))
    assert trajectory.sigmas.tolist() == [0, 1, 2, 5]
    assert trajectory.points.flatten().tolist() == [-1, 2, 9, 0]
    assert trajectory.at(torch.tensor([10.0])).item() == 9  # the picture and 10 times the noise


def steps_down(fresh, levels=(0.0, 0.5, 2.0, 8.0), pixels=4096):
    """What a sampler's model sees of one picture, DDIM's way or with fresh noise at each level, and its
    picture.
    """
    random = torch.Generator().manual_seed(0)
    x0, noise = (torch.randn(1, 64, pixels // 64, generator=random) for _ in range(2))
    calls = []
    for sigma in reversed(levels[1:]):
        noise = torch.randn(noise.shape, generator=random) if fresh else noise
        calls.append((sigma, x0 + sigma * noise, x0))
    return calls, x0, noise


def test_the_noise_of_two_levels_is_joined_at_its_full_strength():
    """Independent noises, half and half, have a deviation of .71: the path has 1, and the picture's mean."""
    calls, x0, noise = steps_down(fresh=True)
    path = recorded_trajectory(calls, x0, noise)
    assert path.fresh
    for sigma in (0.01, 0.3, 1.0, 1.9, 4.0, 7.9, 8.5, 100.0):
        over = (path.at(torch.tensor([sigma]))[0] - x0) / sigma
        assert float(over.std()) == pytest.approx(1, abs=0.03)
        assert abs(float(over.mean())) < 0.05
    assert torch.equal(path.at(path.sigmas), path.points)
    straight = Trajectory(path.sigmas, path.points)
    assert ((straight.at(torch.tensor([4.5]))[0] - x0) / 4.5).std() < 0.85


def test_steps_of_ddim_are_joined_by_their_own_lines():
    calls, x0, noise = steps_down(fresh=False)
    path = recorded_trajectory(calls, x0, noise)
    levels = torch.tensor([0.01, 0.3, 1.0, 4.0, 8.0])
    assert not path.fresh and torch.equal(path.at(levels), Trajectory(path.sigmas, path.points).at(levels))


@pytest.mark.parametrize("share, fresh", [(1e-4, False), (0.003, False), (0.03, True)])
def test_a_hundredth_of_noise_is_more_than_rounding(share, fresh):
    """Where DDIM's step would have led, but for so much of the point."""
    calls, x0, noise = steps_down(fresh=False)
    sigma, x, denoised = calls[1]
    added = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    calls[1] = (sigma, x + added * (share * x.norm() / added.norm()), denoised)
    assert recorded_trajectory(calls, x0, noise).fresh is fresh


def test_a_recorded_reference_tells_the_cache_of_its_noise_too():
    calls, x0, noise = steps_down(fresh=True)
    path = recorded_trajectory(calls, x0, noise)
    held = StyleReference((Reference(path, None, None),))._comfy_cache_tensors()
    assert len(held) == 3
    assert all(any(t is x for x in held) for t in (path.sigmas, path.points, path.noise))


def test_noise_of_its_own_needs_the_picture():
    with pytest.raises(ValueError, match="must start at the picture"):
        Trajectory(torch.tensor([0.1, 1.0]), torch.zeros(2, 1, 1, 1), fresh=True)


def test_a_reference_moves_with_all_of_its_path():
    calls, x0, noise = steps_down(fresh=True)
    path = Reference(recorded_trajectory(calls, x0, noise), None, None).to(torch.device("cpu")).trajectory
    assert path.fresh and torch.equal(path.noise, noise) and torch.equal(path.points[0], x0)


def test_a_blend_of_paths_goes_on_with_the_blend_of_their_noises():
    """One that was recorded, and one that is the forward process of another picture."""
    calls, x0, noise = steps_down(fresh=True)
    other = torch.randn(2, *x0.shape, generator=torch.Generator().manual_seed(9))
    path = blended_trajectory(
        [recorded_trajectory(calls, x0, noise), noised_trajectory(*other)], lambda p: p.mean(0)
    )
    expected = ((x0 + other[0]) + 50 * (noise + other[1])) / 2
    torch.testing.assert_close(path.at(torch.tensor([50.0]))[0], expected, rtol=1e-4, atol=1e-4)
    assert path.fresh


def test_beyond_their_last_nodes_blended_paths_go_on_in_their_own_directions():
    """Also one without noise of its own, whose last nodes are not one apart."""
    calls, x0, noise = steps_down(fresh=True)
    slope = torch.randn(x0.shape, generator=torch.Generator().manual_seed(2))
    sigmas = torch.tensor([0.0, 3.0, 8.0])
    straight = Trajectory(sigmas, x0 + sigmas.view(-1, 1, 1, 1) * slope)
    trajectory = blended_trajectory([recorded_trajectory(calls, x0, noise), straight], lambda p: p.mean(0))
    torch.testing.assert_close(trajectory.noise, (noise + slope) / 2)
    expected = x0 + 20 * (noise + slope) / 2
    torch.testing.assert_close(trajectory.at(torch.tensor([20.0]))[0], expected, rtol=1e-4, atol=1e-4)


def published_offset(zts, offset):
    """What the published callback feeds at step i = 0, 1, ...: zts[offset], then zts[max(offset + 1, i)]."""
    return [zts[offset] if i == 0 else zts[max(offset + 1, i)] for i in range(len(zts) - 1)]


@pytest.mark.parametrize("offset", [1, 3, 5])
def test_offset_is_the_published_one(offset):
    """At the published nodes, in variance-preserving terms: x = z sqrt(1 + sigma^2)."""
    p = path(9)
    from_the_top = p.sigmas.flip(0)
    zts = list((p.points / (1 + p.sigmas**2).sqrt().view(-1, 1, 1, 1)).flip(0))
    for i, expected in enumerate(published_offset(zts, offset)):
        sigma = from_the_top[i : i + 1]
        latent = p.at(sigma, offset)[0] / (1 + sigma**2).sqrt()
        torch.testing.assert_close(latent, expected, rtol=1e-5, atol=1e-5)
    assert torch.equal(p.at(p.sigmas, 0), p.at(p.sigmas))


def test_weights_without_masks_sum_to_1_and_do_not_depend_on_their_scale():
    assert normalised_weights((reference(3), reference(1)), (4, 4)) == [0.75, 0.25]
    assert normalised_weights((reference(0.5),), (4, 4)) == [1.0]


def test_regions_apart_from_each_other_count_in_full():
    left = torch.zeros(1, 8, 8)
    left[:, :, :4] = 1
    a, b = normalised_weights((reference(2, left), reference(2, 1 - left)), (4, 4))
    assert a[0, 0].tolist() == [1, 1, 0, 0] and b[0, 0].tolist() == [0, 0, 1, 1]
    # The larger weight is the measure, so a weight that goes to 0 goes out.
    a, b = normalised_weights((reference(1, left), reference(0.1, 1 - left)), (4, 4))
    assert a.max() == 1 and b.max() == pytest.approx(0.1)


def test_a_masked_reference_over_a_plain_one():
    left = torch.zeros(1, 4, 4)
    left[:, :, :2] = 1
    plain, masked = normalised_weights((reference(1), reference(1, left)), (4, 4))
    assert plain == 0.5 and masked[0, 0].tolist() == [0.5, 0.5, 0, 0]


def test_an_empty_mask_is_no_reference_at_all():
    (weight,) = normalised_weights((reference(1, torch.zeros(1, 4, 4)),), (4, 4))
    assert not weight.any()


def test_weight_0_is_absence():
    references = StyleReference((reference(0), reference(2), reference(0))).counted()
    assert len(references) == 1 and references[0].weight == 2
    with pytest.raises(ValueError, match="2 references all have weight 0"):
        StyleReference((reference(0), reference(0))).counted()


@pytest.mark.parametrize("weight", [-1, math.nan, math.inf])
def test_a_weight_must_be_a_number_from_0(weight):
    with pytest.raises(ValueError, match="weight"):
        reference(weight)


@pytest.mark.parametrize("offset", [-1, 6])
def test_an_offset_must_lie_on_the_path(offset):
    with pytest.raises(ValueError, match="offset .* expected 0 to 5 for a path of 7 nodes"):
        reference(offset=offset)


def test_a_mask_of_another_shape_is_refused():
    with pytest.raises(ValueError, match="mask has shape"):
        reference(1, torch.ones(4, 4))


def test_a_grey_mask_is_part_of_its_reference():
    (weight,) = normalised_weights((reference(3, torch.full((1, 4, 4), 0.5)),), (4, 4))
    assert (weight == 0.5).all()
    ramp = torch.linspace(0, 1, 4).expand(1, 4, 4)
    a, b = normalised_weights((reference(2, ramp), reference(2, 1 - ramp)), (4, 4))
    torch.testing.assert_close(a + b, torch.ones(1, 4, 4))
