"""Tensor code of Z-SAMB: style-aligned attention, reference paths, inversion. Needs torch alone, never
ComfyUI.
"""
