"""``python -m tools.evaluate``: what ``zsamb score`` was called before. For one more release."""

import sys

from zsamb_core.cli import main as zsamb
from zsamb_core.console import FAILED, WRONG, say


def main(arguments: list[str] | None = None) -> int:
    """``zsamb score`` with the same arguments. A wrong input ends with 1 here, as it always did."""
    say("python -m tools.evaluate is now called zsamb score (python -m zsamb_core score). This name will go.")
    code = zsamb(["score", *(sys.argv[1:] if arguments is None else arguments)])
    return FAILED if code == WRONG else code


if __name__ == "__main__":
    sys.exit(main())
