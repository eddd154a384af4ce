"""Folders of the pack's own files among the host's models."""

from pathlib import Path

import folder_paths


def register(name: str, extensions: tuple[str, ...], saved: bool = False) -> None:
    """A folder type under models/ and, for what the pack saves, under output/. Folders that other packs or
    extra_model_paths named for it stay, and stay first.
    """
    for parent in (folder_paths.models_dir, *([folder_paths.get_output_directory()] if saved else [])):
        folder_paths.add_model_folder_path(name, str(Path(parent) / name))
    paths, known = folder_paths.folder_names_and_paths[name]
    folder_paths.folder_names_and_paths[name] = (paths, {*known, *extensions})


def files(name: str) -> list[str]:
    return folder_paths.get_filename_list(name)


def find(name: str, file: str, node: str, example: str = "") -> Path:
    """Raises ValueError that lists where it was looked for. ``example``: what to get, and from where."""
    path = folder_paths.get_full_path(name, file)
    if path is None:
        places = ", ".join(folder_paths.get_folder_paths(name))
        raise ValueError(
            f"{node}: the file {file!r} was not found, expected it in one of {places}. {example}".rstrip()
        )
    return Path(path)


def place_for(name: str, prefix: str, extension: str) -> tuple[Path, str]:
    """A new file's path under output/, counted up as the host's own save nodes do, and its name there."""
    root = Path(folder_paths.get_output_directory()) / name
    folder, stem, counter, *_ = folder_paths.get_save_image_path(prefix, str(root))
    path = Path(folder) / f"{stem}_{counter:05}_{extension}"
    return path, path.relative_to(root).as_posix()
