"""``pip install`` of the repository: the command works from any folder, and has all that it needs."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.lacking import lacking
from zsamb_core import __version__, cli

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
FLOW = ROOT / "workflows" / "api" / "style_aligned_reference.json"
# What lies in a ComfyUI's own folder, where people run commands. None may be imported in another's place.
HOST_FOLDERS = (
    "api_server", "app", "comfy", "comfy_api", "comfy_execution", "custom_nodes", "demo", "input",
    "middleware", "models", "output", "tests", "tools", "utils",
)  # fmt: skip
HOST_MODULES = (
    "cuda_malloc", "execution", "folder_paths", "latent_preview", "main", "node_helpers", "nodes", "protocol",
    "server",
)  # fmt: skip


def of(python, *words, **more):
    """A command of a Python, which reads no settings from this test's environment."""
    env = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(python), *map(str, words)], capture_output=True, text=True, timeout=300, env=env, **more
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built by the setuptools that is installed, from a copy: a build leaves files beside the sources."""
    if find_spec("setuptools") is None or find_spec("pip") is None:
        lacking("setuptools and pip are to build the package, and they are not installed")
    source = tmp_path_factory.mktemp("source") / "pack"
    leave = shutil.ignore_patterns("__pycache__")
    for name in ("zsamb_core", "zsamb_train", "nodes", "tools", "demo"):
        shutil.copytree(ROOT / name, source / name, ignore=leave)
    for name in ("pyproject.toml", "README.md", "LICENSE", "__init__.py"):
        shutil.copy(ROOT / name, source / name)
    built = source.parent / "built"
    flags = ("--no-deps", "--no-build-isolation", "--quiet", "--no-index", "--wheel-dir", built)
    done = of(sys.executable, "-m", "pip", "wheel", *flags, source)
    assert done.returncode == 0, done.stderr
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def programs(wheel, tmp_path_factory):
    """The folder of programs of a new environment with the package, which finds torch and the others where
    this test's Python has them.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    flags = ("--no-deps", "--no-index", "--quiet", "--disable-pip-version-check")
    done = of(sys.executable, "-m", "pip", "--python", programs / "python", "install", *flags, wheel)
    assert done.returncode == 0, done.stderr
    (site,) = {path.parent for path in folder.rglob("zsamb_core") if path.is_dir()}
    places = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
    (site / "others.pth").write_text("\n".join(places))
    return programs


@pytest.fixture
def checkout(tmp_path, monkeypatch):
    """A folder with the names of ComfyUI's own, each of which ends the program that imports it."""
    for name in HOST_FOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('a module of ComfyUI was imported')")
    for name in HOST_MODULES:
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a module of ComfyUI was imported')")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_wheel_has_every_file_of_core_and_trainer_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    files = [p for name in ("zsamb_core", "zsamb_train") for p in (ROOT / name).rglob("*")]
    sources = [p for p in files if p.is_file() and "__pycache__" not in p.parts]
    expected = {path.relative_to(ROOT).as_posix() for path in sources}
    assert {name for name in names if ".dist-info/" not in name} == expected
    assert "zsamb_core/context/music_labels.yaml" in expected and "zsamb_core/scores/score.py" in expected


@pytest.mark.parametrize("as_module", [False, True])
def test_it_works_in_a_folder_like_comfyui_s(programs, checkout, as_module):
    """Each command, by its name and as a module, for which Python looks into the folder at hand first."""
    command = (programs / "python", "-m", "zsamb_core") if as_module else (programs / "zsamb",)
    done = of(*command, "--version")
    assert (done.returncode, done.stdout) == (0, f"zsamb {__version__}\n")
    done = of(*command, "inputs", FLOW)
    assert done.returncode == 0 and "\n  6.seed          number   1\n" in done.stdout
    (checkout / "rows.csv").write_text("output,seed\na,1\nb,five\n")
    words = ("run", FLOW, "--manifest", "rows.csv", "--dry-run", "--server", "http://127.0.0.1:9")
    done = of(*command, *words)
    assert done.returncode == 2 and "row 2 (line 3): seed is 'five'" in done.stderr
    done = of(*command, *words[:2], *words[-2:])
    assert done.returncode == 3 and "http://127.0.0.1:9 does not answer" in done.stderr
    done = of(*command, "score", "--images", "output", "--dino", "demo")
    assert done.returncode == 2 and "output has no pictures" in done.stderr
    Image.new("RGB", (8, 8)).save(checkout / "output" / "1.png")
    Image.new("RGB", (8, 8)).save(checkout / "output" / "2.png")
    done = of(*command, "score", "--images", "output", "--dino", "demo")
    assert done.returncode == 2 and "--dino demo: the demo's models are not installed" in done.stderr


def test_scores_are_those_of_the_repository(programs, checkout):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(**small, image_size=16, patch_size=8)).save_pretrained(checkout / "vit")
    ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(checkout / "vit")
    rng = np.random.default_rng(0)
    (checkout / "set").mkdir()
    for i in range(3):
        pixels = rng.integers(0, 255, (20, 20, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(checkout / "set" / f"{i}.png")
    words = ["score", "--images", "set", "--dino", "vit", "--out"]
    done = of(programs / "python", "-m", "zsamb_core", *words, "installed")
    assert done.returncode == 0 and "DINO" in done.stdout, done.stderr
    assert cli.main([*words, "here"]) == 0
    one, other = (json.loads((checkout / n / "scores.json").read_text()) for n in ("installed", "here"))
    assert one == other and -1 <= one["sets"][0]["consistency"] <= 1


def test_without_what_it_needs_it_says_so(wheel, tmp_path):
    """In a Python that has the package alone; -S takes away what is installed."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = (sys.executable, "-S", "-m", "zsamb_core")
    done = of(*command, "run", FLOW, cwd=tmp_path)
    assert done.returncode == 2 and "has no aiohttp and no PIL. Use ComfyUI's own Python" in done.stderr
    done = of(*command, "score", "--images", "x", "--dino", "demo", cwd=tmp_path)
    assert done.returncode == 2 and "has no numpy and no torch and no transformers" in done.stderr
    assert done.stderr.strip().endswith("pip install numpy torch transformers safetensors pillow")
    done = of(*command, "inputs", FLOW, cwd=tmp_path)
    assert done.returncode == 0 and "9.image  string" in done.stdout
    done = of(*command, "--help", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.startswith("usage: zsamb ")


@pytest.mark.parametrize(
    ("old", "new", "code"), [("zsamb_core.run", "zsamb run", 2), ("tools.evaluate", "zsamb score", 1)]
)
def test_the_old_names_are_commands_still(old, new, code):
    """In the repository's folder, with the exit codes that they had."""
    done = of(sys.executable, "-m", old, "absent.json", cwd=ROOT)
    assert done.returncode == code and done.stdout == ""
    first, second = done.stderr.splitlines()
    assert first.startswith(f"python -m {old} is now called {new} ") and second.startswith(f"{new}: ")
