"""The README's first sentence, measured: a set drawn with the patch shares one style more than the same seeds
without it, and comes closer to its reference. ``nox -s demo -- --sets 24`` prints it for many sets.
"""

import numpy as np
import pytest
import torch

from demo.training.descriptor import consistency, similarity

pytestmark = pytest.mark.host
SEEDS = (1, 2, 3)
DRAWN = {"steps": 8, "cfg": 5.0}


def pictures(demo, model, prompts, seed):
    """Four of (128, 128, 3)."""
    return list(demo.vae.decode(demo.sample(model, prompts, seed=seed, **DRAWN)).numpy())


@pytest.fixture(scope="module")
def unaligned(demo, four):
    """Sets of the model alone, by seed."""
    with torch.inference_mode():
        return [pictures(demo, demo.model, four, seed) for seed in SEEDS]


def aligned(demo, four, reference=None):
    patched = demo.patched(reference=reference, preset="normal")
    return [pictures(demo, patched, four, seed) for seed in SEEDS]


def gains(measure, after, before):
    """What each seed's set gains."""
    return np.array([measure(b) - measure(a) for a, b in zip(before, after, strict=True)])


def test_a_set_from_prompts_alone_shares_a_style(demo, four, unaligned):
    """Its first picture is the reference of the others, so not every set of few steps has a style to take."""
    gained = gains(consistency, aligned(demo, four), unaligned)
    assert gained.mean() > 0.05 and (gained > 0.1).sum() > len(SEEDS) / 2, gained


def test_a_set_shares_the_style_of_its_reference(demo, four, star, unaligned):
    drawn = aligned(demo, four, demo.invert(star, steps=8)[0])
    gained = gains(consistency, drawn, unaligned)
    assert gained.min() > 0.1 and gained.mean() > 0.2, gained
    closer = gains(lambda one: similarity(one, star[0].numpy()), drawn, unaligned)
    assert closer.min() > 0.1 and closer.mean() > 0.25, closer
