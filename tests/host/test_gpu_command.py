"""`python -m benchmarks.gpu` at a small size on the CPU: it runs, and what it compares agrees."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def command(*arguments):
    call = [sys.executable, "-m", "benchmarks.gpu", *arguments]
    return subprocess.run(call, cwd=ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What it wrote: the JSON, and the tables."""
    out = tmp_path_factory.mktemp("gpu") / "found"
    done = command("--device", "cpu", "--small", "--out", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(out.with_suffix(".json").read_text()), out.with_suffix(".md").read_text()


def test_layers_agree_with_the_oracle_in_every_type(found):
    rows = found[0]["parity"]
    types = {"float16", "bfloat16", "float32"}
    assert {(row["type"], row["references"]) for row in rows} == {(t, n) for t in types for n in (0, 1, 2)}
    assert all(row["passed"] and row["strength 0 is stock"] and row["layers"] for row in rows)
    halves = [row for row in rows if row["type"] != "float32"]
    assert all(0 < row["patched error"] <= 4 * row["stock's error"] + 1e-5 for row in halves)


def test_every_way_was_timed_beside_stock(found):
    rows = found[0]["speed"]
    ways = ["stock", "pack", "concatenated", "masked", "explicit", "IP-Adapter style", "IP-Adapter all"]
    assert {row["way"] for row in rows} == set(ways)
    assert all(row["seconds"] > 0 and row["TFLOP"] > 0 for row in rows)
    assert [row["to stock"] for row in rows if row["way"] == "stock"] == [1.0, 1.0]


def test_the_demo_draws_what_another_process_draws(found):
    assert found[0]["demo"] == [{"pictures": 2, "PSNR to the CPU's, dB": 99.0, "passed": True}]


def test_the_tables_say_on_what_and_that_it_was_small(found):
    assert found[0]["device"] == "CPU" and found[0]["small"] and found[0]["passed"]
    first, *rest = found[1].splitlines()
    assert first.startswith("CPU, torch ") and first.endswith(", small")
    assert sum(line.startswith("| type |") or line.startswith("| pixels |") for line in rest) == 2


@pytest.mark.skipif(torch.cuda.is_available(), reason="here is a CUDA device")
def test_without_a_device_it_says_so():
    done = command()
    assert done.returncode == 1
    assert "no CUDA device" in done.stderr and "--device cpu --small" in done.stderr


def test_a_part_that_does_not_exist_is_refused():
    done = command("memory")
    assert done.returncode == 2 and "expected some of parity, speed, demo" in done.stderr


def test_a_steps_parts_are_timed():
    """`python -m benchmarks.step`, on the demo model alone."""
    call = [sys.executable, "-m", "benchmarks.step", "--pictures", "1", "--rounds", "1"]
    out = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert out.startswith("demo, 1 pictures of 128 px, 1 references: stock ")
    shares = {line[:34].strip(): float(line[34:].split("%")[0]) for line in out.splitlines()[1:]}
    parts = {"reference call", "statistics and AdaIN", "attention, own and references", "merge"}
    assert parts < set(shares) and all(0 <= share <= 100 for share in shares.values())
    within = shares["patched layers in all"]
    assert within + 0.2 >= shares["statistics and AdaIN"] + shares["attention, own and references"]
