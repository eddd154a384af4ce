"""Whole runs of ``zsamb train``, as commands: killed, stopped, on two processes, and refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.core.train.data_sets import pixels

ROOT = Path(__file__).resolve().parents[3]
STEPS, BATCH = 6, 4
COMMON = (
    "--checkpoint", "demo", "--blocks", "output 5", "--resolution", "64", "--batch", str(BATCH),
    "--workers", "0", "--track", "none", "--probe-every", "0", "--sheet-every", "0",
    "--pairs", "group",
)  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Twelve pictures of 64 px in three styles of noise."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(12):
        place = root / f"style {i % 3}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels(i, (64, 64))).save(place / f"{i}.png")
        (place / f"{i}.txt").write_text(f"a {('cat', 'house', 'boat', 'moon')[i // 3]}")
    return root


def command(pictures, output, *more):
    return [
        sys.executable,
        "-m",
        "zsamb_core",
        "train",
        str(pictures),
        "--output",
        str(output),
        *COMMON,
        *more,
    ]


def run(*arguments, **more):
    return subprocess.run(
        command(*arguments), cwd=ROOT, capture_output=True, text=True, timeout=600, check=False, **more
    )


def weights(output):
    return load_file(output / "adapter.safetensors")


def state(output, step=STEPS):
    return torch.load(output / "checkpoints" / f"step-{step:08d}" / "state.pt", weights_only=True)


def same(a, b):
    assert set(a) == set(b) and a
    return all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture(scope="module")
def whole(pictures, tmp_path_factory):
    """A run that nothing interrupted."""
    output = tmp_path_factory.mktemp("runs") / "whole"
    done = run(pictures, output, "--steps", str(STEPS), "--save-every", "2", "--keep", "9")
    assert done.returncode == 0, done.stderr
    return output


def until_saved(process, output, step):
    place = output / "checkpoints" / f"step-{step:08d}"
    end = time.monotonic() + 300
    while not place.is_dir() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    assert place.is_dir(), process.communicate()[1]


def test_a_run_learns_and_leaves_what_it_promises(whole):
    first, last = state(whole, 2)["weights"], state(whole)["weights"]
    assert not any(torch.equal(first[name], last[name]) for name in last)
    names = weights(whole)
    assert {n.split(".")[1] for n in names if n.startswith("ip_adapter.")} == {"21"}  # output 5's in a file
    assert sorted(p.name for p in (whole / "checkpoints").iterdir()) == [f"step-{n:08d}" for n in (2, 4, 6)]
    assert json.loads((whole / "run.json").read_text())["pairs"] == "group"


def test_after_kill_9_the_weights_are_those_of_an_uninterrupted_run(whole, pictures, tmp_path):
    arguments = (pictures, tmp_path / "run", "--steps", str(STEPS), "--save-every", "2", "--keep", "9")
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until_saved(process, tmp_path / "run", 2)
    process.kill()
    process.communicate()
    newest = max((tmp_path / "run" / "checkpoints").glob("step-*"))
    again = run(*arguments)
    assert again.returncode == 0, again.stderr
    assert f"goes on from step {int(newest.name[5:])} of {STEPS}" in again.stderr
    assert same(weights(tmp_path / "run"), weights(whole))
    ours, wanted = state(tmp_path / "run"), state(whole)
    assert same(ours["weights"], wanted["weights"]) and same(ours["average"], wanted["average"])


def test_sigterm_saves_and_ends_well_and_a_damaged_checkpoint_falls_back(whole, pictures, tmp_path):
    arguments = (pictures, tmp_path / "run", "--steps", "400", "--save-every", "2", "--keep", "9")
    process = subprocess.Popen(command(*arguments), cwd=ROOT, stderr=subprocess.PIPE, text=True)
    until_saved(process, tmp_path / "run", 4)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=300)
    assert process.returncode == 0 and "saved step-" in said
    saved = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))
    assert len(saved) > 1
    with (saved[-1] / "state.pt").open("r+b") as file:
        file.seek(os.path.getsize(saved[-1] / "state.pt") // 2)
        file.write(b"\0" * 64)
    before = int(saved[-2].name[5:])
    again = run(pictures, tmp_path / "run", "--steps", str(before + 1), "--save-every", "2", "--keep", "9")
    assert again.returncode == 0, again.stderr
    assert f"{saved[-1].name} is damaged" in again.stderr and f"goes on from step {before}" in again.stderr


def test_two_processes_give_the_weights_of_one(whole, pictures, tmp_path):
    """By torchrun, with gloo: each does two of a batch's four rows."""
    arguments = command(pictures, tmp_path / "run", "--steps", str(STEPS), "--save-every", "2", "--keep", "9")
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*torchrun, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "ACCELERATE_USE_CPU": "true"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    ours, wanted, early = state(tmp_path / "run"), state(whole), state(whole, 2)
    for name, value in wanted["weights"].items():
        torch.testing.assert_close(ours["weights"][name], value, atol=1e-5, rtol=0)
        moved = (value - early["weights"][name]).norm()
        assert (ours["weights"][name] - value).norm() < 5e-3 * moved, name


def test_a_loss_that_is_no_number_names_step_pictures_and_checkpoint(pictures, tmp_path):
    done = run(
        pictures, tmp_path / "run", "--steps", "40", "--save-every", "1", "--rate", "1e30", "--clip", "0"
    )
    assert done.returncode == 1
    assert "the loss is nan" in done.stderr and ".png" in done.stderr and "step-0000000" in done.stderr


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (("--batch", "5", "--accumulate", "2"), "--batch is 5, expected a multiple of 1 processes times 2"),
        (("--blocks", "output 9"), "names no block of this model"),
        (("--kind", "plus", "--init", "nowhere.safetensors"), "nowhere.safetensors"),
        (("--drop-image", "0.9", "--drop-text", "0.9"), "drop rates are 1.85 together"),
    ],
)
def test_wrong_arguments_are_named(pictures, tmp_path, more, told):
    done = run(pictures, tmp_path / "run", *more)
    assert done.returncode == 2 and told in done.stderr, done.stderr


def test_a_run_with_other_settings_is_refused(whole, pictures):
    done = run(pictures, whole, "--steps", "9", "--rate", "2e-3")
    assert done.returncode == 2 and "rate was 0.0001 and is 0.002" in done.stderr, done.stderr
