"""The core stands alone, and light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tools.house import imports_within, rooms_and_arrows

ROOT = Path(__file__).resolve().parents[2]
# What the requirements of every ComfyUI from 0.24.1 to the newest name, as it is imported: no torchaudio.
REQUIRED = {
    "PIL", "aiohttp", "av", "einops", "numpy", "psutil", "requests", "safetensors", "scipy", "sentencepiece",
    "tokenizers", "torch", "torchvision", "tqdm", "transformers", "yaml",
    "typing_extensions",  # torch's
}  # fmt: skip
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "latent_preview", "nodes", "server"}


def test_the_core_needs_no_host_and_no_transformers():
    code = (
        "import sys; sys.path[:0] = ['.']; import zsamb_core.prompts; from zsamb_core.style_aligned import"
        " attention, inversion, options, reference;"
        " print([m for m in ('comfy', 'transformers', 'PIL', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def imported(file):
    """The packages that a file imports anywhere, in functions too, but for the pack's own."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module.split(".")[0]


def test_nothing_is_imported_that_a_comfyui_may_lack():
    """Extras (openai-whisper, laion-clap) are imported by name, with a message for who has them not."""
    shipped = [ROOT / "__init__.py", *(ROOT / "nodes").rglob("*.py"), *(ROOT / "zsamb_core").rglob("*.py")]
    models = [*(ROOT / "demo").glob("*.py")]
    for file in [*shipped, *models]:
        allowed = REQUIRED | {"zsamb_core", "demo"} | set(sys.stdlib_module_names)
        allowed |= HOST if "zsamb_core" not in file.parts else set()
        allowed |= {"zsamb_train"} if file.name == "cli.py" else set()
        assert set(imported(file)) <= allowed, file
    assert len(shipped) > 60 and "torchaudio" not in REQUIRED


# Which wing may import which. All may import what lies beside the wings.
WINGS = {
    "style_aligned": set(),
    "instantstyle": set(),
    "context": {"scores"},  # music's labels are found by cosines
    "scores": set(),
    "headless": set(),
}
HOST_WINGS = {"style_aligned": set(), "instantstyle": {"style_aligned"}, "context": set(), "scores": set()}
COMMANDS = {"__main__", "cli", "run"}


@pytest.mark.parametrize(("folder", "wings"), [("zsamb_core", WINGS), ("nodes/_host", HOST_WINGS)])
def test_wings_import_what_they_may(folder, wings):
    imports = list(imports_within(ROOT / folder))
    folders = {p.name for p in (ROOT / folder).iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert folders - {"files"} == set(wings) and len(imports) > 50
    for (room, *_), (other, *_) in imports:
        if room in wings:
            assert other not in wings or other == room or other in wings[room], f"{room} imports {other}"
        elif room not in COMMANDS:  # what lies beside the wings knows of none
            assert other not in wings, f"{room} imports {other}"


def test_arrows_between_rooms_are_few():
    """`python -m tools.house` counts them."""
    for folder, most in (("zsamb_core", 40), ("nodes/_host", 30)):
        rooms, arrows = rooms_and_arrows(ROOT / folder)
        assert {"style_aligned", "instantstyle"} < rooms and 10 < len(arrows) <= most


def test_no_node_imports_from_another():
    """What nodes share is in files whose names begin with an underscore."""
    imports = list(imports_within(ROOT / "nodes"))
    assert len(imports) > 100
    for (file, *_), (other, *_) in imports:
        assert other.startswith("_") or file == "_host", f"nodes/{file}.py imports {other}"


def test_the_training_data_know_no_host_and_the_pack_no_training():
    """Packages of the extra are imported by name, with a message for who has them not."""
    files = [*(ROOT / "zsamb_train" / "data").glob("*.py")]
    for file in files:
        allowed = REQUIRED | {"zsamb_core", "datasets"} | set(sys.stdlib_module_names)
        assert set(imported(file)) <= allowed, file
    assert len(files) > 10
    for file in [ROOT / "__init__.py", *(ROOT / "nodes").rglob("*.py")]:
        assert "zsamb_train" not in set(imported(file)), file


def test_one_file_of_the_trainer_knows_the_host():
    for file in (ROOT / "zsamb_train").glob("*.py"):
        assert file.name == "host.py" or not HOST & set(imported(file)), file
    code = (
        "import sys; import zsamb_core.cli;"
        " print([m for m in ('torch', 'numpy', 'PIL', 'accelerate', 'comfy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_opening_a_set_imports_no_extra():
    code = (
        "import sys; import zsamb_train.data.source, zsamb_train.data.loader;"
        " print([m for m in ('comfy', 'datasets', 'accelerate', 'transformers') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_python_files_are_ascii():
    folders = ("nodes", "zsamb_core", "zsamb_train", "demo", "tools", "tests", "benchmarks")
    files = [*ROOT.glob("*.py"), *(p for f in folders for p in (ROOT / f).rglob("*.py"))]
    assert len(files) > 30
    assert [p for p in files if not p.read_bytes().isascii()] == []
