"""Fitting to one size."""

import pytest
import torch

from zsamb_core.style_aligned.resize import FITS, fit


@pytest.mark.parametrize("how", FITS)
@pytest.mark.parametrize("shape", [(9, 20), (33, 8), (1, 40), (16, 16)])
def test_any_size_becomes_the_wanted_one(how, shape):
    x = torch.rand(2, 3, *shape)
    resized = fit(x, (16, 16), how, 0.5)
    assert resized.shape == (2, 3, 16, 16) and resized.isfinite().all()
    if shape == (16, 16):
        assert resized is x


def test_crop_keeps_the_middle_and_pad_keeps_all():
    x = torch.zeros(1, 1, 4, 8)
    x[..., 2:6] = 1
    assert torch.equal(fit(x, (4, 4), "crop"), torch.ones(1, 1, 4, 4))
    padded = fit(x, (8, 8), "pad", 0.5)
    assert torch.equal(padded[:, :, 2:6], x)
    assert (padded[:, :, :2] == 0.5).all() and (padded[:, :, 6:] == 0.5).all()
    assert fit(x, (4, 4), "squash").mean() == pytest.approx(0.5, abs=0.01)
