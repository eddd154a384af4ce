"""``python -m tools.evaluate``: how ``zsamb score`` was called before."""

from zsamb_core.scores.evaluate import main

if __name__ == "__main__":
    main()
