"""SDXL at full size, in fp16, on a CUDA device that is not there: every operator of a patched step goes
through torch's checks of shapes, types and devices, and what it asks for is counted.
"""

import pytest
import torch

from benchmarks import operators
from benchmarks.operators import FLOOR_MODEL, FLOOR_REFERENCE, LAYERS, fake, fake_sdxl, style_run, watched

SIDE = 128  # of 1024 px
CUDNN = "_scaled_dot_product_cudnn_attention"


@pytest.fixture(scope="module")
def counts(pack):
    """By name: the call's result and counts, for one positive and one negative row each."""
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode(False):
        operators.pretend(pack, "hopper", patch.setattr)
        runs = {"stock": None, "prompts": 0, "reference": 1}
        batch = {"stock": 1, "prompts": 2, "reference": 1}
        made = {n: r if r is None else style_run(pack, batch[n], SIDE, r) for n, r in runs.items()}
        with fake():
            model = fake_sdxl(torch.float16)
            return {n: watched(pack, model, run, batch[n], SIDE) for n, run in made.items()}


@pytest.mark.parametrize("name", ["stock", "prompts", "reference"])
def test_a_step_gives_noise_on_the_device(counts, name):
    out, _ = counts[name]
    assert out.shape == (4 if name == "prompts" else 2, 4, SIDE, SIDE)
    assert out.device.type == "cuda" and out.dtype == torch.float32  # the host's of a noise prediction


def test_the_floating_point_operations_are_the_minimum(counts):
    """Stock's, the reference's own rows, and one attention to the reference for each target row."""
    stock, patched = (counts[name][1]["all"].flops for name in ("stock", "reference"))
    assert stock == pytest.approx(2 * FLOOR_MODEL, rel=1e-3)
    assert patched - 2 * stock == pytest.approx(2 * FLOOR_REFERENCE, rel=1e-3)
    alone = counts["prompts"][1]["all"].flops  # the first picture of two leads, in both halves
    assert alone - 2 * stock == pytest.approx(2 * FLOOR_REFERENCE, rel=1e-3)


def test_all_attention_of_patched_layers_is_by_the_cards_kernel(counts):
    layers = counts["reference"][1]["layers"].attention
    assert layers == {CUDNN: LAYERS * (1 + 2)}  # own tokens of both halves at once, the reference's of each
    assert counts["reference"][1]["recording"].attention == {CUDNN: LAYERS}


def test_the_device_is_waited_for_once_in_a_call(counts):
    """For the noise level. No layer waits."""
    assert counts["stock"][1]["all"].waits == 0
    for name in ("prompts", "reference"):
        assert counts[name][1]["all"].waits == 1
        assert counts[name][1]["layers"].waits == 0


def test_a_layer_copies_neither_queries_nor_keys_nor_values(counts):
    """Heads are split as views; what is converted is AdaIN's fp32 of queries and keys, and small weights."""
    layer = counts["reference"][1]["layers"].by_name
    assert not {"clone", "copy_", "cat", "contiguous"} & set(layer)
    assert layer["_to_copy"] == LAYERS * (2 + 2)  # fp32 of q and k; the merge's weights of both halves
    assert layer["addcmul"] == LAYERS * 2


def test_operators_of_a_layer_are_few(counts):
    """`python -m benchmarks.operators` lists them. More are more launches at each of 70 layers."""
    assert counts["reference"][1]["layers"].launches <= 37 * LAYERS
    assert counts["reference"][1]["recording"].launches <= 9 * LAYERS
    assert counts["prompts"][1]["layers"].launches <= 42 * LAYERS
