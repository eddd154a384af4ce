"""``python -m zsamb_core.run``: how ``zsamb run`` was called before."""

import sys

from .headless.run import main

if __name__ == "__main__":
    sys.exit(main())
