"""What is recorded of a run's attention, and which run's it is."""

import pytest
import torch

from zsamb_core.heat import colored, heat_over
from zsamb_core.layers import Layer
from zsamb_core.style_aligned.attention_maps import KEPT, AttentionMaps, AttentionRecord

FIRST, SECOND = Layer("input", 4, 0).block, Layer("output", 1, 0).block


def maps_of(levels=(3.0, 2.0, 1.0), blocks=(FIRST, SECOND)):
    """Three pictures; the first is never recorded. Two layers a block, of value sigma / 10 and 0."""
    maps = AttentionMaps(3)
    for sigma in levels:
        for block in blocks:
            size = (4, 4) if block == FIRST else (2, 2)
            maps.add(sigma, block, (1, 2), torch.full((2, *size), sigma / 10))
            maps.add(sigma, block, (1, 2), torch.zeros(2, *size))
    return maps


def test_a_map_is_the_mean_over_layers_and_levels():
    maps = maps_of().finished()
    assert maps.blocks == (FIRST, SECOND) and maps.levels(0, 1) == (3.0, 2.0, 1.0)
    mean = maps.mean(FIRST, maps.levels(0, 1))
    assert mean.shape == (3, 4, 4) and mean[0].isnan().all()
    torch.testing.assert_close(mean[1:], torch.full((2, 4, 4), 0.1))
    torch.testing.assert_close(maps.mean(SECOND, (3.0,))[1:], torch.full((2, 2, 2), 0.15))


def test_rows_belong_to_their_pictures():
    """Parts of a batch come one after the other."""
    maps = AttentionMaps(3)
    maps.add(1.0, FIRST, (2,), torch.full((1, 2, 2), 0.2))
    maps.add(1.0, FIRST, (0, 1), torch.stack([torch.full((2, 2), x) for x in (0.6, 0.4)]))
    assert maps.mean(FIRST, (1.0,))[:, 0, 0].tolist() == pytest.approx([0.6, 0.4, 0.2])


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        (0.0, 0.5, (4.0, 3.0)),
        (0.5, 1.0, (2.0, 1.0)),
        (0.99, 1.0, (1.0,)),
        (0.0, 0.01, (4.0,)),
        (1.0, 1.1, (1.0,)),
    ],
)
def test_a_part_of_the_schedule_is_counted_from_the_noisiest_level(start, end, expected):
    assert maps_of((1.0, 4.0, 2.0, 3.0)).levels(start, end) == expected


def test_a_record_answers_with_the_maps_of_the_run_that_drew_the_latent():
    record = AttentionRecord()
    runs = [(torch.randn(2, 4, 8, 8), maps_of((sigma,))) for sigma in (1.0, 2.0, 3.0)]
    for latent, maps in runs:
        record.keep(latent, maps)
    assert [record.of(latent).levels(0, 1) for latent, _ in runs] == [(1.0,), (2.0,), (3.0,)]
    assert record.of(runs[0][0] + 1e-6) is None and record.of(runs[0][0][:1]) is None
    half = runs[1][0].half()
    assert record.of(half).levels(0, 1) == (2.0,)


def test_the_latent_that_is_kept_is_the_record_s_own():
    """Nodes behind the sampler may write into theirs."""
    record, latent = AttentionRecord(), torch.randn(1, 4, 8, 8)
    as_drawn = latent.clone()
    record.keep(latent, maps_of())
    latent.zero_()
    assert record.of(as_drawn) is not None and record.of(latent) is None


def test_a_record_keeps_the_last_runs_and_each_once():
    record = AttentionRecord()
    latents = [torch.full((1, 4, 2, 2), float(i)) for i in range(KEPT + 3)]
    for latent in [*latents, latents[-1]]:
        record.keep(latent, maps_of())
    assert len(record) == KEPT
    assert [record.of(x) is not None for x in latents] == [False] * 3 + [True] * KEPT


def test_warmer_colors_are_lighter_and_the_picture_shows_through():
    scale = colored(torch.linspace(0, 1, 50))
    assert scale.shape == (50, 3) and scale.min() >= 0 and scale.max() <= 1
    assert (scale.sum(-1).diff() > 0).all()
    picture = torch.rand(16, 24, 3)
    over = heat_over(torch.full((2, 3), 0.5), picture)
    gray = picture @ torch.tensor([0.299, 0.587, 0.114])
    flat = over - over.mean((0, 1)) - 0.35 * (gray - gray.mean())[..., None]
    assert over.shape == picture.shape and flat.abs().max() < 1e-5
