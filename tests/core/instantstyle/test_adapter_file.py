"""IP-Adapter files: every container, what is told from the tensors, and what is read."""

import pytest
import torch

from tests.core.instantstyle.adapter_files import (
    CONTAINERS,
    FEATURES,
    LAYERS,
    MAKERS,
    WIDTH,
    base,
    plus,
    read_all,
    write,
)
from zsamb_core.instantstyle import adapter_file as ip_adapter_file
from zsamb_core.instantstyle.adapter_file import Projector, finite, open_adapter
from zsamb_core.instantstyle.image_tokens import keys_and_values


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
    state = {part: {n: t.to(dtype) for n, t in weights.items()} for part, weights in MAKERS[kind]().items()}
    projector, projected = read_all(open_adapter(write(tmp_path, state, container)))
    for name, tensor in state["image_proj"].items():
        assert projector[name].dtype == torch.float32 and projector[name].isfinite().all()
        assert torch.equal(projector[name], tensor.float())
    for n, pair in projected.items():
        for p, matrix in zip("kv", pair, strict=True):
            assert torch.equal(matrix, state["ip_adapter"][f"{n}.to_{p}_ip.weight"].float().T)


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
