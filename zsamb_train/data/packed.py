"""Millions of short texts in two arrays: as Python's own strings they would take three times the memory."""

from collections.abc import Iterable

import numpy as np


class Packed:
    """Texts by number. Half characters, as in file names that are no text, come back as they were."""

    def __init__(self, texts: Iterable[str]) -> None:
        data, ends = bytearray(), [0]
        for text in texts:
            data += text.encode("utf-8", "surrogatepass")
            ends.append(len(data))
        self.data, self.ends = np.frombuffer(bytes(data), np.uint8), np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> str:
        return self.data[self.ends[i] : self.ends[i + 1]].tobytes().decode("utf-8", "surrogatepass")
