"""Prompts from pictures, speech, music and weather."""
