"""Path recipe: the project's root goes last, so that ComfyUI's own top-level ``nodes`` module is never
shadowed. And tiny models of transformers' classes, saved once.
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if p not in ("", str(ROOT))] + [str(ROOT)]

if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])


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
