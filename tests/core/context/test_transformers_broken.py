"""transformers where a torchaudio that was made for another torch is installed: importing it raises, and
importing transformers' models with it.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
RAISED = "PyTorch has CUDA version 13.2 whereas TorchAudio has CUDA version 13.0"
# Each loader, on a folder that exists: what is missing in it is not reached, but for what is read beforehand.
CODE = """
import sys
from zsamb_core.context import caption, clap, speech, summary
loaders = {"blip": caption.load_caption_model, "whisper": speech.load_whisper, "clap": clap.load_clap,
           "t5": summary.load_summary_model}
for kind, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    try:
        loaders[kind](folder)
        print(kind, "loaded")
    except ValueError as error:
        print(kind, error)
"""


@pytest.fixture
def load_all(tiny, tmp_path):
    """What each loader says, in a process of its own, with such a torchaudio first on the path."""

    def run(*more):
        kinds = ("blip", "whisper", "clap", "t5")
        names = [part for kind in kinds for part in (kind, str(tiny[kind]))]
        paths = os.pathsep.join([*more, str(ROOT)])
        env = {**os.environ, "PYTHONPATH": paths, "TRANSFORMERS_VERBOSITY": "error"}
        out = subprocess.run(
            [sys.executable, "-c", CODE, *names], env=env, capture_output=True, text=True, check=True
        )
        return dict(line.split(" ", 1) for line in out.stdout.splitlines() if line.startswith(kinds))

    return run


def test_the_cure_is_said(load_all, tmp_path):
    (tmp_path / "torchaudio").mkdir()
    (tmp_path / "torchaudio" / "__init__.py").write_text(f"raise RuntimeError({RAISED!r})\n")
    (tmp_path / "torchaudio-2.11.0.dist-info").mkdir()
    (tmp_path / "torchaudio-2.11.0.dist-info" / "METADATA").write_text("Name: torchaudio\nVersion: 2.11.0\n")
    messages = load_all(str(tmp_path))
    assert len(messages) == 4
    for kind, text in messages.items():
        assert "torchaudio does not fit torch" in text and RAISED in text, (kind, text)
        assert "python -m pip uninstall torchaudio" in text
