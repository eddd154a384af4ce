"""Tensor code of Z-SAMB: style-aligned attention, reference paths, inversion. Needs torch alone, never
ComfyUI.
"""

__version__ = "0.3.0"  # as in pyproject.toml
