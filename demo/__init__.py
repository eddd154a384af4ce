"""The embedded demo model family: the picture source, the training scripts and the measurements."""
