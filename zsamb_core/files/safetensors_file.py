"""safetensors files, opened once it is known that their list of tensors is no larger than a model's."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..messages import short

HEADER = 16 << 20  # bytes; that of an SDXL checkpoint's 2,500 tensors has 0.3 MB
NAMES = 100_000
# What a file of another content than was meant makes Python raise.
WRONG_CONTENT = (
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    ValueError,
    RuntimeError,  # RecursionError and NotImplementedError too
)


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """safetensors' own handle; no tensor is read before it is asked for. Raises ValueError, for errors
    within too, that names the file and says what to do.
    """
    try:
        with path.open("rb") as file:
            length = file.read(8)
        if len(length) == 8 and (size := struct.unpack("<Q", length)[0]) > HEADER:
            raise OSError(f"its list of tensors is said to have {size:,} bytes")
        with safe_open(path, framework="pt") as tensors:
            if (count := len(tensors.keys())) > NAMES:
                raise OSError(f"it has {count:,} tensors")
            yield tensors
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} cannot be read as safetensors ({short(error)}). It is cut short, damaged, or"
            " another format under this name; get it again from its source."
        ) from error
