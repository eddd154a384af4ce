"""IP-Adapter files: what a file holds, told from its tensors' names and shapes and never from its name, and
reading only the tensors that are wanted.

Formats (h94/IP-Adapter and descendants): safetensors with ``image_proj.*`` and ``ip_adapter.*``; pickled
``.bin`` with the two as nested dicts; ``image_proj_model.*`` and ``adapter_modules.*`` as training writes
them. An attention layer's number is its place among diffusers' attention processors (down, up, middle), where
self-attention has the even numbers: see `adapter_blocks.adapter_keys`.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError

from ..files import safetensors_file
from ..messages import short

PREFIXES = {
    "image_proj.": "image_proj.",
    "image_proj_model.": "image_proj.",
    "ip_adapter.": "ip_adapter.",
    "adapter_modules.": "ip_adapter.",
}
EXTENSIONS = (".safetensors", ".sft", ".bin", ".pt", ".pth", ".ckpt")
HEAD_WIDTH = 64  # of every published Resampler


class Projector(NamedTuple):
    """How an adapter makes tokens from an image encoder's output.

    ``kind``: "base" (one linear layer on the pooled, projected embedding) or "plus" (a Resampler on the
    penultimate hidden states); ``tokens`` of ``width``, from ``features`` channels; ``depth`` of a Resampler.
    """

    kind: str
    tokens: int
    width: int
    features: int
    depth: int = 0


@dataclass(frozen=True)
class Adapter:
    """An IP-Adapter file, opened: what it holds, not the tensors themselves.

    ``stored``: the file's own name of each tensor; ``shapes`` by our name; ``layers``: the width of each
    attention layer by its number.
    """

    path: Path
    stored: Mapping[str, str]
    shapes: Mapping[str, tuple[int, ...]]
    projector: Projector
    layers: Mapping[int, int]

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
        """The named tensors, one at a time, as stored. Raises ValueError where the file cannot be read."""
        with open_tensors(self.path) as tensors:
            for name in names:
                tensor = tensors.get(self.stored[name])
                if tensor is None or tensor.shape != self.shapes[name]:
                    raise ValueError(
                        f"{self.path.name}: the tensor {short(name)} is not what it was when the file was"
                        " opened. Run Load IP-Adapter again."
                    )
                yield name, self._loaded(name, tensor)

    def _loaded(self, name: str, tensor: "_Tensor") -> torch.Tensor:
        try:
            return tensor.load()
        except (SafetensorError, AttributeError, TypeError, RuntimeError) as error:
            raise ValueError(
                f"{self.path.name}: the tensor {short(name)} is in a number format that cannot be read here"
                f" ({short(error)}), expected floating point of 8 to 64 bits. Get the fp16 file."
            ) from error

    def read_projector(self) -> dict[str, torch.Tensor]:
        """The projector's tensors in fp32, by their names without ``image_proj.``. Raises ValueError for
        values that are not finite.
        """
        names = [name for name in self.shapes if name.startswith("image_proj.")]
        return {
            name.removeprefix("image_proj."): finite(tensor, self.path, name)
            for name, tensor in self.read(names)
        }


def finite(tensor: torch.Tensor, path: Path, name: str) -> torch.Tensor:
    """``tensor`` in fp32. Raises ValueError for NaN and infinity."""
    # A copy even of fp32: where a tensor lies in a mapped file decides its alignment, and that the rounding.
    try:
        tensor = tensor.detach().to(torch.float32, copy=True)
    except RuntimeError as error:
        raise ValueError(
            f"{path.name}: the tensor {short(name)} is {tensor.dtype}, which PyTorch cannot turn into fp32,"
            " expected floating point of 8 to 64 bits."
        ) from error
    if not bool(tensor.isfinite().all()):
        raise ValueError(
            f"{path.name}: the tensor {short(name)} has values that are not numbers (NaN or infinite),"
            " expected finite ones. The file is damaged or was trained to nothing; get it again from its"
            " source."
        )
    return tensor


def open_adapter(path: str | Path) -> Adapter:
    """What the file at ``path`` holds. Raises ValueError, naming the file, what was found and what was
    expected, for anything that is not a supported IP-Adapter.
    """
    path = Path(path)
    with open_tensors(path) as tensors:
        headers = {name: (tensor.shape, tensor.floating) for name, tensor in tensors.items()}
    stored: dict[str, str] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (shape, floating) in headers.items():
        prefix = next((p for p in PREFIXES if name.startswith(p)), None)
        if prefix is None:
            continue  # a training checkpoint carries the UNet too
        ours = PREFIXES[prefix] + name.removeprefix(prefix)
        if ours in stored:
            raise ValueError(
                f"{path.name}: {short(stored[ours])} and {short(name)} both stand for {short(ours)}, expected"
                " one of them. The file mixes two formats."
            )
        if not floating:
            raise ValueError(
                f"{path.name}: the tensor {short(name)} holds whole numbers, expected floating point."
                " Quantised adapters are not supported; use the fp16 file."
            )
        stored[ours], shapes[ours] = name, shape
    projection = {n.removeprefix("image_proj."): s for n, s in shapes.items() if n.startswith("image_proj.")}
    attention = {n.removeprefix("ip_adapter."): s for n, s in shapes.items() if n.startswith("ip_adapter.")}
    if not projection or not attention:
        some = ", ".join(short(name) for name in sorted(headers)[:3]) or "no tensor"
        raise ValueError(
            f"{path.name} is not an IP-Adapter: found {some} and so on, expected tensors image_proj.* and"
            " ip_adapter.* (or image_proj_model.* and adapter_modules.*). SDXL's are in"
            " huggingface.co/h94/IP-Adapter under sdxl_models, for example ip-adapter_sdxl_vit-h.safetensors."
        )
    refuse_faces(path, projection, attention)
    projector = find_projector(path, projection)
    return Adapter(path, stored, shapes, projector, find_layers(path, attention, projector.width))


def written_about(path: Path) -> dict[str, str]:
    """What the file's metadata says of it: ``blocks`` where only some are in it, and of an adapter of ``zsamb
    train`` its ``steps`` and ``pairs``. Of other files nothing. The texts are the file's own, cut short.
    """
    if path.suffix.lower() not in (".safetensors", ".sft"):
        return {}
    with safetensors_file.opened(path) as file:
        told = file.metadata() or {}
    return {name: short(told[name]) for name in ("blocks", "steps", "pairs") if name in told}


def refuse_faces(path: Path, projection: Iterable[str], attention: Iterable[str]) -> None:
    """Raises ValueError for the face formats, which need other inputs than an image encoder gives."""
    kind = None
    if any("_lora." in name for name in attention) or "perceiver_resampler.proj_in.weight" in projection:
        kind = "a FaceID adapter, made from face recognition"
    elif "proj.0.weight" in projection:
        kind = "a FaceID or full-face adapter"
    if kind:
        raise ValueError(
            f"{path.name} is {kind}, expected a base, plus or plus-face adapter. Those carry a person, not a"
            " style, and are not supported."
        )


def find_projector(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Projector:
    """The projector that the shapes under ``image_proj`` are of."""
    if "latents" in shapes:
        return find_resampler(path, shapes)
    weight, norm = shapes.get("proj.weight"), shapes.get("norm.weight")
    if weight is None or norm is None:
        raise ValueError(
            f"{path.name}: image_proj has {_listed(shapes)}, expected proj.weight and norm.weight (a base"
            " adapter) or latents and so on (a plus adapter)."
        )
    if len(weight) != 2 or len(norm) != 1 or 0 in (*weight, *norm) or weight[0] % norm[0]:
        raise ValueError(
            f"{path.name}: image_proj.proj.weight is {_by(weight)} and image_proj.norm.weight {_by(norm)},"
            " expected tokens * width by features, and width (8192 by 1280 and 2048 for SDXL)."
        )
    projector = Projector("base", weight[0] // norm[0], norm[0], weight[1])
    expect(path, shapes, base_shapes(projector))
    return projector


def find_resampler(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> Projector:
    """The Resampler of a plus adapter."""
    latents, proj_in, proj_out = (shapes.get(n) for n in ("latents", "proj_in.weight", "proj_out.weight"))
    if (
        latents is None
        or proj_in is None
        or proj_out is None
        or any(len(shape) != n or 0 in shape for shape, n in ((latents, 3), (proj_in, 2), (proj_out, 2)))
    ):
        raise ValueError(
            f"{path.name}: image_proj has {_listed(shapes)}, expected a plus adapter's latents (1, tokens,"
            " channels), proj_in.weight and proj_out.weight."
        )
    depth = 1 + max((int(m[1]) for m in (re.match(r"layers\.(\d+)\.", n) for n in shapes) if m), default=-1)
    if not 1 <= depth <= 64:
        raise ValueError(f"{path.name}: image_proj has {depth} layers, expected a Resampler's 4.")
    projector = Projector("plus", latents[1], proj_out[0], proj_in[1], depth)
    inner = (shapes.get("layers.0.0.to_q.weight") or (0,))[0]
    if inner == 0 or inner % HEAD_WIDTH:
        raise ValueError(
            f"{path.name}: image_proj.layers.0.0.to_q.weight has {inner} rows, expected a multiple of"
            f" {HEAD_WIDTH}, the width of a head."
        )
    hidden = (shapes.get("layers.0.1.1.weight") or (0,))[0]
    expect(path, shapes, resampler_shapes(projector, latents[2], inner, hidden))
    return projector


def base_shapes(projector: Projector) -> dict[str, tuple[int, ...]]:
    rows = projector.tokens * projector.width
    return {
        "proj.weight": (rows, projector.features),
        "proj.bias": (rows,),
        "norm.weight": (projector.width,),
        "norm.bias": (projector.width,),
    }


def resampler_shapes(
    projector: Projector, channels: int, inner: int, hidden: int
) -> dict[str, tuple[int, ...]]:
    expected: dict[str, tuple[int, ...]] = {
        "latents": (1, projector.tokens, channels),
        "proj_in.weight": (channels, projector.features),
        "proj_in.bias": (channels,),
        "proj_out.weight": (projector.width, channels),
        "proj_out.bias": (projector.width,),
        "norm_out.weight": (projector.width,),
        "norm_out.bias": (projector.width,),
    }
    for i in range(projector.depth):
        for norm in ("0.norm1", "0.norm2", "1.0"):
            expected[f"layers.{i}.{norm}.weight"] = expected[f"layers.{i}.{norm}.bias"] = (channels,)
        expected[f"layers.{i}.0.to_q.weight"] = (inner, channels)
        expected[f"layers.{i}.0.to_kv.weight"] = (2 * inner, channels)
        expected[f"layers.{i}.0.to_out.weight"] = (channels, inner)
        expected[f"layers.{i}.1.1.weight"] = (hidden, channels)
        expected[f"layers.{i}.1.3.weight"] = (channels, hidden)
    return expected


def expect(
    path: Path, shapes: Mapping[str, tuple[int, ...]], expected: Mapping[str, tuple[int, ...]]
) -> None:
    """Raises ValueError for the first tensor of the projector that is missing or of another shape."""
    for name, shape in expected.items():
        if shapes.get(name) != shape:
            what = _by(shapes[name]) if name in shapes else "missing"
            raise ValueError(f"{path.name}: image_proj.{name} is {what}, expected {_by(shape)}.")


def find_layers(path: Path, shapes: Mapping[str, tuple[int, ...]], width: int) -> dict[int, int]:
    """The width of each attention layer, by its number."""
    layers: dict[int, int] = {}
    for name, shape in shapes.items():
        match = re.fullmatch(r"(0|[1-9][0-9]{0,3})\.to_([kv])_ip\.weight", name)
        if match is None:
            continue
        other = f"{match[1]}.to_{'v' if match[2] == 'k' else 'k'}_ip.weight"
        if shapes.get(other) != shape or len(shape) != 2 or shape[0] == 0 or shape[1] != width:
            what = _by(shapes[other]) if other in shapes else "missing"
            raise ValueError(
                f"{path.name}: ip_adapter.{name} is {_by(shape)} and ip_adapter.{other} {what}, expected two"
                f" of one shape, the attention layer's width by {width} as image_proj makes tokens of."
            )
        if int(match[1]) % 2 == 0:
            raise ValueError(
                f"{path.name}: ip_adapter.{name} has an even number, expected odd ones: cross-attention"
                " stands second in every block."
            )
        layers[int(match[1])] = shape[0]
    if not layers:
        raise ValueError(
            f"{path.name}: ip_adapter has {_listed(shapes)}, expected pairs such as 69.to_k_ip.weight and"
            " 69.to_v_ip.weight."
        )
    return dict(sorted(layers.items()))


class _Tensor(NamedTuple):
    """A tensor in an open file: its shape, and how to get it."""

    shape: tuple[int, ...]
    floating: bool
    file: object
    name: str

    def load(self) -> torch.Tensor:
        if isinstance(self.file, dict):
            tensor = self.file[self.name]
            assert isinstance(tensor, torch.Tensor)
            return tensor
        return self.file.get_tensor(self.name)  # type: ignore[attr-defined, no-any-return]


@contextmanager
def open_tensors(path: Path) -> Iterator[dict[str, _Tensor]]:
    """The tensors of a safetensors or pickled file by their names, nested names joined by dots; none is read
    before its ``load``. Pickles are loaded with ``weights_only``: nothing in them is run. Raises ValueError
    for a file that cannot be read.
    """
    if path.suffix.lower() in (".safetensors", ".sft"):
        with safetensors_file.opened(path) as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            yield {
                name: _Tensor(
                    tuple(s.get_shape()), s.get_dtype()[:1] in "FB" and s.get_dtype() != "BOOL", file, name
                )
                for name, s in slices.items()
            }
    else:
        from ..files import torch_file

        flat: dict[str, torch.Tensor] = {}
        tree = torch_file.load(path, mapped=True)
        with torch_file.reading(path):
            tensors = [(name, tensor) for name, tensor in torch_file.flat(tree) if torch_file.whole(tensor)]
        for name, tensor in tensors:
            if name in flat:
                raise ValueError(f"{path.name} has the tensor {short(name)} twice, expected it once.")
            flat[name] = tensor
        yield {
            name: _Tensor(tuple(tensor.shape), tensor.is_floating_point(), flat, name)
            for name, tensor in flat.items()
        }


def _by(shape: tuple[int, ...]) -> str:
    return short(" by ".join(str(n) for n in shape)) or "a single number"


def _listed(names: Iterable[str]) -> str:
    names = sorted(names)
    return (
        ", ".join(short(name) for name in names[:3]) + (" and so on" if len(names) > 3 else "")
        if names
        else "nothing"
    )
