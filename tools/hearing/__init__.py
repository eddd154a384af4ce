"""Word errors of the speech models on real weights."""
