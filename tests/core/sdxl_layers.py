"""SDXL's attention layers, in full."""

from zsamb_core.layers import Layer

SDXL_DEPTHS = {
    ("input", 4): 2, ("input", 5): 2, ("input", 7): 10, ("input", 8): 10, ("middle", 0): 10,
    ("output", 0): 10, ("output", 1): 10, ("output", 2): 10,
    ("output", 3): 2, ("output", 4): 2, ("output", 5): 2,
}  # fmt: skip
SDXL = [Layer(*block, i) for block, depth in SDXL_DEPTHS.items() for i in range(depth)]
