"""IP-Adapter files that are cut, mislabelled, made to harm, or damaged at random: one kind of error."""

import json
import os
import random
import re
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from tests.core.instantstyle.adapter_files import (
    LAYERS,
    MAKERS,
    WIDTH,
    base,
    legacy,
    plus,
    read_all,
    refused,
    write,
    zipped,
)
from tests.host.adapters import flat
from zsamb_core.instantstyle.adapter_file import open_adapter
from zsamb_core.instantstyle.image_tokens import keys_and_values

pytestmark = pytest.mark.slow


def test_a_cut_safetensors_is_refused_wherever_it_is_cut(tmp_path):
    whole = save(flat(base()))
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    path = tmp_path / "cut.safetensors"
    for n in {0, 1, 4, 7, 8, 9, header // 2, header - 1, header, header + 1, len(whole) // 2, len(whole) - 1}:
        path.write_bytes(whole[:n])
        refused(path, "cannot be read as safetensors .*cut short")


def test_a_longer_safetensors_is_refused(tmp_path):
    path = tmp_path / "long.safetensors"
    path.write_bytes(save(flat(base())) + b"more")
    refused(path, "cannot be read as safetensors")


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 2**40, 10**8 + 1, 90_000_000])
def test_a_header_of_a_huge_length_is_refused(tmp_path, length):
    path = tmp_path / "huge.safetensors"
    path.write_bytes(struct.pack("<Q", length) + save(flat(base()))[8:])
    refused(path, "cannot be read as safetensors")


@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
@pytest.mark.parametrize(
    "content",
    [
        random.Random(0).randbytes(3000),
        b"\x00" * 100,
        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
        b"<html><body>404</body></html>",
        b"PK\x03\x04",
        b"",
    ],
)
def test_other_bytes_are_refused(tmp_path, content, suffix):
    path = tmp_path / ("other" + suffix)
    path.write_bytes(content)
    refused(path, "cannot be (read|loaded)")


def test_a_wrong_ending_is_refused(tmp_path):
    write(tmp_path, base()).rename(tmp_path / "a.bin")
    refused(tmp_path / "a.bin", "cannot be loaded")
    for container in ("nested bin", "nested legacy bin"):
        path = write(tmp_path, base(), container)
        path.rename(tmp_path / "b.safetensors")
        refused(tmp_path / "b.safetensors", "cannot be read as safetensors .*another format")


@pytest.mark.parametrize("name", ["none.safetensors", "none.bin"])
def test_a_missing_file_and_a_folder_are_refused(tmp_path, name):
    refused(tmp_path / name, "cannot be")
    (tmp_path / name).mkdir()
    refused(tmp_path / name, "cannot be")


@pytest.mark.parametrize("container", ["nested bin", "nested legacy bin"])
def test_a_cut_bin_is_refused_wherever_it_is_cut(tmp_path, container):
    path = write(tmp_path, base(), container)
    whole = path.read_bytes()
    for n in {0, 1, 2, 4, 30, 100, *range(0, len(whole), len(whole) // 12), len(whole) - 1, len(whole) - 40}:
        path.write_bytes(whole[:n])
        refused(path, "cannot be loaded")


class Code:
    """Makes a folder where it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("writer", [zipped, legacy])
@pytest.mark.parametrize("place", ["top", "in image_proj", "beside"])
def test_code_in_a_pickle_is_not_run(tmp_path, writer, place):
    marker, path = tmp_path / "marker", tmp_path / "code.bin"
    state, code = base(), Code(tmp_path / "marker")
    if place == "in image_proj":
        state["image_proj"]["proj.weight"] = code
    writer({"top": code, "beside": state | {"more": code}}.get(place, state), path)
    refused(path, "holds code or objects besides tensors, and nothing in it was run")
    assert not marker.exists()
    torch.load(path, weights_only=False)
    assert marker.exists()  # so it would have


@pytest.mark.parametrize(
    "content", [b"<html><body>Sign in</body></html>", b"version https://git-lfs", b"\x80"]
)
def test_a_page_in_place_of_a_bin_is_not_called_code(tmp_path, content):
    path = tmp_path / "page.bin"
    path.write_bytes(content)
    refused(path, "cannot be loaded: it is cut short or damaged")


def test_tensors_that_are_not_what_they_seem(tmp_path):
    """Few bytes that claim to be many, no bytes at all, gradients, numbers with zeros before them."""
    for fake in (torch.ones(1).expand(10**10, 8), torch.ones(32, 6, device="meta")):
        state = base()
        state["image_proj"]["proj.weight"] = fake
        zipped(state, tmp_path / "x.bin")
        refused(tmp_path / "x.bin", "expected proj.weight and norm.weight")
    state = base()
    state["ip_adapter"] = {n: torch.nn.Parameter(t) for n, t in state["ip_adapter"].items()}
    zipped(state, tmp_path / "x.bin")
    pairs = keys_and_values(open_adapter(tmp_path / "x.bin"), torch.ones(1, WIDTH), [1])
    assert not pairs[1][0].requires_grad
    state = base()
    state["ip_adapter"] |= {f"0{n}": 2 * t for n, t in state["ip_adapter"].items()}
    zipped(state, tmp_path / "x.bin")
    assert open_adapter(tmp_path / "x.bin").layers == LAYERS


@pytest.mark.parametrize("tree", [[base()], 3, None, "text", torch.ones(3), {}, {"image_proj": base()}])
@pytest.mark.parametrize("writer", [zipped, legacy])
def test_a_bin_of_anything_else_is_refused(tmp_path, tree, writer):
    path = tmp_path / "other.bin"
    writer(tree, path)
    refused(path, "is not an IP-Adapter")


# Adapters of other kinds, and broken ones. Each case is what is done to flat tensors, and the message.


def raw_safetensors(entries):
    """As written out by hand: (name, type, shape, bytes), whatever they say; a name may come twice."""
    items, start = [], 0
    for name, kind, shape, data in entries:
        about = {"dtype": kind, "shape": shape, "data_offsets": [start, start + len(data)]}
        items.append(f"{json.dumps(name)}: {json.dumps(about)}")
        start += len(data)
    header = ("{" + ", ".join(items) + "}").encode()
    header += b" " * (-len(header) % 8)
    return struct.pack("<Q", len(header)) + header + b"".join(e[3] for e in entries)


def raw_entries(state):
    return [(n, "F32", list(t.shape), t.numpy().tobytes()) for n, t in flat(state).items()]


def test_types_and_names_that_no_writer_makes(tmp_path):
    path = tmp_path / "raw.safetensors"
    entries = raw_entries(base())
    path.write_bytes(raw_safetensors(entries))
    read_all(open_adapter(path))
    place = next(i for i, e in enumerate(entries) if e[0] == "ip_adapter.3.to_k_ip.weight")
    name, _, shape, data = entries[place]
    for kind in ("I32", "U32", "X32", "f32", "", "F64", "BF16"):
        path.write_bytes(
            raw_safetensors(entries[:place] + [(name, kind, shape, data)] + entries[place + 1 :])
        )
        refused(path, "cannot be read|whole numbers|missing")
    path.write_bytes(raw_safetensors([*entries, entries[place]]))
    refused(path, "cannot be read")


def check(path):
    """Reading succeeds with finite numbers, or there is a ValueError; anything else is an error here."""
    try:
        projector, projected = read_all(open_adapter(path))
    except ValueError as error:
        assert path.name in str(error)
        return False
    assert all(t.isfinite().all() for t in projector.values())
    assert all(t.isfinite().all() for pair in projected.values() for t in pair)
    return True


def flip(rng, content):
    content = bytearray(content)
    for _ in range(rng.choice([1, 1, 3, 30])):
        # Half of them near the beginning, where the structure is.
        place = rng.randrange(min(len(content), rng.choice([8, 1000, len(content)])))
        content[place] = rng.choice([rng.randrange(256), content[place] ^ 1 << rng.randrange(8), 0, 255])
    return bytes(content)


def damaged_names(rng, tensors):
    """One change to the names or shapes of the tensors."""
    name = rng.choice(sorted(tensors))
    tensor = tensors.pop(name)
    other = rng.choice(sorted(tensors))
    number = re.search(r"\d+", name)
    kind = rng.randrange(9)
    if kind == 0:
        return tensors
    if kind == 1:
        renamed = name + rng.choice(["_", ".weight", "x"])
        renamed = (
            name.replace(number[0], str(rng.randrange(9999)), 1) if number and rng.random() < 0.5 else renamed
        )
        return tensors | {renamed: tensor}
    if kind == 2:
        return tensors | {name: tensor.reshape(-1), other: tensors[other].reshape(1, -1)}
    if kind == 3 and tensor.ndim == 2:
        return tensors | {name: tensor.T.contiguous()}
    if kind == 4:
        return tensors | {name: torch.zeros(*tensor.shape[:-1], 0)}
    if kind == 5:
        return tensors | {name: torch.tensor(0.5)}
    if kind == 6:
        return tensors | {name: tensors[other].clone()}
    if kind == 7:
        prefix = {"image_proj": "image_proj_model", "ip_adapter": "adapter_modules"}[name.split(".")[0]]
        return tensors | {name: tensor, prefix + name[name.index(".") :]: tensor.clone()}
    return tensors | {name: tensor.to(rng.choice([torch.int32, torch.bool, torch.complex64, torch.float64]))}


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("suffix", [".safetensors", ".bin", ".pt"])
@pytest.mark.parametrize("kind", MAKERS)
def test_random_damage_is_a_value_error_or_harmless(tmp_path, kind, suffix):
    rng = random.Random(f"{kind} {suffix}")
    state = base() if kind == "base" else plus(tokens=3, depth=1, inner=64)
    path = tmp_path / ("damaged" + suffix)
    writer = {".safetensors": save_file, ".bin": zipped, ".pt": legacy}[suffix]
    writer(flat(state), path)
    whole = path.read_bytes()
    assert check(path)
    outcomes = []
    for i in range(400):
        if i % 3 == 0:
            path.write_bytes(flip(rng, whole))
        elif i % 3 == 1 and i % 4 == 0:
            path.write_bytes(whole[: rng.randrange(len(whole))])
        else:
            writer(damaged_names(rng, flat(state)), path)
        outcomes.append(check(path))
    assert {True, False} == set(outcomes)
