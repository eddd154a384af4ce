"""Pictures and figures of the docs, drawn on the demo model."""
