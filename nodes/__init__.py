"""ComfyUI's face of the pack: one file per node family."""
