"""The judges of Style Score and CLIP Score."""
