"""Path recipe: the project's root goes last, so that ComfyUI's own top-level ``nodes`` module is never
shadowed.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [p for p in sys.path if p not in ("", str(ROOT))] + [str(ROOT)]

if os.environ.get("COMFYUI_PATH"):
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
