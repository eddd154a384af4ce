"""Sets in Parquet files, by Hugging Face datasets: rows by number out of its memory-mapped copy."""

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from zsamb_core.messages import short
from zsamb_core.packages import require_packages

from .pictures import read_rgb, size_of
from .sample import Sample
from .shards import caption_of

IMAGES = ("image", "img", "picture", "jpg", "png", "webp")
TEXTS, GROUPS = ("text", "caption"), ("group", "style")


class Table:
    """A `Source` of Parquet's rows: a column ``image`` of bytes or {"bytes", "path"}, and ``text``."""

    cached, pictured = False, True
    latent_sizes: np.ndarray | None = None

    def __init__(self, paths: list[Path], cache: Path | None = None) -> None:
        """``cache``: where datasets keeps its copy, which is as large as the set; else where it always does.
        Raises Lacking without datasets, and ValueError for columns that are not there or no row left.
        """
        require_packages("datasets", extra="train")
        import datasets

        self.folder = paths[0].parent
        what = f"{self.folder}: its {len(paths)} Parquet files"
        try:
            table: Any = datasets.Dataset.from_parquet(
                list(map(str, paths)), cache_dir=None if cache is None else str(cache)
            )
        except Exception as error:  # pyarrow's own errors, and those of datasets about them
            raise ValueError(f"{what} cannot be read ({short(str(error.__cause__ or error))}).") from error
        columns = table.column_names
        self.image, self.text, self.group = (
            next((name for name in names if name in columns), "") for names in (IMAGES, TEXTS, GROUPS)
        )
        if not self.image or not self.text:
            raise ValueError(
                f"{what} have the columns {short(', '.join(columns))}, expected image and text. Rename them."
            )
        if isinstance(table.features[self.image], datasets.Image):
            table = table.cast_column(self.image, datasets.Image(decode=False))
        self.table = table.select_columns([name for name in (self.image, self.text, self.group) if name])
        self.skipped: list[str] = []
        self.notes: list[str] = []
        self._look(what, paths)

    def _look(self, what: str, paths: list[Path]) -> None:
        """At each row's beginning of a picture."""
        names: dict[str, int] = {}
        kept, sizes, groups, empty, total = (
            list[int](),
            list[tuple[int, int]](),
            list[int](),
            0,
            hashlib.sha256(),
        )
        for row, fields in enumerate(self.table):
            try:
                size, caption = size_of(self._file(fields)), caption_of({"text": fields[self.text]})
            except ValueError as error:
                self.skipped.append(f"row {row}: {error}")
                continue
            group = self._group(fields)
            kept.append(row)
            sizes.append(size)
            groups.append(names.setdefault(group, len(names)) if group else -1)
            empty += not caption
            total.update(f"{row}\0{caption}\0{group}\0{size}\n".encode("utf-8", "surrogatepass"))
        if not kept:
            raise ValueError(
                f"{what} have no picture that can be used. The first reason: {self.skipped[:1]}."
            )
        self.kept, self.sizes, self.groups = (
            np.array(kept),
            np.array(sizes, np.int32),
            np.array(groups, np.int32),
        )
        self.group_names, self.digest = [*names], total.hexdigest()
        if empty:
            self.notes.append(f"{empty} of {len(kept)} pictures have no caption: theirs is empty")

    def __len__(self) -> int:
        return len(self.kept)

    def read(self, i: int, *, picture: bool = True, latent: bool = True) -> Sample:
        row, (width, height) = int(self.kept[i]), map(int, self.sizes[i])
        fields = self.table[row]
        try:
            shown = read_rgb(self._file(fields)) if picture else None
            caption = caption_of({"text": fields[self.text]})
        except ValueError as error:
            raise ValueError(f"row {row}: {error}") from error
        return Sample(f"row {row}", caption, shown, None, None, shown.size if shown else (width, height))

    def _file(self, fields: dict[str, Any]) -> Any:
        """A row's picture, as a file to read. Raises ValueError."""
        found = fields[self.image]
        data, path = (found.get("bytes"), found.get("path")) if isinstance(found, dict) else (found, None)
        if isinstance(data, bytes) and data:
            return io.BytesIO(data)
        if isinstance(path, str) and path:
            return self.folder / path
        raise ValueError(f"its {self.image} is {short(found)}, expected bytes")

    def _group(self, fields: dict[str, Any]) -> str:
        if not self.group or fields[self.group] is None:
            return ""
        feature, value = self.table.features[self.group], fields[self.group]
        return short(feature.int2str(value) if hasattr(feature, "int2str") and value >= 0 else value)
