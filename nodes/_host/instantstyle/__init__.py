"""Style images as hooks, and their encoders."""
