"""Encoded style images: the value, its file, and what is refused."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from zsamb_core.instantstyle import style_embeds
from zsamb_core.instantstyle.style_embeds import Encoder, StyleEmbeds, load_embeds, save_embeds

ENCODER = Encoder(6, 5)


def make(n=2, weights=None, seed=0, encoder=ENCODER, length=3, **more):
    g = torch.Generator().manual_seed(seed)
    return StyleEmbeds(
        encoder,
        torch.randn(n, encoder.projection, generator=g),
        torch.randn(n, length, encoder.hidden, generator=g),
        torch.randn(length, encoder.hidden, generator=g),
        tuple(weights or [1.0] * n),
        **more,
    )


def same(a, b):
    return (
        (a.encoder, a.weights, a.changed) == (b.encoder, b.weights, b.changed)
        and all(type(w) is float for w in (*a.weights, *b.weights))
        and all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("pooled", "hidden", "blank"))
    )


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (0.1, 1 / 3), (0.0, 1e-300), (1e300, 7.0)])
def test_what_is_saved_is_loaded(tmp_path, weights, changed):
    """To the last bit, with weights that have no short decimals."""
    embeds = make(weights=weights, changed=changed)
    embeds.pooled[0, :3] = torch.tensor([1e-42, -0.0, 3e38])
    save_embeds(embeds, tmp_path / "a.safetensors")
    loaded = load_embeds(tmp_path / "a.safetensors")
    assert same(loaded, embeds) and loaded.changed is changed
    assert torch.equal(loaded.pooled.signbit(), embeds.pooled.signbit())
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_pieces_of_one_tensor_are_saved_too(tmp_path):
    states = torch.randn(3, 4, 6)
    embeds = StyleEmbeds(ENCODER, torch.randn(5, 2).T, states[:2], states[2], (1.0, 2.0))
    save_embeds(embeds, tmp_path / "a.safetensors")
    assert same(load_embeds(tmp_path / "a.safetensors"), embeds)


def test_half_precision_is_loaded_as_fp32(tmp_path):
    embeds = make()
    half = StyleEmbeds(
        ENCODER, embeds.pooled.half(), embeds.hidden.bfloat16(), embeds.blank.half(), (1.0, 1.0)
    )
    save_embeds(half, tmp_path / "a.safetensors")
    loaded = load_embeds(tmp_path / "a.safetensors")
    assert loaded.pooled.dtype == loaded.hidden.dtype == torch.float32
    assert torch.equal(loaded.pooled, half.pooled.float()) and torch.equal(loaded.hidden, half.hidden.float())


@pytest.mark.parametrize("error", [OSError("no space"), RuntimeError("broken"), KeyboardInterrupt()])
def test_a_save_that_fails_leaves_all_as_it_was(tmp_path, monkeypatch, error):
    path = tmp_path / "a.safetensors"
    save_embeds(make(seed=1), path)

    def fail(tensors, unfinished, about):
        unfinished.write_bytes(b"half of it")
        raise error

    monkeypatch.setattr(style_embeds, "save_file", fail)
    with pytest.raises(type(error)):
        save_embeds(make(), [path, tmp_path / "b.safetensors"])
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]
    assert same(load_embeds(path), make(seed=1))


def test_a_save_replaces_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"something else")
    with pytest.raises(FileExistsError, match="a.safetensors is there already"):
        save_embeds(make(seed=1), path)
    assert path.read_bytes() == b"something else"
    assert save_embeds(make(seed=2), [path, tmp_path / "b.safetensors"]) == tmp_path / "b.safetensors"
    assert path.read_bytes() == b"something else"
    assert same(load_embeds(tmp_path / "b.safetensors"), make(seed=2))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_saving_into_no_folder_fails_cleanly(tmp_path):
    with pytest.raises(Exception, match="(?i)no such file"):
        save_embeds(make(), tmp_path / "none" / "a.safetensors")


def refused(path, phrase=""):
    with pytest.raises(ValueError, match=f"{path.name} is not a file of encoded style images .*{phrase}"):
        load_embeds(path)


ABOUT = {"format": "zsamb_style_embeds", "encoder": "[6, 5]", "weights": "[1.0, 1.0]", "changed": "false"}


def parts(**others):
    embeds = make()
    return {"pooled": embeds.pooled, "hidden": embeds.hidden, "blank": embeds.blank} | others


def test_other_safetensors_are_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    refused(path, "metadata names no zsamb_style_embeds")
    save_file(parts(), path, ABOUT | {"format": "pt"})
    refused(path, "metadata names no zsamb_style_embeds")
    save_file(parts(), path, ABOUT)
    load_embeds(path)


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("name", ["pooled", "hidden", "blank"])
def test_values_that_are_not_numbers_are_refused(tmp_path, name, value):
    tensors = parts()
    tensors[name].view(-1)[-1] = value
    save_file(tensors, tmp_path / "nan.safetensors", ABOUT)
    refused(tmp_path / "nan.safetensors", "values that are not numbers")


def test_cut_files_are_refused_wherever_they_are_cut(tmp_path):
    path = tmp_path / "cut.safetensors"
    save_embeds(make(), path)
    whole = path.read_bytes()
    header = 8 + struct.unpack("<Q", whole[:8])[0]
    for n in {0, 1, 7, 8, 9, header - 1, header, header + 1, *range(0, len(whole), 37), len(whole) - 1}:
        path.write_bytes(whole[:n])
        refused(path)


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    path = tmp_path / "none.safetensors"
    refused(path)
    path.write_text("a text")
    refused(path)
    path.unlink()
    path.mkdir()
    refused(path)


@pytest.mark.parametrize("name", ["pooled", "hidden", "blank"])
@pytest.mark.parametrize(
    "change",
    [
        lambda t: t[:0],
        lambda t: t[..., :-1],
        lambda t: t[:1],
        lambda t: t[None],
        lambda t: t.flatten(),
        lambda t: torch.tensor(1.0),
        lambda t: None,
    ],
    ids=["empty", "narrow", "one", "deeper", "flat", "number", "missing"],
)
def test_tensors_of_another_shape_are_refused(tmp_path, name, change):
    tensors = parts()
    tensors[name] = change(tensors[name])
    path = tmp_path / "shape.safetensors"
    save_file({n: t.contiguous() for n, t in tensors.items() if t is not None}, path, ABOUT)
    refused(path)


@pytest.mark.parametrize(
    "about",
    [
        {"weights": "[1.0]"}, {"weights": "[1, 1, 1]"}, {"weights": "[1, -1]"}, {"weights": "[1, NaN]"},
        {"weights": "[1, Infinity]"}, {"weights": "[0, 0]"}, {"weights": "[1, null]"}, {"weights": "3"},
        {"weights": "[1, "}, {"weights": ""}, {"weights": None}, {"encoder": None}, {"encoder": "[6]"},
        {"encoder": "[6, 5, 4]"}, {"encoder": "[5, 6]"}, {"encoder": "6"}, {"encoder": "[6, NaN]"},
        {"encoder": '"65"x'}, {"changed": None}, {"changed": "no"}, {"format": None},
    ],
)  # fmt: skip
def test_other_metadata_is_refused(tmp_path, about):
    path = tmp_path / "about.safetensors"
    save_file(parts(), path, {n: v for n, v in (ABOUT | about).items() if v is not None})
    refused(path)


def test_metadata_is_plain(tmp_path):
    """Another program can read it."""
    path = tmp_path / "a.safetensors"
    save_embeds(make(weights=(0.5, 2.0)), path)
    content = path.read_bytes()
    about = json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])["__metadata__"]
    assert about == ABOUT | {"weights": "[0.5, 2.0]"}


@pytest.mark.parametrize(
    ("settings", "phrase"),
    [
        ({"weights": (1.0,)}, "expected 2 numbers of 0 or more"),
        ({"weights": (1.0, -0.1)}, "expected 2 numbers of 0 or more"),
        ({"weights": (1.0, float("nan"))}, "expected 2 numbers of 0 or more"),
        ({"weights": (1.0, float("inf"))}, "expected 2 numbers of 0 or more"),
        ({"weights": (0.0, 0.0)}, "all weights are 0"),
        ({"pooled": torch.ones(2, 4)}, "embeddings are .2, 4., expected images by 5"),
        ({"pooled": torch.ones(0, 5)}, "embeddings are"),
        ({"pooled": torch.ones(3, 5)}, "hidden states are .2, 3, 6. .* expected 3 by tokens by 6"),
        ({"hidden": torch.ones(2, 3, 7)}, "hidden states are"),
        ({"hidden": torch.ones(2, 4, 6)}, "hidden states are"),
        ({"blank": torch.ones(1, 3, 6)}, "hidden states are"),
        ({"encoder": Encoder(7, 5)}, "by tokens by 7"),
        ({"encoder": Encoder(6, 8)}, "expected images by 8"),
    ],
)
def test_values_that_do_not_fit_are_refused(settings, phrase):
    embeds = make()
    fields = {n: getattr(embeds, n) for n in ("encoder", "pooled", "hidden", "blank", "weights")}
    with pytest.raises(ValueError, match=phrase):
        StyleEmbeds(**(fields | settings))


def test_joined_images_come_after_those_before():
    """``joined`` takes what is before in the chain, so its images are first."""
    first, second = make(2, (1.0, 2.0), 1), make(1, (0.0001,), 2)
    joined = second.joined(first)
    assert joined.weights == (1.0, 2.0, 0.0001)
    assert torch.equal(joined.pooled, torch.cat([first.pooled, second.pooled]))
    assert torch.equal(joined.hidden, torch.cat([first.hidden, second.hidden]))
    assert torch.equal(joined.blank, second.blank) and joined.encoder == ENCODER
    third = make(1, seed=3)
    assert same(third.joined(second.joined(first)), third.joined(second).joined(first))


@pytest.mark.parametrize("one", [False, True])
@pytest.mark.parametrize("other", [False, True])
def test_joined_images_are_changed_where_any_is(one, other):
    assert make(changed=one).joined(make(changed=other)).changed == (one or other)


@pytest.mark.parametrize(
    ("other", "phrase"),
    [
        (
            {"encoder": Encoder(1280, 1024)},
            r"others by CLIP ViT-H/14 \(1280 hidden, 1024 projected channels\)",
        ),
        (
            {"encoder": Encoder(6, 4)},
            "an encoder of 6 hidden, 5 projected .* an encoder of 6 hidden, 4 projected",
        ),
        ({"encoder": Encoder(7, 5)}, "an encoder of 7 hidden"),
        ({"length": 4}, "3 tokens, and the others by .* 4 tokens"),
    ],
)
def test_images_of_another_encoder_are_not_joined(other, phrase):
    with pytest.raises(ValueError, match=phrase):
        make().joined(make(**other))


def test_images_of_weight_0_do_not_count():
    embeds = make(4, (0.0, 2.0, 0.0, 0.5), changed=True)
    counted = embeds.counted()
    assert counted.weights == (2.0, 0.5) and counted.changed
    assert torch.equal(counted.pooled, embeds.pooled[[1, 3]]) and torch.equal(
        counted.hidden, embeds.hidden[[1, 3]]
    )
    assert same(make(2).counted(), make(2))


def test_encoders_are_named():
    assert str(Encoder(1024, 768)) == "CLIP ViT-L/14 (1024 hidden, 768 projected channels)"
    assert str(Encoder(1664, 1280)) == "CLIP ViT-bigG/14 (1664 hidden, 1280 projected channels)"
    assert str(Encoder(1280, 1280)) == "an encoder of 1280 hidden, 1280 projected channels"
