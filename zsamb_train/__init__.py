"""Train style adapters: ``zsamb train``."""
