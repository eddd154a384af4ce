"""The user's own files for the pack, in ComfyUI's user folder, where no web request reaches them."""

from pathlib import Path

import folder_paths


def user_file(name: str) -> Path:
    """The file's path, there or not."""
    return Path(folder_paths.get_system_user_directory("zsamb")) / name
