"""Where a loader's models come from: folders as transformers saves them, and files of other formats."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ...zsamb_core.messages import quoted, short
from ...zsamb_core.transformers_folder import Kind
from .folders import files, find, model_folder, model_folders


class Checkpoints(NamedTuple):
    """Single ``.pt`` files in the ``folder`` of this type, what loads one, and where to get such a file."""

    folder: str
    load: Callable[[Path], Any]
    advice: str


class Source(NamedTuple):
    """The models of a ``kind``, and what ``load`` makes of such a folder."""

    kind: Kind
    load: Callable[[Path], Any]
    checkpoints: Checkpoints | None = None

    def listed(self) -> list[str]:
        """The recommended folder, there or not, then what is there."""
        names = model_folders(self.kind.types)
        if self.checkpoints:
            names += [file for file in files(self.checkpoints.folder) if file.endswith(".pt")]
        return list(dict.fromkeys([self.kind.example, *names]))

    def path(self, name: str, node: str) -> Path:
        """Of a folder or a file. Raises ValueError for what is no name, and for what is not there, with where
        it was looked for.
        """
        example = self.kind.example
        if not isinstance(name, str):
            raise ValueError(f"{node}: name is {quoted(name)}, expected text such as {example!r}.")
        if self.checkpoints and name.endswith(".pt"):
            return find(self.checkpoints.folder, name, node, self.checkpoints.advice)
        wanted = short(name) if name.count("/") == 1 else example
        return model_folder(name, node, f"Get {wanted} from huggingface.co/{wanted}: {self.kind.files}.")

    def model(self, name: str, node: str) -> Any:
        """The model of that name. Raises ValueError as `path` does, and for what is no such model."""
        path = self.path(name, node)
        return self.checkpoints.load(path) if self.checkpoints and path.is_file() else self.load(path)
