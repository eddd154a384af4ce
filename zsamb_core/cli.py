"""The command ``zsamb``. A sub-command is one module with ``add_arguments(parser)`` and ``main(options)``,
which returns the exit code; what is heavy it imports when it runs.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import Protocol

from zsamb_train import adapter_command, prepare, train

from . import __version__
from .console import WRONG, take_any_text
from .headless import inputs, run
from .scores import score


class Command(Protocol):
    """A module of a sub-command."""

    def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

    def main(self, options: argparse.Namespace) -> int: ...


# By name: what --help says of it, and its module.
COMMANDS: dict[str, tuple[str, Command]] = {
    "run": ("Run a workflow on ComfyUI servers, once or for each row of a table.", run),
    "inputs": ("List the inputs of a workflow that can be set.", inputs),
    "score": ("Score folders of pictures by DINO and CLIP.", score),
    "train": ("Train a style adapter on pictures.", train),
    "prepare": ("Encode pictures once, for training.", prepare),
    "adapter": ("Measure an adapter, or pad it for other software.", adapter_command),
}


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns the exit code. Raises SystemExit for --help, --version and unknown arguments."""
    take_any_text()
    parser = argparse.ArgumentParser(
        prog="zsamb",
        description="Z-SAMB from the command line: style-aligned sets of pictures with ComfyUI.",
        epilog="zsamb COMMAND --help says more of one command. Docs: docs/headless.md in the repository.",
    )
    parser.add_argument("--version", action="version", version=f"zsamb {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", title="commands")
    for name, (summary, module) in COMMANDS.items():
        command = commands.add_parser(
            name, help=summary, description=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    options = parser.parse_args(argv)
    if "main" not in options:
        parser.print_help(sys.stderr)
        return WRONG
    code: int = options.main(options)
    return code
