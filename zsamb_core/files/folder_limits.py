"""What a transformers folder may ask for, told before transformers reads it: it believes every number.

A config is compared with the weights beside it: a model has as many numbers as its weights, and no dimension
that they lack. What no weight tells, such as a picture's size, has a bound that no published model is near.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..messages import short
from . import safetensors_file
from .json_file import read_settings

# Bytes; the largest published are a tokenizer.json of 17 MB and a config.json of 2 MB.
TEXTS = {"tokenizer.json", "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model"}
TEXT, SETTINGS = 64 << 20, 8 << 20
LAYERS = 512
ANY = 65_536  # for a number in a config that no weight is as large as
# In config.json and generation_config.json, what no weight tells.
BOUNDS = {
    "image_size": 2_048, "spec_size": 2_048, "num_beams": 64, "num_beam_groups": 64,
    "num_return_sequences": 64,
}  # fmt: skip
# In preprocessor_config.json: of sounds, and of pictures, whose numbers are sides and the like.
SAMPLES, PICTURE = 10_000_000, 2_048
SOUND = {
    "sampling_rate": 400_000, "n_fft": 16_384, "fft_window_size": 16_384, "nb_frequency_bins": 16_384,
    "feature_size": 1_024, "hop_length": 16_384, "chunk_length": 60, "chunk_length_s": 60, "max_length_s": 60,
}  # fmt: skip
FRAMES = 20_000  # of a window of sound; Whisper has 3,000, CLAP 1,000


class Weights(NamedTuple):
    """What the files with a folder's weights hold: ``tensors``, ``numbers`` in them, and their ``widest``
    dimension. ``safetensors``: which of the two formats it is.
    """

    tensors: int
    numbers: int
    widest: int
    safetensors: bool


def refuse_files(folder: Path) -> None:
    """Raises ValueError for a text or settings file of a size that none has."""
    for file in sorted(folder.iterdir()) if folder.is_dir() else []:
        if file.suffix in (".json", ".txt", ".model") and file.is_file():
            most = TEXT if file.name in TEXTS else SETTINGS
            if (size := file.stat().st_size) > most:
                raise ValueError(
                    f"{folder.name}: {file.name} has {size / 1e6:,.0f} MB, expected {most >> 20} at most. Get"
                    " it again from its source."
                )


def weights_of(folder: Path) -> Weights:
    """Of the files that transformers would read. Raises ValueError for files that cannot be read, and for
    tensors that are larger than the file.
    """
    files, safe = weight_files(folder)
    shapes = [shape for file in files for shape in (_safe(file) if safe else _pickled(file))]
    widest = max((n for shape in shapes for n in shape), default=0)
    return Weights(len(shapes), sum(map(math.prod, shapes)), widest, safe)


def weight_files(folder: Path) -> tuple[list[Path], bool]:
    """(the files with weights that transformers would read, whether they are safetensors). Raises ValueError
    for a folder without any.
    """
    for name, safe in (("model.safetensors", True), ("pytorch_model.bin", False)):
        if (folder / name).is_file():
            return [folder / name], safe
        if (folder / f"{name}.index.json").is_file():
            return _parts(folder, f"{name}.index.json"), safe
    raise ValueError(
        f"{folder.name} has no weights, expected model.safetensors or pytorch_model.bin. Get that file of the"
        " model."
    )


def _parts(folder: Path, index: str) -> list[Path]:
    names = read_settings(folder, index).get("weight_map")
    values = set(names.values()) if isinstance(names, dict) and _all_text(names.values()) else set()
    if not values or any(Path(name).name != name or not (folder / name).is_file() for name in values):
        raise ValueError(
            f"{folder.name}: {index} names {short(sorted(values))}, expected files of this folder. Get them"
            " all from the model's source."
        )
    return [folder / name for name in sorted(values)]


def _all_text(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _safe(file: Path) -> list[tuple[int, ...]]:
    with safetensors_file.opened(file) as tensors:
        return [tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()]  # noqa: SIM118


def _pickled(file: Path) -> list[tuple[int, ...]]:
    from . import torch_file
    from .pickle_calls import Oversized

    tree = torch_file.described(file)
    with torch_file.reading(file):
        tensors = [tensor for _, tensor in torch_file.flat(tree)]
        if not all(tensor.whole for tensor in tensors):
            raise Oversized("a few numbers are said to be many")
        return [tensor.shape for tensor in tensors]


def refuse_numbers(folder: Path, weights: Weights) -> None:
    """Raises ValueError for a number in the folder's settings that its weights do not bear out."""
    for file in ("config.json", "generation_config.json"):
        if not (folder / file).is_file():
            continue
        for key, value in _values(read_settings(folder, file)):
            if isinstance(value, str):
                # transformers would get such a kernel from the network, and run it.
                if key.endswith("attn_implementation") and "/" in value:
                    _refuse(folder, file, key, value, "one that comes with transformers")
            elif "layers" in key or key == "depths":
                most = min(LAYERS, weights.tensors)
                _refuse_more(folder, file, key, value, most, f", as there are {weights.tensors} tensors")
            else:
                most = BOUNDS.get(key, max(ANY, weights.widest))
                _refuse_more(folder, file, key, value, most)
    for file in ("preprocessor_config.json", "processor_config.json"):
        if (folder / file).is_file():
            _refuse_preparation(folder, file)


def _refuse_preparation(folder: Path, file: str) -> None:
    settings = read_settings(folder, file)
    sound = {key: value for key, value in _values(settings) if not isinstance(value, str)}
    other = SAMPLES if "sampling_rate" in sound else PICTURE
    for key, value in _values(settings):
        if not isinstance(value, str):
            _refuse_more(folder, file, key, value, SOUND.get(key, other))
    hop, rate = sound.get("hop_length"), sound.get("sampling_rate", 0)
    if hop is not None:
        seconds = max(sound.get(key, 0) for key in ("chunk_length", "chunk_length_s", "max_length_s"))
        samples = max(seconds * rate, sound.get("n_samples", 0), sound.get("nb_max_samples", 0))
        if hop < 1 or samples / hop > FRAMES:
            _refuse(folder, file, "hop_length", hop, f"{FRAMES:,} steps at most in {samples:,.0f} samples")


def _refuse_more(folder: Path, file: str, key: str, value: float, most: int, why: str = "") -> None:
    if not abs(value) <= most:  # NaN too
        _refuse(folder, file, key, value, f"{most:,} at most{why}")


def _refuse(folder: Path, file: str, key: str, value: object, expected: str) -> None:
    raise ValueError(
        f"{folder.name}: in {file} {short(key)} is {short(value)}, expected {expected}. Get the file again"
        " from its source."
    )


def _values(tree: Any) -> Iterator[tuple[str, Any]]:
    """(key, number or text) of all in a JSON object; those in a list by the list's key."""
    waiting: list[tuple[str, Any]] = [("", tree)]
    while waiting:
        key, content = waiting.pop()
        if isinstance(content, dict):
            # A size such as {"height": 224} is one of pictures, whatever its name.
            waiting += content.items()
        elif isinstance(content, list):
            waiting += ((key, value) for value in content)
        elif isinstance(content, (int, float, str)) and not isinstance(content, bool):
            yield key, content


def refuse_larger(folder: Path, make: Any, weights: Weights) -> None:
    """Raises ValueError where the config asks for a model of many more numbers than there are weights: it is
    built without any memory of its own, and counted. Tied weights may be counted several times.
    """
    import transformers

    auto = make is transformers.AutoModel
    config = (transformers.AutoConfig if auto else make.config_class).from_pretrained(
        folder, local_files_only=True, **({"trust_remote_code": False} if auto else {})
    )
    with torch.device("meta"):
        model = make.from_config(config) if auto else make(config)
    count = sum(p.numel() for p in model.parameters())
    if count > 3 * weights.numbers + 1_000_000:
        raise ValueError(
            f"config.json asks for a model of {count:,} numbers, and the weights have {weights.numbers:,}"
        )
