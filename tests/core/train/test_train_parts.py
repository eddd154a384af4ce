"""Parts of the trainer that need no ComfyUI: checkpoints, curves, rates, averages, what is kept back."""

import argparse
import math
import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.core.train.data_sets import folder
from zsamb_core.layers import SDXL_BLOCKS, Layer
from zsamb_train import arguments, checkpoints, held_out
from zsamb_train.checks import check
from zsamb_train.curves import Curves
from zsamb_train.data.source import open_source
from zsamb_train.layers import chosen_layers, numbers_of
from zsamb_train.learning import copy_of, follow, put, rate_at


def a_state(value):
    return {"weights": {"w": torch.full((3,), float(value))}, "optimizer": {"state": {}}}


def test_the_newest_whole_checkpoint_is_taken(tmp_path, capsys):
    assert checkpoints.newest(tmp_path) is None
    for step in (2, 4, 6, 8):
        checkpoints.save(tmp_path, step, a_state(step), keep=3)
    folder = tmp_path / "checkpoints"
    assert sorted(p.name for p in folder.iterdir()) == [f"step-{n:08d}" for n in (4, 6, 8)]
    step, state = checkpoints.newest(tmp_path)
    assert step == 8 and state["weights"]["w"].tolist() == [8.0] * 3
    # A flipped byte, then a missing file: each time the one before.
    file = folder / "step-00000008" / "state.pt"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert checkpoints.newest(tmp_path)[0] == 6
    assert "step-00000008 is damaged" in capsys.readouterr().err
    (folder / "step-00000006" / "about.json").unlink()
    assert checkpoints.newest(tmp_path)[0] == 4
    # What was being written when the machine went down counts for nothing.
    (folder / ".step-00000010.part").mkdir()
    assert checkpoints.newest(tmp_path)[0] == 4
    # The damaged one is replaced when the run comes there again.
    checkpoints.save(tmp_path, 8, a_state(80), keep=3)
    assert checkpoints.newest(tmp_path)[1]["weights"]["w"].tolist() == [80.0] * 3


def test_rates():
    rates = [rate_at(step, 100, 2.0, 4, "constant") for step in range(6)]
    assert rates == [0.5, 1.0, 1.5, 2.0, 2.0, 2.0]
    assert rate_at(4, 104, 2.0, 4, "cosine") == 2.0 and rate_at(54, 104, 2.0, 4, "cosine") == pytest.approx(
        1.0
    )
    assert rate_at(104, 104, 2.0, 4, "cosine") == pytest.approx(0.0, abs=1e-12)


def test_averages_follow_fast_and_then_slowly():
    model = torch.nn.Linear(2, 1)
    average = copy_of(model)
    start = average["weight"].clone()
    put(model, {name: value + 1 for name, value in average.items()})
    follow(average, model, 1, 0.999)
    torch.testing.assert_close(average["weight"], start + 1 - 2 / 11)
    before = average["weight"].clone()
    follow(average, model, 10**6, 0.999)
    torch.testing.assert_close(average["weight"], before + 0.001 * (start + 1 - before))
    follow(average, model, 5, 0.0)  # none
    torch.testing.assert_close(average["weight"], start + 1)


def test_curves_drop_what_lies_behind_the_checkpoint(tmp_path):
    curves = Curves(tmp_path, 0)
    curves.add(0, style=0.1, style_error=0.01, content=0.2, content_error=0.02)
    curves.add(10, loss=0.5, rate=1e-4)
    curves.add(20, loss=math.nan, style=None)
    assert curves.newest().keys() == {"loss"}
    curves.write()
    again = Curves(tmp_path, 10)
    assert [line["step"] for line in again.lines] == ["0", "10"] and float(again.lines[1]["loss"]) == 0.5


def test_what_is_kept_back(tmp_path):
    """Whole styles of many; nothing of few."""
    many = open_source(folder(tmp_path / "many", count=75, groups=25))
    kept, probed = held_out.split(many, seed=0)
    assert len(kept) == 60 and not set(kept) & set(probed)
    assert set(many.groups[probed]).isdisjoint(many.groups[kept]) and len(set(many.groups[probed])) == 5
    assert np.array_equal(held_out.split(many, seed=0)[1], probed)
    few = open_source(folder(tmp_path / "few", count=8, groups=2))
    kept, probed = held_out.split(few, seed=0)
    assert len(kept) == 8 and set(probed) <= set(kept)
    alone = open_source(folder(tmp_path / "alone", count=210, groups=0))
    kept, probed = held_out.split(alone, seed=0)
    assert len(probed) == 20 and sorted([*kept, *probed]) == list(range(210))
    probed = held_out.split(many, seed=0)[1]
    part = held_out.Part(many, probed)
    assert len(part) == len(probed) and part.read(0).caption == many.read(int(probed[0])).caption


def test_blocks_by_name():
    layers = [Layer(*block, 0) for block in SDXL_BLOCKS]
    assert chosen_layers("style", layers) == [Layer("output", 1, 0)]
    assert chosen_layers("output 1, input 7-8", layers) == [
        Layer("input", 7, 0), Layer("input", 8, 0), Layer("output", 1, 0)
    ]  # fmt: skip
    assert len(chosen_layers("all", layers)) == 11
    widths = dict.fromkeys(layers, 64)
    # In a file: down, up, middle, each with self-attention before it.
    assert numbers_of([Layer("output", 1, 0)], widths) == {Layer("output", 1, 0): 2 * 5 + 1}
    with pytest.raises(ValueError, match="names no block of this model"):
        chosen_layers("output 7", layers)


def options(*more):
    parser = argparse.ArgumentParser()
    arguments.add_arguments(parser)
    return parser.parse_args(["data", "--checkpoint", "demo", *more])


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--steps", "0"), "--steps is 0, expected 1 or more"),
        (("--rate", "nan"), "--rate is nan"),
        (("--rate", "-1"), "--rate is -1.0"),
        (("--drop-both", "1.1"), "drop rates are 1.2 together"),
        (("--average", "1.5"), "--average is 1.5, expected 0 to 1"),
        (("--resolution", "500"), "--resolution is 500, expected a multiple of 8"),
        (("--style-spread", "0"), "--style-spread is 0.0"),
        (("--freeze-projector",), "--freeze-projector without --init"),
        (("--tflops", "inf", "--plan"), "--tflops is inf"),
    ],
)
def test_numbers_that_mean_nothing_are_named(more, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        check(options(*more))
    check(options())


def test_the_published_values_are_the_defaults():
    """tencent-ailab/IP-Adapter, tutorial_train_sdxl.py."""
    o = options()
    assert (o.drop_image, o.drop_text, o.drop_both, o.rate, o.weight_decay) == (0.05, 0.05, 0.05, 1e-4, 1e-2)
    assert (o.offset_noise, o.timesteps, o.min_snr, o.schedule, o.warmup) == (
        0.0,
        "uniform",
        0.0,
        "constant",
        0,
    )
    assert (o.pairs, o.kind, o.blocks, o.resolution) == ("self", "base", "style", 512)


def test_a_file_that_is_no_adapter_is_refused(tmp_path):
    from zsamb_train.adapter import start_from

    save_file({"a": torch.zeros(2)}, tmp_path / "no.safetensors")
    with pytest.raises(ValueError, match="is not an IP-Adapter"):
        start_from(tmp_path / "no.safetensors", {1: 4}, {1: (torch.zeros(4, 8), torch.zeros(4, 8))})
