"""Folders as transformers saves models: told by their config, loaded whole, from the disk alone.

transformers is imported when a model is loaded. Nothing is downloaded.
"""

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import torch

from .files.folder_limits import refuse_files, refuse_larger, refuse_numbers, weights_of
from .files.json_file import read_settings
from .messages import quoted, short

VOCABULARIES = ("tokenizer.json", "vocab.json", "vocab.txt", "spiece.model")
# From the disk alone, and none of the code that a folder may bring is run.
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


class Kind(NamedTuple):
    """Models for one job. ``types``: transformers' model types, each with its name for people; ``example``:
    a recommended one on Hugging Face, and the ``files`` to get of it.
    """

    types: Mapping[str, str]
    example: str
    files: str


def type_of(folder: Path, kind: Kind) -> str:
    """The model type, one of the ``kind``'s, of a folder that has weights. Raises ValueError for others."""
    model_type = read_settings(folder, "config.json").get("model_type")
    refuse_files(folder)
    if not isinstance(model_type, str) or model_type not in kind.types:
        raise ValueError(
            f"{folder.name}: config.json names a model of type {quoted(model_type)}, expected"
            f" {'one of ' if len(kind.types) > 1 else ''}{', '.join(kind.types)}"
            f" ({', '.join(kind.types.values())})."
        )
    if not any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", "pytorch_model*.bin")):
        raise ValueError(
            f"{folder.name} has no weights, expected model.safetensors or pytorch_model.bin. Get that file of"
            f" the model, for example of {kind.example} on Hugging Face."
        )
    return model_type


def of_transformers(name: str) -> Any:
    """What transformers has under this name, imported now. Raises ValueError with the cure where that fails:
    it imports torchaudio wherever there is one, and one that was made for another torch breaks it.
    """
    try:
        import transformers

        return getattr(transformers, name)
    except Exception as error:  # whatever the packages that it imports raise
        cure = torchaudio_broken()
        raise ValueError(f"transformers' {name} cannot be imported ({error}).{cure}") from error


def torchaudio_broken() -> str:
    """What to say, and do, where the torchaudio that is installed cannot be imported; "" otherwise."""
    try:
        importlib.import_module("torchaudio")
    except ModuleNotFoundError:
        return ""  # none, which is well
    except Exception as error:
        return (
            f" The installed torchaudio does not fit torch ({error}), and transformers imports it. Install"
            " the one made for this torch; or remove it (python -m pip uninstall torchaudio) where ComfyUI's"
            " requirements.txt no longer names it."
        )
    return ""


@contextmanager
def loading(folder: Path, what: str) -> Iterator[None]:
    """Whatever transformers raises within becomes a ValueError that names the folder."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"{folder.name} cannot be loaded by transformers ({type(error).__name__}:"
            f" {short(error, 400)}), expected a folder as it saves a {what}.{torchaudio_broken()}"
        ) from error


def load_whole(make: Any, folder: Path, what: str, missing_ok: Callable[[str], bool]) -> Any:
    """A transformers class's model in fp32, for evaluation, from safetensors or, unpickled by torch's
    restricted reader, ``pytorch_model.bin``. Raises ValueError for a file that lacks weights other than
    those of which ``missing_ok``: transformers would make them up at random; and for settings that ask for
    more than the weights bear out, before anything is built.
    """
    with loading(folder, what):
        weights = weights_of(folder)
    refuse_numbers(folder, weights)
    with loading(folder, what):
        refuse_larger(folder, make, weights)
        model, info = make.from_pretrained(
            folder,
            dtype=torch.float32,
            weights_only=True,
            use_safetensors=weights.safetensors,
            output_loading_info=True,
            **LOCAL,
        )
    missing = sorted(key for key in info["missing_keys"] if not missing_ok(key))
    if missing:
        raise ValueError(
            f"{folder.name}: the weights lack {len(missing)} tensors ({short(missing[0])} and so on), which"
            " would be random. Expected the whole model; get it again from its source."
        )
    return model.eval()


def load_tokenizer(folder: Path, what: str) -> Any:
    """Raises ValueError for a folder without one: newer transformers makes an empty one then."""
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise ValueError(
            f"{folder.name} has no tokenizer, expected one of {', '.join(VOCABULARIES)}. Get the tokenizer's"
            " files of the model too."
        )
    make = of_transformers("AutoTokenizer")
    with loading(folder, what):
        return make.from_pretrained(folder, **LOCAL)


def load_image_processor(folder: Path, what: str) -> Any:
    """Pictures to pixels as the model's authors do it, resized by PIL, as the models were published:
    torchvision differs by a level here and there.
    """
    version = int(of_transformers("__version__").split(".")[0])
    by_pil: dict[str, Any] = {"backend": "pil"} if version >= 5 else {"use_fast": False}
    make = of_transformers("AutoImageProcessor")
    with loading(folder, what):
        return make.from_pretrained(folder, **by_pil, **LOCAL)
