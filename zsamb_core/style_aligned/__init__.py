"""StyleAligned: shared self-attention, AdaIN, DDIM inversion and blending of references."""
