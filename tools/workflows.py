"""``python -m tools.workflows NAME``: how ``python -m tools.hosting.workflows`` was called before."""

from tools.hosting.workflows import main

if __name__ == "__main__":
    main()
