"""Path recipe: the project's root goes last, so that ComfyUI's own top-level ``nodes`` module is never
shadowed. How tests are shared among processes. And tiny models of transformers' classes, saved once.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if p not in ("", str(ROOT))] + [str(ROOT)]

if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])


# Live tests that share a server where several processes share the tests; all others have a third one.
TOGETHER = {
    **dict.fromkeys(("test_browser.py", "test_bypass.py", "test_locales.py", "test_server.py"), "canvas"),
    "test_layouts.py": "canvas",
    "test_workflows.py": "canvas",
    **dict.fromkeys(("test_archive.py", "test_comfy_cli.py", "test_shipped_forms.py"), "archive"),
}
TIERS = ("live", "host", "core", "extras")  # the longest first: what is left at the end is short


def pytest_collection_modifyitems(config, items):
    if hasattr(config, "workerinput"):  # one of pytest-xdist's processes
        items.sort(key=lambda item: TIERS.index(item.path.relative_to(ROOT / "tests").parts[0]))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Each file stays in one process, and so do the tests that share a server."""
    from xdist.scheduler import LoadScopeScheduling

    class ByServer(LoadScopeScheduling):
        def _split_scope(self, nodeid):
            file = nodeid.partition("::")[0]
            folder, _, name = file.rpartition("/")
            if not folder.endswith("tests/live"):
                return file
            return TOGETHER.get(name, "live")

    return ByServer(config, log)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folders by kind: blip, whisper, english (a Whisper of English alone), clap, fused, t5."""
    from tools.hosting import tiny_models

    root = tmp_path_factory.mktemp("tiny")
    return {
        "blip": tiny_models.save_blip(root / "blip"),
        "whisper": tiny_models.save_whisper(root / "whisper"),
        "english": tiny_models.save_whisper(root / "english", multilingual=False),
        "clap": tiny_models.save_clap(root / "clap"),
        "fused": tiny_models.save_clap(root / "fused", fused=True),
        "t5": tiny_models.save_t5(root / "t5"),
    }
