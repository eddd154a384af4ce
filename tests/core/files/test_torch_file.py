"""What torch.save writes, told without reading it, and read as torch.load reads it."""

import io
from collections import Counter

import numpy as np
import pytest
import torch

from tests.core.files import hostile_pickles as pickles
from zsamb_core.context.laion_clap import read_state, roberta_shape
from zsamb_core.context.openai_whisper import refuse_dims
from zsamb_core.files import torch_file
from zsamb_core.files.pickle_scan import Foreign, Oversized, scan


def attributed():
    """A parameter with an attribute of its own, which goes by another function."""
    parameter = torch.nn.Parameter(torch.rand(2, 3))
    parameter.tag = "x"
    return parameter


def model():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LayerNorm(4), torch.nn.Embedding(5, 4))


def trained():
    """As trainings write them: weights, what an optimizer keeps, and this and that."""
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    net[1](net[0](torch.rand(2, 3))).sum().backward()
    optimizer.step()
    return {"state_dict": net.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 3, "best": 0.25,
            "names": ["a", ("b", None)], "seen": Counter(a=2), "device": torch.device("cpu"), "flag": True,
            "large": 2**70, "set": {1, "a"}, "size": torch.Size([2, 3]), "dtype": torch.float16}  # fmt: skip


FORMATS = (
    torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.uint8, torch.bool,
    torch.complex64,
)  # fmt: skip
NEWER = (torch.float8_e4m3fn, torch.float8_e5m2, torch.uint16, torch.uint32)
TREES = {
    "a state dict": lambda: model().state_dict(),
    "a training": trained,
    "parameters": lambda: dict(model().named_parameters()),
    "an attribute": lambda: {"x": attributed()},
    "tied": lambda: dict.fromkeys("abcd", torch.rand(3, 4)),
    "views": lambda: {"a": torch.rand(6, 8)[::2, 1:5], "b": torch.rand(4, 5).T, "c": torch.rand(4)[2:2]},
    "no dimension": lambda: {"a": torch.tensor(3.0), "b": torch.zeros(0, 4)},
    "formats": lambda: {str(d): torch.ones(3, 2).to(d) for d in FORMATS},
    "newer formats": lambda: {str(d): torch.ones(3, 2).to(d) for d in NEWER},
    "a list": lambda: [torch.ones(2), {"x": torch.ones(3)}],
    "a long one": lambda: {f"layer.{i}.weight": torch.ones(2) for i in range(2_000)},
}  # fmt: skip


def content(tensor):
    """As bytes: some formats cannot be compared."""
    return tensor.detach().clone(memory_format=torch.contiguous_format).reshape(-1).view(torch.uint8).tolist()


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind, older",
    # PyTorch cannot read the newer formats from the older kind of file.
    [(kind, older) for kind in TREES for older in (False, True) if not older or kind != "newer formats"],
)
def test_what_torch_saves_is_told_and_read(tmp_path, kind, older):
    path, tree = tmp_path / "x.pt", TREES[kind]()
    torch.save(tree, path, _use_new_zipfile_serialization=not older)
    descriptions = dict(torch_file.flat(torch_file.described(path)))
    assert descriptions or kind == "a list"
    expected = dict(torch_file.flat(torch.load(path, weights_only=True)))
    for mapped in (False, True):
        tensors = dict(torch_file.flat(torch_file.load(path, mapped)))
        assert list(tensors) == list(expected) == list(descriptions)
        for name, tensor in tensors.items():
            assert content(tensor) == content(expected[name]) and tensor.dtype == expected[name].dtype
            assert descriptions[name].shape == tensor.shape and descriptions[name].whole
            assert descriptions[name].size == tensor.numel() * tensor.element_size()


@pytest.mark.parametrize("older", [False, True])
def test_few_numbers_that_are_said_to_be_many_are_told(tmp_path, older):
    path = tmp_path / "x.pt"
    tree = {"wide": torch.ones(1).expand(10**10), "own": torch.ones(3)}
    torch.save(tree, path, _use_new_zipfile_serialization=not older)
    descriptions = dict(torch_file.flat(torch_file.described(path)))
    assert not descriptions["wide"].whole and descriptions["own"].whole
    with pytest.raises(TypeError, match="tensors without values"):
        torch_file.weights_in(torch_file.load(path))
    many = {f"{i}": tensor for i, tensor in enumerate([torch.ones(1000)] * 5)}
    torch.save(many, path, _use_new_zipfile_serialization=not older)
    with pytest.raises(ValueError, match="x.pt cannot be loaded: a few numbers are said to be many"):
        torch_file.load(path)


@pytest.mark.parametrize("name", ["torch.hub load", "torch load", "torch.nn Linear", "builtins eval"])
def test_a_name_that_weights_do_not_need_is_refused_where_it_stands(name):
    """Before anything is called: also as a mere value."""
    asked = name.replace(" ", "\n").encode()
    with pytest.raises(Foreign, match=f"the name {name.replace(' ', '.')}"):
        scan(io.BytesIO(b"\x80\x02c" + asked + b"\n."))


@pytest.mark.parametrize(
    "shape, stride, fits",
    [([4], [1], True), ([5], [1], False), ([2, 2], [2, 1], True), ([2, 3], [1, 1], True),
     ([2, 3], [2, 1], False), ([1], [99], True), ([0, 9], [9, 1], True)],
)  # fmt: skip
def test_a_tensor_lies_within_its_data_to_the_element(shape, stride, fits):
    stream = io.BytesIO(b"\x80\x02" + pickles.tensor(shape, stride, count=4) + b".")
    if fits:
        assert scan(stream).tree.shape == tuple(shape)
    else:
        with pytest.raises(Oversized, match="a tensor is larger than its data"):
            scan(stream)


def test_names_within_names_end_somewhere():
    tree = {"a": {"b": {"c": {"d": torch.ones(1), "e": {"f": torch.ones(1)}}}}, "x": torch.ones(1)}
    assert [name for name, _ in torch_file.flat(tree)] == ["a.b.c.d", "x"]


def test_a_checkpoint_of_laion_s_is_read_with_the_numbers_beside_it(tmp_path):
    """numpy's, of a training; names of several processes; and a count of older transformers."""
    base = "text_branch."
    state = {
        f"{base}embeddings.word_embeddings.weight": torch.rand(9, 64),
        f"{base}embeddings.position_embeddings.weight": torch.rand(7, 64),
        **{f"{base}encoder.layer.{i}.intermediate.dense.weight": torch.rand(80, 64) for i in range(3)},
        f"{base}encoder.layer.7.intermediate.dense.bias": torch.rand(80),  # of no layer that is there
    }
    saved = {f"module.{name}": tensor for name, tensor in state.items()}
    saved["module.text_branch.embeddings.position_ids"] = torch.arange(7)[None]
    numbers = {"epoch": np.int64(3), "best": np.float64(0.3), "rate": np.float32(1), "done": np.bool_(True)}
    torch.save({**numbers, "name": "x", "state_dict": saved}, tmp_path / "clap.pt")
    weights = read_state(tmp_path / "clap.pt")
    assert weights.keys() == state.keys() and all(torch.equal(weights[n], state[n]) for n in state)
    assert roberta_shape(tmp_path / "clap.pt", weights) == {
        "vocab_size": 9, "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 1,
        "intermediate_size": 80, "max_position_embeddings": 7, "type_vocab_size": 1, "layer_norm_eps": 1e-5,
    }  # fmt: skip
    wrong = {"not all of it is tensors": {"state_dict": {"x": 5}}, "not all": [1, 2],
             "tensors without values": {"x": torch.ones(1).expand(9)}}  # fmt: skip
    for message, tree in wrong.items():
        torch.save(tree, tmp_path / "odd.pt")
        with pytest.raises(ValueError, match=f"odd.pt is no CLAP checkpoint of LAION's: .*{message}"):
            read_state(tmp_path / "odd.pt")


DIMS = {
    "n_mels": 80, "n_audio_ctx": 15, "n_audio_state": 64, "n_audio_head": 2, "n_audio_layer": 2,
    "n_vocab": 30, "n_text_ctx": 8, "n_text_state": 32, "n_text_head": 1, "n_text_layer": 3,
}  # fmt: skip
SHAPES = {
    "encoder.conv1.weight": (64, 80, 3), "encoder.positional_embedding": (15, 64),
    "decoder.token_embedding.weight": (30, 32), "decoder.positional_embedding": (8, 32),
    **{f"encoder.blocks.{i}.attn.query.weight": (64, 64) for i in range(2)},
    **{f"decoder.blocks.{i}.attn.query.weight": (32, 32) for i in range(3)},
}  # fmt: skip


@pytest.mark.parametrize("name", DIMS)
@pytest.mark.parametrize("value", [10**9, 0, -1, 2.0, "2", True, None])
def test_the_numbers_of_a_whisper_are_those_of_its_weights(name, value):
    refuse_dims("x.pt", DIMS, SHAPES)
    with pytest.raises(ValueError, match=f"x.pt cannot be loaded by openai-whisper: in its dims {name} is"):
        refuse_dims("x.pt", DIMS | {name: value}, SHAPES)


def test_a_whisper_s_other_names_and_missing_weights():
    for dims in ({**DIMS, "more": 1}, {n: v for n, v in DIMS.items() if n != "n_mels"}, {}):
        with pytest.raises(ValueError, match="x.pt cannot be loaded by openai-whisper: in its dims"):
            refuse_dims("x.pt", dims, SHAPES)
    for name in SHAPES:
        with pytest.raises(ValueError, match="and its weights have n_mels"):
            refuse_dims("x.pt", DIMS, {n: s for n, s in SHAPES.items() if n != name})
