"""The core stands alone, and light."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_core_needs_no_host_and_no_transformers():
    code = (
        "import sys; sys.path[:0] = ['.']; import zsamb_core.attention, zsamb_core.inversion,"
        " zsamb_core.reference, zsamb_core.options, zsamb_core.prompts; print([m for m in ('comfy',"
        " 'transformers', 'PIL', 'scipy') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_python_files_are_ascii():
    folders = ("nodes", "zsamb_core", "demo", "tools", "tests", "benchmarks")
    files = [*ROOT.glob("*.py"), *(p for f in folders for p in (ROOT / f).rglob("*.py"))]
    assert len(files) > 30
    assert [p for p in files if not p.read_bytes().isascii()] == []
