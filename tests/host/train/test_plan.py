"""What a step will cost, told from SDXL's full size without a weight."""

import torch

from zsamb_train.plan import count


def test_trained_weights_and_operations_of_sdxl():
    """62.9 M in the style block; 1.59 TFLOP forward at 512 px, .70 backward, and 22 % more when blocks are
    computed again, which keeps a fifth of the memory.
    """
    plain = count(False, "style", "base", 512, torch.bfloat16, again=False, frozen=False)
    assert plain.weights == 10 * 2 * 1280 * 2048 + 1280 * 8192 + 8192 + 2 * 2048
    assert round(plain.step.forward / 1e12, 2) == 1.59 and round(plain.step.backward / 1e12, 2) == 0.70
    assert round(plain.step.kept / 2**30, 2) == 0.55 and round(plain.unet_bytes / 1e9, 2) == 5.13
    again = count(False, "style", "base", 512, torch.bfloat16, again=True, frozen=False)
    more = (again.step.forward + again.step.backward) / (plain.step.forward + plain.step.backward)
    assert 1.2 < more < 1.25 and again.step.kept < 0.22 * plain.step.kept
    lines = plain.lines(batch=16, steps=10_000, tflops=400)
    assert "62.9 M" in lines[0] and "126 MB" in lines[0] and "175 pictures/s" in lines[-1]


def test_a_frozen_projector_and_more_blocks():
    frozen = count(True, "output 1", "base", 128, torch.float32, again=False, frozen=True)
    every = count(True, "all", "plus", 128, torch.float32, again=False, frozen=False)
    assert frozen.weights == 2 * 128 * 192 and every.weights > 1e6
    assert every.step.kept > frozen.step.kept > 0
