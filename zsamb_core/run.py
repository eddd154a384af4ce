"""``python -m zsamb_core.run``: what ``zsamb run`` was called before. For one more release."""

import sys

from .cli import main as zsamb
from .console import say


def main(argv: list[str] | None = None) -> int:
    """``zsamb run`` with the same arguments and exit codes."""
    say("python -m zsamb_core.run is now called zsamb run (python -m zsamb_core run). This name will go.")
    return zsamb(["run", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    sys.exit(main())
