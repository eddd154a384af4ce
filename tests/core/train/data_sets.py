"""Small sets of pictures in every form, and what can be wrong with a file."""

import io
import json
import tarfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

CAPTIONS = ("a cat", "a house", "a boat", "")


def pixels(i: int, size: tuple[int, int] = (48, 40)) -> np.ndarray:
    """(h, w, 3) of noise that is i's own."""
    return np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3)).astype(np.uint8)


def encoded(i: int, kind: str = "PNG", size: tuple[int, int] = (48, 40)) -> bytes:
    out = io.BytesIO()
    Image.fromarray(pixels(i, size)).save(out, kind)
    return out.getvalue()


def array(i: int, *shape: int, dtype: type = np.float16) -> bytes:
    out = io.BytesIO()
    np.save(out, np.random.default_rng(i).standard_normal(shape).astype(dtype))
    return out.getvalue()


def folder(root: Path, count: int = 8, groups: int = 2) -> Path:
    """``count`` pictures in turn in subfolders g0, g1 ..., of two shapes, each with a caption beside it."""
    for i in range(count):
        place = root / f"g{i % groups}" if groups else root
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{i:03}.png").write_bytes(encoded(i, size=(48, 40) if i % 3 else (80, 40)))
        (place / f"{i:03}.txt").write_text(f"picture {i}")
    return root


def tar(path: Path, members: dict[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as file:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            file.addfile(info, io.BytesIO(data))
    return path


def plain(i: int) -> dict[str, bytes]:
    """Members of a sample with a picture and JSON."""
    said = {"text": f"picture {i}", "group": f"g{i % 2}"}
    return {f"{i:03}.png": encoded(i), f"{i:03}.json": json.dumps(said).encode()}


def cached(i: int, side: int = 8, features: int = 16) -> dict[str, bytes]:
    """Members of a sample with caches and no picture."""
    said = {"caption": f"picture {i}", "style": i % 2, "width": 640, "height": 480, "crop": [0, i]}
    return {
        f"{i:03}.json": json.dumps(said).encode(),
        f"{i:03}.latent.npy": array(i, 4, side, side + 8 * (i % 2)),
        f"{i:03}.embed.npy": array(i, features),
    }


def broken_pictures() -> dict[str, tuple[bytes, str]]:
    """What a picture's file may hold, and a part of the reason that is given."""
    whole = encoded(1)
    large = bytearray(whole)
    large[16:24] = (60_000).to_bytes(4, "big") * 2
    large[29:33] = zlib.crc32(large[12:29]).to_bytes(4, "big")
    return {
        "empty": (b"", "empty"),
        "text": (b"<html>404 not found</html>", "not a picture"),
        "zeros": (bytes(5000), "not a picture"),
        "cut header": (whole[:20], ""),
        "half header": (encoded(1, "JPEG")[:30], ""),
        "bomb": (bytes(large), "pixels"),
    }
