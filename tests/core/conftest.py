"""Without what ComfyUI no longer requires."""

from tests.absent import take_away

take_away()
