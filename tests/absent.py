"""What ComfyUI no longer requires, taken away: tests/core and tests/host run as on a fresh new machine."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

ABSENT = ("torchaudio",)


def take_away() -> None:
    """From now on an import of these fails. Before anything asks transformers, which keeps the answer."""
    for name in ABSENT:
        sys.modules[name] = None
    from transformers.utils import is_torchaudio_available

    assert not is_torchaudio_available()


@contextmanager
def given_back() -> Iterator[None]:
    """Within, what is installed of them can be imported: for an older ComfyUI, which does so itself, and for
    comparisons.
    """
    for name in ABSENT:
        sys.modules.pop(name, None)
    try:
        yield
    finally:
        for name in ABSENT:
            sys.modules[name] = None
