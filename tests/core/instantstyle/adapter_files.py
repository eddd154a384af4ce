"""Small IP-Adapters in every container, for the tests of their files."""

import pytest
import torch
from safetensors.torch import save_file

from tests.host.adapters import base_projector, flat, plus_projector, rand
from zsamb_core.instantstyle.adapter_file import open_adapter
from zsamb_core.instantstyle.image_tokens import keys_and_values

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
    tensors = {f"{names[part]}.{name}": t for part, weights in state.items() for name, t in weights.items()}
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
