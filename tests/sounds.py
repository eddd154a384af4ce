"""Speech from a synthesizer and music made of tones, as files of every common kind."""

import os
import shutil
import subprocess
import wave
from pathlib import Path

import numpy as np

from tests.lacking import lacking

SAID = "A pair of keys is lying on the table in the garden."


def speech_file(path: Path) -> Path:
    """What ``SAID`` says, by espeak-ng, at 22 050 Hz, mono, 16 bit."""
    program = shutil.which("espeak-ng")
    if program is None:
        lacking("espeak-ng is not installed (Debian's package espeak-ng)")
    subprocess.run([program, "-v", "en", "-w", str(path), SAID], check=True, timeout=60)
    return path


def sound_file(path: Path) -> Path:
    """Speech, or without espeak-ng music: for models of random weights, which hear words in neither. CI has
    speech.
    """
    if shutil.which("espeak-ng") or os.environ.get("CI"):
        return speech_file(path)
    return write_wav(path, music(4, 22_050)[:1], 22_050)


def write_wav(path: Path, samples: np.ndarray, rate: int) -> Path:
    """(channels, n) in -1..1, as 16 bit."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(len(samples))
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes((samples.T.clip(-1, 1) * 32767).astype("<i2").tobytes())
    return path


def music(seconds: float, rate: int, seed: int = 0) -> np.ndarray:
    """(2, n): chords of decaying tones with a few overtones, a little wider on one side."""
    rng = np.random.default_rng(seed)
    count = round(seconds * rate)
    mixed = np.zeros(count)
    scale = 220 * 2 ** (np.array([0, 2, 4, 5, 7, 9, 11, 12]) / 12)
    for start in np.arange(0, seconds, 0.5):
        time = np.arange(min(count - round(start * rate), 2 * rate)) / rate
        for tone in rng.choice(scale, 3, replace=False):
            note = sum(np.sin(2 * np.pi * tone * k * time) / k**2 for k in (1, 2, 3))
            begin = round(start * rate)
            mixed[begin : begin + len(time)] += 0.08 * note * np.exp(-2 * time)
    return np.stack([mixed, 0.7 * mixed])
