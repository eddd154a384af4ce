"""IP-Adapter files: every container, what is told from the tensors, what is read, and what is refused."""

import json
import os
import random
import re
import struct

import pytest
import torch
from safetensors.torch import save, save_file

from tests.host.adapters import base_projector, flat, plus_projector, rand
from zsamb_core import ip_adapter_file
from zsamb_core.image_tokens import keys_and_values
from zsamb_core.ip_adapter_file import Projector, finite, open_adapter

WIDTH, FEATURES = 8, 6
LAYERS = {1: 8, 3: 4, 69: 6}


def generator(seed=1):
    return torch.Generator().manual_seed(seed)


def attention(g, layers=LAYERS, width=WIDTH):
    return {f"{n}.to_{p}_ip.weight": rand(g, size, width) for n, size in layers.items() for p in "kv"}


def base(width=WIDTH, tokens=4, features=FEATURES, layers=LAYERS):
    g = generator()
    return {
        "image_proj": base_projector(g, tokens, width, features),
        "ip_adapter": attention(g, layers, width),
    }


def plus(width=WIDTH, tokens=16, features=FEATURES, depth=2, inner=128):
    g = generator()
    projector = plus_projector(g, tokens, width, features, channels=10, inner=inner, depth=depth)
    return {"image_proj": projector, "ip_adapter": attention(g, LAYERS, width)}


MAKERS = {"base": base, "plus": plus}


def as_trained(state):
    """As training checkpoints name them, with the rest of the model beside."""
    names = {"image_proj": "image_proj_model", "ip_adapter": "adapter_modules"}
    tensors = {f"{names[part]}.{name}": t for part, found in state.items() for name, t in found.items()}
    return tensors | {"unet.conv_in.weight": torch.ones(2, 2), "unet.step": torch.tensor(7)}


def zipped(tree, path):
    torch.save(tree, path)


def legacy(tree, path):
    torch.save(tree, path, _use_new_zipfile_serialization=False)


CONTAINERS = {
    "flat safetensors": (".safetensors", lambda state, path: save_file(flat(state), path)),
    "sft in capitals": (".SFT", lambda state, path: save_file(flat(state), path)),
    "trained safetensors": (".safetensors", lambda state, path: save_file(as_trained(state), path)),
    "nested bin": (".bin", zipped),
    "nested legacy pt": (".pt", legacy),
    "nested legacy bin": (".bin", legacy),
    "flat ckpt": (".ckpt", lambda state, path: zipped(flat(state), path)),
    "trained bin": (".bin", lambda state, path: zipped(as_trained(state), path)),
    "bin with more in it": (".bin", lambda state, path: zipped(state | {"step": 3, "names": ["a"]}, path)),
}


def write(tmp_path, state, container="flat safetensors", name="adapter"):
    suffix, writer = CONTAINERS[container]
    path = tmp_path / (name + suffix)
    writer(state, path)
    return path


def read_all(adapter):
    """Everything that an adapter can read; the identity as tokens shows the matrices themselves."""
    return adapter.read_projector(), keys_and_values(
        adapter, torch.eye(adapter.projector.width), list(adapter.layers)
    )


def refused(path, phrase):
    with pytest.raises(ValueError, match=phrase) as caught:
        read_all(open_adapter(path))
    assert path.name in str(caught.value)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("kind", MAKERS)
def test_every_container_is_read_the_same(tmp_path, kind, container):
    state = MAKERS[kind]()
    adapter = open_adapter(write(tmp_path, state, container))
    assert adapter.projector == Projector(
        kind, 4 if kind == "base" else 16, WIDTH, FEATURES, 2 * (kind == "plus")
    )
    assert adapter.layers == LAYERS and list(adapter.layers) == sorted(LAYERS)
    projector, projected = read_all(adapter)
    assert projector.keys() == state["image_proj"].keys()
    for name, tensor in state["image_proj"].items():
        assert torch.equal(projector[name], tensor) and projector[name].dtype == torch.float32
    for n, (k, v) in projected.items():
        assert torch.equal(k, state["ip_adapter"][f"{n}.to_k_ip.weight"].T)
        assert torch.equal(v, state["ip_adapter"][f"{n}.to_v_ip.weight"].T)


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (base(2048, 4, 3), Projector("base", 4, 2048, 3)),
        (base(768, 4, 3), Projector("base", 4, 768, 3)),
        (base(WIDTH, 1, 5), Projector("base", 1, WIDTH, 5)),
        (base(WIDTH, 16, 5), Projector("base", 16, WIDTH, 5)),
        (plus(2048, 16, 3, 4), Projector("plus", 16, 2048, 3, 4)),
        (plus(768, 16, 3, 4), Projector("plus", 16, 768, 3, 4)),
        (plus(WIDTH, 5, 3, 1), Projector("plus", 5, WIDTH, 3, 1)),
    ],
)
def test_tokens_width_features_and_depth_are_told_from_shapes(tmp_path, state, expected):
    adapter = open_adapter(write(tmp_path, state))
    assert adapter.projector == expected and adapter.layers == LAYERS


def test_a_file_of_few_layers_is_an_adapter_too(tmp_path):
    style = {n: 6 for n in range(69, 88, 2)}
    assert open_adapter(write(tmp_path, base(layers=style))).layers == style


@pytest.mark.parametrize(
    ("container", "dtype"),
    [
        (container, dtype)
        for container in ("flat safetensors", "nested bin", "nested legacy pt")
        for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn)
        # torch itself does not load fp8 from its old format with weights_only
        if not (container == "nested legacy pt" and dtype == torch.float8_e4m3fn)
    ],
)
@pytest.mark.parametrize("kind", MAKERS)
def test_every_precision_is_read_as_fp32(tmp_path, kind, container, dtype):
    state = {part: {n: t.to(dtype) for n, t in found.items()} for part, found in MAKERS[kind]().items()}
    projector, projected = read_all(open_adapter(write(tmp_path, state, container)))
    for name, tensor in state["image_proj"].items():
        assert projector[name].dtype == torch.float32 and projector[name].isfinite().all()
        assert torch.equal(projector[name], tensor.float())
    for n, pair in projected.items():
        for p, found in zip("kv", pair, strict=True):
            assert torch.equal(found, state["ip_adapter"][f"{n}.to_{p}_ip.weight"].float().T)


def test_the_name_says_nothing(tmp_path):
    for kind, make in MAKERS.items():
        for name in ("ip-adapter-plus_sdxl_vit-h", "ip-adapter_sd15", "ip-adapter-faceid_sdxl", "x.bin"):
            adapter = open_adapter(write(tmp_path, make(), name=name))
            assert (adapter.projector.kind, adapter.layers) == (kind, LAYERS)
            assert adapter.projector.width == WIDTH


def test_what_is_read_does_not_lie_in_the_file(tmp_path):
    """A mapped .bin may be replaced afterwards, and nobody's change reaches the file."""
    path = write(tmp_path, base(), "nested bin")
    before = path.read_bytes()
    projector = open_adapter(path).read_projector()
    projector["proj.bias"].zero_()
    assert path.read_bytes() == before and open_adapter(path).read_projector()["proj.bias"].any()
    tensor = torch.ones(2)
    assert finite(tensor, path, "x").data_ptr() != tensor.data_ptr()


@pytest.mark.parametrize("container", ["flat safetensors", "trained safetensors", "nested bin"])
@pytest.mark.parametrize("kind", MAKERS)
def test_only_what_is_needed_is_loaded(tmp_path, monkeypatch, kind, container):
    state = MAKERS[kind]()
    path = write(tmp_path, state, container)
    loaded, load = [], ip_adapter_file._Tensor.load

    def counted(tensor):
        loaded.append(tensor.name)
        return load(tensor)

    monkeypatch.setattr(ip_adapter_file._Tensor, "load", counted)
    adapter = open_adapter(path)
    assert loaded == []
    trained = container.startswith("trained")
    adapter.read_projector()
    prefix = "image_proj_model." if trained else "image_proj."
    assert sorted(loaded) == sorted(prefix + name for name in state["image_proj"])
    loaded.clear()
    assert list(keys_and_values(adapter, torch.ones(2, WIDTH), [69, 1])) == [69, 1]
    prefix = "adapter_modules." if trained else "ip_adapter."
    assert loaded == [f"{prefix}{n}.to_{p}_ip.weight" for n in (69, 1) for p in "kv"]
    loaded.clear()
    assert keys_and_values(adapter, torch.ones(2, WIDTH), []) == {} and loaded == []


# Files that are no such file.


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
    found = keys_and_values(open_adapter(tmp_path / "x.bin"), torch.ones(1, WIDTH), [1])
    assert not found[1][0].requires_grad
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


def drop(name):
    return lambda tensors: tensors.pop(name)


def put(name, tensor):
    return lambda tensors: tensors.update({name: tensor})


def turned(name):
    return lambda tensors: tensors.update({name: tensors[name].T.contiguous()})


def only(prefix):
    def change(tensors):
        for name in [n for n in tensors if not n.startswith(prefix)]:
            del tensors[name]

    return change


def lora(tensors):
    tensors.clear()
    tensors["lora_unet_down_blocks_1_attn2_to_k.lora_down.weight"] = torch.ones(4, 8)
    tensors["lora_unet_down_blocks_1_attn2_to_k.alpha"] = torch.tensor(4.0)


def even(tensors):
    for p in "kv":
        tensors[f"ip_adapter.4.to_{p}_ip.weight"] = torch.ones(4, WIDTH)


def no_pairs(tensors):
    only("image_proj.")(tensors)
    tensors["ip_adapter.up.weight"] = torch.ones(2, 2)


def other_width(tensors):
    for n in LAYERS:
        for p in "kv":
            tensors[f"ip_adapter.{n}.to_{p}_ip.weight"] = torch.ones(4, WIDTH + 1)


K, V = "ip_adapter.3.to_k_ip.weight", "ip_adapter.3.to_v_ip.weight"
BROKEN_BASE = {
    "a LoRA": (lora, "is not an IP-Adapter: found lora_unet.*expected tensors image_proj"),
    "no attention": (only("image_proj."), "is not an IP-Adapter"),
    "no projector": (only("ip_adapter."), "is not an IP-Adapter"),
    "no pairs": (no_pairs, "ip_adapter has up.weight, expected pairs"),
    "K without V": (drop(V), "3.to_k_ip.weight is 4 by 8 and ip_adapter.3.to_v_ip.weight missing"),
    "V without K": (drop(K), "3.to_v_ip.weight is 4 by 8 and ip_adapter.3.to_k_ip.weight missing"),
    "K unlike V": (put(K, torch.ones(5, WIDTH)), "is 5 by 8 and .* 4 by 8, expected two of one shape"),
    "K turned": (turned(K), "8 by 4 .*expected two of one shape"),
    "K of one dimension": (put(K, torch.ones(8)), "expected two of one shape"),
    "K without dimension": (put(K, torch.tensor(1.0)), "a single number"),
    "even numbers": (even, "has an even number, expected odd ones"),
    "other token width": (other_width, "4 by 9 .*attention layer's width by 8 as image_proj makes tokens of"),
    "rows no multiple": (
        put("image_proj.proj.weight", torch.ones(4 * WIDTH + 1, FEATURES)),
        "proj.weight is 33 by 6.*norm.weight 8",
    ),
    "no bias": (drop("image_proj.proj.bias"), "image_proj.proj.bias is missing, expected 32"),
    "short bias": (put("image_proj.proj.bias", torch.ones(31)), "image_proj.proj.bias is 31, expected 32"),
    "no norm": (drop("image_proj.norm.weight"), "expected proj.weight and norm.weight"),
    "no norm bias": (drop("image_proj.norm.bias"), "image_proj.norm.bias is missing, expected 8"),
    "no proj": (drop("image_proj.proj.weight"), "expected proj.weight and norm.weight"),
    "empty proj": (put("image_proj.proj.weight", torch.ones(0, 6)), "proj.weight is 0 by 6"),
    "proj of no features": (put("image_proj.proj.weight", torch.ones(32, 0)), "proj.weight is 32 by 0"),
    "empty norm": (put("image_proj.norm.weight", torch.ones(0)), "norm.weight 0"),
    "norm without dimension": (
        put("image_proj.norm.weight", torch.tensor(1.0)),
        "norm.weight a single number",
    ),
    "whole numbers": (put(K, torch.ones(4, WIDTH, dtype=torch.int8)), "3.to_k_ip.weight holds whole numbers"),
    "whole numbers in the projector": (
        put("image_proj.proj.weight", torch.ones(32, 6, dtype=torch.int64)),
        "proj.weight holds whole numbers",
    ),
    "a truth value": (put(K, torch.ones(4, WIDTH, dtype=torch.bool)), "missing|holds whole numbers"),
    "both projectors": (
        put("image_proj_model.proj.weight", torch.ones(32, 6)),
        "both stand for image_proj.proj.weight",
    ),
    "both attentions": (
        put("adapter_modules.3.to_k_ip.weight", torch.ones(4, 8)),
        "both stand for ip_adapter.3.to_k_ip.weight",
    ),
    "FaceID": (
        put("ip_adapter.1.to_q_lora.down.weight", torch.ones(2, 8)),
        "is a FaceID adapter.*not supported",
    ),
    "FaceID plus": (
        put("image_proj.perceiver_resampler.proj_in.weight", torch.ones(2, 8)),
        "is a FaceID adapter",
    ),
    "full face": (put("image_proj.proj.0.weight", torch.ones(2, 8)), "is a FaceID or full-face adapter"),
    "NaN in the projector": (
        put("image_proj.norm.bias", torch.full((8,), torch.nan)),
        "image_proj.norm.bias has values that are not",
    ),
    "inf in the projector": (
        put("image_proj.proj.bias", torch.full((32,), torch.inf)),
        "image_proj.proj.bias has values that are not",
    ),
    "inf in half precision": (
        put("image_proj.proj.bias", torch.full((32,), -torch.inf).half()),
        "image_proj.proj.bias has values",
    ),
    "NaN in a K": (put(K, torch.full((4, 8), torch.nan)), "ip_adapter.3.to_k_ip.weight has values"),
    "inf in a V": (put(V, torch.full((4, 8), torch.inf)), "ip_adapter.3.to_v_ip.weight has values"),
    "NaN in fp8": (
        put(K, torch.full((4, 8), torch.nan).to(torch.float8_e4m3fn)),
        "3.to_k_ip.weight has values",
    ),
}
RESAMPLER = "image_proj.layers."
BROKEN_PLUS = {
    "no latents": (drop("image_proj.latents"), "expected proj.weight and norm.weight .* or latents"),
    "flat latents": (put("image_proj.latents", torch.ones(16, 10)), r"expected a plus adapter's latents"),
    "two latents": (
        put("image_proj.latents", torch.ones(2, 16, 10)),
        "latents is 2 by 16 by 10, expected 1 by 16",
    ),
    "no proj_in": (drop("image_proj.proj_in.weight"), "expected a plus adapter's latents"),
    "no proj_out": (drop("image_proj.proj_out.weight"), "expected a plus adapter's latents"),
    "no norm_out": (drop("image_proj.norm_out.bias"), "image_proj.norm_out.bias is missing, expected 8"),
    "no to_kv": (
        drop(RESAMPLER + "1.0.to_kv.weight"),
        "layers.1.0.to_kv.weight is missing, expected 256 by 10",
    ),
    "no to_q": (drop(RESAMPLER + "0.0.to_q.weight"), "to_q.weight has 0 rows, expected a multiple of 64"),
    "wrong head width": (
        put(RESAMPLER + "0.0.to_q.weight", torch.ones(96, 10)),
        "has 96 rows, expected a multiple",
    ),
    "other to_kv": (
        put(RESAMPLER + "0.0.to_kv.weight", torch.ones(128, 10)),
        "is 128 by 10, expected 256 by 10",
    ),
    "no layers": (
        only(("image_proj.latents", "image_proj.p", "image_proj.n", "ip_adapter.")),
        "has 0 layers",
    ),
    "a layer left out": (
        put(RESAMPLER + "3.0.norm1.weight", torch.ones(10)),
        "layers.2.0.norm1.weight is missing",
    ),
    "hundreds of layers": (
        put(RESAMPLER + "999.0.norm1.weight", torch.ones(10)),
        "has 1000 layers, expected",
    ),
    "other channels": (put("image_proj.proj_out.weight", torch.ones(8, 11)), "is 8 by 11, expected 8 by 10"),
    "NaN": (put("image_proj.latents", torch.full((1, 16, 10), torch.nan)), "image_proj.latents has values"),
}


@pytest.mark.parametrize("writer", ["safetensors", "bin"])
@pytest.mark.parametrize(
    ("make", "case"),
    [(base, case) for case in BROKEN_BASE] + [(plus, case) for case in BROKEN_PLUS],
)
def test_broken_adapters_are_refused(tmp_path, make, case, writer):
    change, phrase = (BROKEN_BASE if make is base else BROKEN_PLUS)[case]
    tensors = flat(make())
    change(tensors)
    path = tmp_path / f"broken.{writer}"
    (save_file if writer == "safetensors" else zipped)(tensors, path)
    refused(path, phrase)


@pytest.mark.parametrize("make", [base, plus])
def test_every_tensor_is_needed_and_in_its_shape(tmp_path, make):
    path = tmp_path / "broken.safetensors"
    for name, tensor in flat(make()).items():
        changes = [drop(name)]
        if name not in ("image_proj.proj.weight", "image_proj.proj_in.weight"):  # any number of features
            changes.append(put(name, tensor[..., :-1].contiguous()))
        if tensor.ndim == 2 and tensor.shape != tensor.T.shape:
            changes.append(turned(name))
        for change in changes:
            tensors = flat(make())
            change(tensors)
            save_file(tensors, path)
            refused(path, "expected")


def test_not_finite_values_are_found_at_reading_only(tmp_path):
    tensors = flat(base())
    tensors[K] = tensors[K].clone()
    tensors[K][2, 3] = torch.nan
    path = tmp_path / "nan.safetensors"
    save_file(tensors, path)
    adapter = open_adapter(path)
    adapter.read_projector()
    assert keys_and_values(adapter, torch.ones(1, WIDTH), [1, 69]).keys() == {1, 69}
    with pytest.raises(
        ValueError, match="nan.safetensors: the tensor ip_adapter.3.to_k_ip.weight has values"
    ):
        keys_and_values(adapter, torch.ones(1, WIDTH), [1, 3])


def test_a_file_that_is_damaged_after_it_was_opened_is_refused(tmp_path):
    for container in ("flat safetensors", "nested bin"):
        path = write(tmp_path, base(), container)
        adapter = open_adapter(path)
        path.unlink()
        with pytest.raises(ValueError, match=f"{path.name} cannot be"):
            adapter.read_projector()
        path.write_bytes(b"another file")
        with pytest.raises(ValueError, match=f"{path.name} cannot be"):
            keys_and_values(adapter, torch.ones(1, WIDTH), [1])


# Random damage.


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
    place = next(i for i, e in enumerate(entries) if e[0] == K)
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
