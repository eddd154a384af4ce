"""Captions, speech, music, weather and token counts."""
