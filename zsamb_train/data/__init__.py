"""Pictures, captions and caches for training: what is there, in which order, and read by workers."""
