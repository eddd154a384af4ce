"""`nox -s demo`, with fewer steps, on the live server."""

import json

import numpy as np
import pytest
from PIL import Image

from tools.draw import blends, demo, sets
from tools.draw.studio import Studio
from tools.hosting.host import find_host

pytestmark = pytest.mark.live


@pytest.fixture
def studio(server):
    return Studio(server, steps=2)


def test_the_demo_writes_pictures_sheet_and_summary(studio, tmp_path):
    options, scores = demo.arguments([]), demo.demo_scores(find_host())
    demo.show_once(studio, options.lines, 1, options.picture, options.reference_prompt, tmp_path, scores)
    pictures = {p.name for p in tmp_path.glob("*_[1-4].png")}
    assert len(pictures) == 20
    assert Image.open(tmp_path / "reference_aligned_1.png").size == (128, 128)
    assert Image.open(tmp_path / "sheet.png").width > 5 * 128
    assert Image.open(tmp_path / "reference.png").size == (128, 128)
    summary = json.loads((tmp_path / "summary.json").read_text())
    names = {f"{m}_{k}" for m in demo.MODES for k in ("aligned", "unaligned")}
    assert set(summary["consistency"]) == {*names, "instantstyle"}
    text = (tmp_path / "summary.txt").read_text()
    assert "reference_aligned" in text and "CLIP text similarity / DINO set consistency" in text
    assert set(summary["clip_dino"]) == set(summary["consistency"])
    assert all(-1 <= x <= 1 for pair in summary["clip_dino"].values() for x in pair)


def test_a_visitor_s_picture_and_prompts(studio, tmp_path):
    """Any size, with alpha, and any number of prompts."""
    noise = np.random.default_rng(0).integers(0, 255, (90, 201, 4), np.uint8)
    Image.fromarray(noise).save(tmp_path / "mine.png")
    (tmp_path / "prompts.txt").write_text("a car\n\na fish in neon style\na moon\n")
    arguments = ["--reference", str(tmp_path / "mine.png"), "--prompts", str(tmp_path / "prompts.txt")]
    options = demo.arguments(arguments)
    demo.show_once(studio, options.lines, 1, options.picture, options.reference_prompt, tmp_path)
    assert len(list(tmp_path.glob("reference_aligned_*.png"))) == 3


def test_the_table_of_sets(studio, tmp_path):
    sets.measure_sets(studio, 1, 1, tmp_path)
    text = (tmp_path / "summary.txt").read_text()
    assert "style consistency, prompts only" in text and "of 1" in text
    (entry,) = json.loads((tmp_path / "summary.json").read_text())
    assert set(entry["right"]) == {f"{m}, {k}" for m in demo.MODES for k in sets.KINDS}
    assert (tmp_path / "sets.png").is_file()


def test_the_table_between_two_references(studio, tmp_path):
    blends.measure_blends(studio, 1, 1, tmp_path)
    assert "similarity to A" in (tmp_path / "blends.txt").read_text()
    (entry,) = json.loads((tmp_path / "blends.json").read_text())
    assert len(entry["similarity_a"]) == len(blends.WEIGHTS) and entry["a"] != entry["b"]
    assert (tmp_path / "blends.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reference", "nowhere.png"], "--reference nowhere.png: no such file"),
        (["--reference", "README.md"], "README.md cannot be read as a picture"),
        (["--prompts", "nowhere.txt"], "not a text file that can be read"),
        (["--sets", "2", "--checkpoint", "x"], "leave out the others"),
    ],
)
def test_wrong_arguments_are_said_at_once(capsys, arguments, message):
    with pytest.raises(SystemExit):
        demo.arguments(arguments)
    assert message in capsys.readouterr().err


def test_prompts_of_what_the_demo_model_does_not_know_are_told():
    assert demo.unknown(["a cat", "two Boats, a boat", "a fox", "a catapult"]) == ["a fox", "a catapult"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(demo.HostError, match="--checkpoint none.safetensors: no such file"):
        demo.find_checkpoint("none.safetensors", tmp_path)
