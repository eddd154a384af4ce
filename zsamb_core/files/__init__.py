"""Files, read without trust and written without loss."""
