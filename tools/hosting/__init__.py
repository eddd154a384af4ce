"""ComfyUI to test on: fetched, started, its page opened, and what runs on it."""
