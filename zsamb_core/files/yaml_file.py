"""YAML that a user writes by hand: small, flat, and without references that make much of little."""

from pathlib import Path
from typing import Any

from .small_file import read_small

MOST = 256 << 10  # bytes
DEPTH = 8  # of lists and mappings within each other


def read_yaml(file: Path) -> Any:
    """Plain values. Raises ValueError for a file that cannot be read, is larger, deeper, or has aliases."""
    import yaml

    class Plain(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        depth = 0

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(yaml.AliasEvent):
                raise ValueError("it has an alias (*name), expected every value written out")
            self.depth += 1
            if self.depth > DEPTH:
                raise ValueError(f"it is more than {DEPTH} levels deep")
            node = super().compose_node(parent, index)
            self.depth -= 1
            return node

    try:
        loader = Plain(read_small(file, MOST).decode("utf-8-sig"))
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except (OSError, yaml.YAMLError, RecursionError, ValueError, TypeError) as error:
        raise ValueError(str(error)) from error
