"""What a test needs and this machine lacks."""

import os
from typing import NoReturn

import pytest


def lacking(what: str) -> NoReturn:
    """Fails the test where CI runs it, which is to have everything; elsewhere skips it."""
    if os.environ.get("CI"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what)


def need_browser() -> None:
    """Playwright and a Chromium for it."""
    from tools.hosting.browser import CHROMIUM

    try:
        import playwright  # noqa: F401
    except ImportError as error:
        lacking(f"Playwright is not installed: {error}")
    if not CHROMIUM:
        lacking("no Chromium is installed (Debian's package chromium)")
