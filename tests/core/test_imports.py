"""The core stands alone, and light."""

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# What the requirements of every ComfyUI from 0.24.1 to the newest name, as it is imported: no torchaudio.
REQUIRED = {
    "PIL", "aiohttp", "av", "einops", "numpy", "psutil", "requests", "safetensors", "scipy", "sentencepiece",
    "tokenizers", "torch", "torchvision", "tqdm", "transformers", "yaml",
    "typing_extensions",  # torch's
}  # fmt: skip
HOST = {"comfy", "comfy_api", "comfy_execution", "folder_paths", "nodes", "server"}


def test_the_core_needs_no_host_and_no_transformers():
    code = (
        "import sys; sys.path[:0] = ['.']; import zsamb_core.attention, zsamb_core.inversion,"
        " zsamb_core.reference, zsamb_core.options, zsamb_core.prompts; print([m for m in ('comfy',"
        " 'transformers', 'PIL', 'scipy') if m in sys.modules])"
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
        assert set(imported(file)) <= allowed, file
    assert len(shipped) > 60 and "torchaudio" not in REQUIRED


def test_python_files_are_ascii():
    folders = ("nodes", "zsamb_core", "demo", "tools", "tests", "benchmarks")
    files = [*ROOT.glob("*.py"), *(p for f in folders for p in (ROOT / f).rglob("*.py"))]
    assert len(files) > 30
    assert [p for p in files if not p.read_bytes().isascii()] == []
