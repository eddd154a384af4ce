"""Workflows on ComfyUI servers, from a script."""
