"""Style references in files: every field comes back, and what is no such file is refused by name."""

import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import zsamb_core
from zsamb_core.style_aligned import reference_file
from zsamb_core.style_aligned.reference import Reference, StyleReference, Trajectory
from zsamb_core.style_aligned.reference_file import load_reference, save_reference


def rand(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def prompt(seed=0, rows=1, **details):
    pooled = {"pooled_output": rand(rows, 5, seed=seed + 1)}
    return [[rand(rows, 7, 6, seed=seed), {**pooled, **details}]]


def inverted(nodes=4, **settings):
    path = Trajectory(torch.linspace(0.03, 14.6, nodes), rand(nodes, 4, 3, 2, seed=2))
    return Reference(path, prompt(3), prompt(5), **settings)


def recorded(**settings):
    path = Trajectory(torch.tensor([0.0, 1 / 3, 9.0]), rand(3, 4, 2, 2, seed=7), True, rand(4, 2, 2, seed=8))
    return Reference(path, prompt(9), prompt(11), **settings)


SDXL = {
    "width": 1024, "height": 768, "crop_w": 8, "crop_h": 0, "target_width": 512, "target_height": 640,
    "strength": 0.1, "area": (8, 8, 0, 0), "start_percent": 0.0, "set_area_to_bounds": False,
    "control": None, "mask": torch.rand(1, 8, 8), "reference_latents": [torch.ones(1, 4, 2, 2)],
    "guide": ("percentage", 1 / 3), "concat_latent_image": rand(1, 4, 2, 2, seed=13).half(),
    "ids": torch.tensor([1, 2]), "words": "a cat \u2605",
}  # fmt: skip
FULL = {"weight": 1 / 3, "shift": 0.6931, "scale": 0.1, "mask": torch.rand(2, 5, 6), "offset": 1}
REFERENCES = {
    "inverted": StyleReference((inverted(),)),
    "recorded": StyleReference((recorded(),)),
    "noised": StyleReference((replace(inverted(2), trajectory=Trajectory(
        torch.tensor([0.0, 1.0]), rand(2, 4, 3, 3))),)),
    "with every option": StyleReference((inverted(**FULL),)),
    "of weight 0": StyleReference((inverted(weight=0.0), recorded(weight=1e-300))),
    "sized prompts": StyleReference((replace(inverted(), positive=prompt(1, rows=3, **SDXL)),)),
    "two entries": StyleReference((replace(inverted(), positive=prompt(1) + prompt(4, **SDXL)),)),
    "tuples": StyleReference((replace(inverted(), negative=tuple(map(tuple, prompt(1)))),)),
    "a chain": StyleReference((inverted(**FULL), recorded(weight=2.0), inverted(3, scale=0.0))),
    "halves": StyleReference((replace(inverted(), trajectory=Trajectory(
        torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64), rand(3, 4, 3, 3).bfloat16())),)),
}  # fmt: skip


def same(a, b):
    """Of the same types, all the way down; tensors bit for bit."""
    if type(a) is not type(b):
        return False
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and bits(a) == bits(b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (StyleReference, Reference, Trajectory)):
        return same(vars(a), vars(b))
    return repr(a) == repr(b)


def bits(tensor):
    return tensor.contiguous().reshape(-1).view(torch.uint8).tolist()


@pytest.mark.parametrize("name", REFERENCES)
def test_what_is_saved_is_loaded(tmp_path, name):
    path = save_reference(REFERENCES[name], tmp_path / "a.safetensors")
    loaded, picture = load_reference(path)
    assert same(loaded, REFERENCES[name]) and picture is None
    assert [p.name for p in tmp_path.iterdir()] == ["a.safetensors"]


def test_the_comparison_sees_what_differs():
    """Else the test above would say nothing."""
    one = REFERENCES["with every option"].references[0]
    for change in (
        {"weight": 1.0}, {"shift": None}, {"scale": 1}, {"offset": 0}, {"mask": FULL["mask"].double()},
        {"positive": prompt(4)}, {"negative": tuple(one.negative)}, {"trajectory": recorded().trajectory},
    ):  # fmt: skip
        assert not same(StyleReference((replace(one, **change),)), REFERENCES["with every option"]), change


def test_bits_that_numbers_do_not_show_come_back(tmp_path):
    path = Trajectory(torch.tensor([0.0, 1e-42]), torch.tensor([-0.0, 3e38]).view(2, 1, 1, 1))
    saved = StyleReference((Reference(path, prompt(), prompt()),))
    assert same(load_reference(save_reference(saved, tmp_path / "a.safetensors"))[0], saved)


def test_pieces_of_one_tensor_are_saved_too(tmp_path):
    """As inversion makes them: a path that is a part of a larger tensor, and not in one piece."""
    whole = rand(4, 2, 4, 3, 3)
    path = Trajectory(torch.linspace(1, 2, 8)[::2], whole[:, 0])
    cut = whole[0, 1][None, :3].transpose(1, 3)
    saved = StyleReference((Reference(path, [[cut[0], {}]], [[whole[0, 0, :1], {}]]),))
    assert same(load_reference(save_reference(saved, tmp_path / "a.safetensors"))[0], saved)


def test_what_references_share_is_saved_once(tmp_path):
    one = inverted()
    both = StyleReference((replace(one, weight=0.3), replace(one, weight=0.7)))
    single, double = (
        save_reference(r, tmp_path / f"{n}.safetensors") for r, n in ((StyleReference((one,)), 1), (both, 2))
    )
    with safe_open(single, "pt") as a, safe_open(double, "pt") as b:
        assert set(a.keys()) == set(b.keys())
    loaded = load_reference(double)[0]
    assert same(loaded, both)
    assert loaded.references[0].trajectory.points is loaded.references[1].trajectory.points


def test_a_picture_comes_back_small(tmp_path):
    shown = torch.full((400, 200, 3), 0.75)
    picture = load_reference(save_reference(REFERENCES["inverted"], tmp_path / "a.safetensors", shown))[1]
    assert picture.shape == (256, 128, 3) and (picture - 0.75).abs().max() < 0.02


def test_what_is_loaded_needs_the_file_no_more(tmp_path):
    path = save_reference(REFERENCES["a chain"], tmp_path / "a.safetensors")
    loaded = load_reference(path)[0]
    with path.open("r+b") as file:  # in place, as a copy over it does
        file.write(bytes(path.stat().st_size))
    assert same(loaded, REFERENCES["a chain"])


def test_metadata_is_plain(tmp_path):
    """Another program can read it, and no pickle is in it."""
    path = save_reference(REFERENCES["inverted"], tmp_path / "a.safetensors", torch.ones(4, 4, 3))
    about = header(path)["__metadata__"]
    assert list(sorted(about)) == ["crc32", "format", "pack", "structure", "thumbnail", "version"]
    assert (about["format"], about["version"]) == ("zsamb_style_reference", "1")
    assert about["pack"] == zsamb_core.__version__ and about["thumbnail"].startswith(
        "data:image/jpeg;base64,"
    )
    (said,) = json.loads(about["structure"])
    assert said["points"] == {"tensor": "0.points"} and said["weight"] == 1.0 and said["noise"] is None
    assert said["positive"] == [
        [
            {"tensor": "0.positive.0.0"},
            {"dict": {"pooled_output": {"tensor": "0.positive.0.1.pooled_output"}}},
        ]
    ]


def test_a_save_replaces_nothing(tmp_path):
    path = tmp_path / "a.safetensors"
    path.write_bytes(b"something else")
    with pytest.raises(FileExistsError, match="a.safetensors is there already"):
        save_reference(REFERENCES["inverted"], path)
    second = save_reference(REFERENCES["inverted"], [path, tmp_path / "b.safetensors"])
    assert second.name == "b.safetensors" and path.read_bytes() == b"something else"


class Net:
    """As a ControlNet: a thing of the host's."""


@pytest.mark.parametrize(
    ("details", "message"),
    [
        ({"control": Net()}, "positive prompt carries a ControlNet in its entry 2 .control is a Net"),
        ({"hooks": Net()}, "carries hooks .scheduled LoRAs or weights"),
        ({"gligen": ("position", Net(), [])}, "carries GLIGEN boxes"),
        ({"unclip_conditioning": [{"clip_vision_output": Net()}]}, "carries unCLIP pictures"),
        ({"theirs": [Net()]}, "carries what is called 'theirs' .*Net, which no file keeps"),
        ({"strength": float("nan")}, "strength is nan"),
    ],
)
def test_what_no_file_keeps_is_refused_by_name(tmp_path, details, message):
    saved = StyleReference((inverted(), replace(inverted(), positive=prompt() + prompt(**details))))
    with pytest.raises(ValueError, match=f"reference 2: the {message}|reference 2: .*{message}") as error:
        save_reference(saved, tmp_path / "a.safetensors")
    assert "Make the reference with a prompt without it" in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"positive": []}, "the positive prompt is empty"),
        ({"negative": [[torch.full((1, 7, 6), torch.nan), {}]]}, "the negative prompt has 42 of 42 values"),
        (
            {"trajectory": Trajectory(torch.tensor([0.0, 1.0]), torch.full((2, 4, 2, 2), torch.inf))},
            "points has",
        ),
    ],
)
def test_what_could_not_be_loaded_is_not_saved(tmp_path, change, message):
    with pytest.raises(ValueError, match=f"reference 1: .*{message}"):
        save_reference(StyleReference((replace(inverted(), **change),)), tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match="holds no references"):
        save_reference(StyleReference(()), tmp_path / "a.safetensors")
    long = replace(inverted(), positive=prompt(words="x" * 9_000_000))
    with pytest.raises(ValueError, match="expected 8,388,608 at most"):
        save_reference(StyleReference((long,)), tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


# Files that are none, or damaged.


def header(path):
    content = path.read_bytes()
    return json.loads(content[8 : 8 + struct.unpack("<Q", content[:8])[0]])


@pytest.fixture
def parts(tmp_path):
    """Tensors and metadata of a good file."""
    path = save_reference(REFERENCES["recorded"], tmp_path / "good.safetensors", torch.ones(4, 4, 3))
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name).clone() for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def refused(path, message):
    with pytest.raises(ValueError, match=message) as error:
        load_reference(path)
    assert str(error.value).startswith(path.name) and len(str(error.value)) < 700
    return str(error.value)


def damaged(path, tensors, about, message=""):
    sums = json.dumps({n: reference_file._crc32(t) for n, t in tensors.items()})
    save_file(tensors, path, {k: v for k, v in ({"crc32": sums} | about).items() if v is not None})
    said = refused(path, f"is a damaged style reference .*{message}")
    assert "Copy it again" in said


def test_files_of_another_kind_are_told_apart(tmp_path, parts):
    path = tmp_path / "x.safetensors"
    save_file({"weight": torch.ones(2)}, path)
    refused(path, "is another kind of file .without a format., expected a style reference")
    save_file({"weight": torch.ones(2)}, path, {"format": "pt"})
    refused(path, "of the format 'pt'.*Choose a file that Save Style Reference wrote")
    save_file({"pooled": torch.ones(2)}, path, {"format": "zsamb_style_embeds"})
    refused(path, "encoded style images, for Load Style Embeds")
    save_file({"weight": torch.ones(2)}, path, {"format": "x" * 100_000})
    refused(path, "of the format 'xxx")


def test_a_version_to_come_is_told(tmp_path, parts):
    tensors, about = parts
    path = tmp_path / "x.safetensors"
    save_file(tensors, path, about | {"version": "2", "pack": "9.1.0", "structure": "of another kind"})
    refused(path, "version 2, by Z-SAMB '9.1.0'; expected version 1, .* Update Z-SAMB")
    for version in ("0", "", "1.5", "-1", "x", "9" * 5000, "\u0662", None):
        damaged(path, tensors, about | {"version": version}, "its version is ")


def test_cut_files_are_refused_wherever_they_are_cut(tmp_path):
    path = save_reference(REFERENCES["recorded"], tmp_path / "cut.safetensors")
    whole = path.read_bytes()
    head = 8 + struct.unpack("<Q", whole[:8])[0]
    for n in {0, 1, 7, 8, 9, head - 1, head, head + 1, *range(0, len(whole), 97), len(whole) - 1}:
        path.write_bytes(whole[:n])
        refused(path, "cannot be read as safetensors .* It is cut short, damaged")


def test_every_flipped_byte_of_a_tensor_is_seen(tmp_path):
    path = save_reference(REFERENCES["recorded"], tmp_path / "flipped.safetensors")
    whole = path.read_bytes()
    head = 8 + struct.unpack("<Q", whole[:8])[0]
    for n in range(head, len(whole), 13):
        path.write_bytes(whole[:n] + bytes([whole[n] ^ 1]) + whole[n + 1 :])
        refused(path, "the bytes of 0[.].* are not those that were written")


def test_what_is_no_file_of_tensors_is_refused(tmp_path):
    path = tmp_path / "none.safetensors"
    refused(path, "cannot be read as safetensors")
    path.write_text("a text")
    refused(path, "cannot be read as safetensors")
    path.unlink()
    path.mkdir()
    refused(path, "cannot be read as safetensors")


@pytest.mark.parametrize(
    "about",
    [
        {"structure": None}, {"structure": "[]"}, {"structure": "{}"}, {"structure": "[1]"},
        {"structure": "[{}]"}, {"structure": "["}, {"structure": "[" * 100_000}, {"structure": "null"},
        {"structure": "[" + "9" * 5000 + "]"}, {"crc32": None}, {"crc32": "[]"}, {"crc32": "{}"},
        {"crc32": "x"}, {"thumbnail": "x"}, {"thumbnail": "data:image/jpeg;base64,AAAA"},
    ],
)  # fmt: skip
def test_other_metadata_is_refused(tmp_path, parts, about):
    tensors, good = parts
    damaged(tmp_path / "x.safetensors", tensors, good | about)


VALUES = {
    "weight": [None, "1", True, -1, [1], {"dict": {}}],
    "shift": ["0", False, [0]],
    "scale": ["1", True],
    "offset": [None, 1.0, -1, 9, True, "0"],
    "fresh": [None, 1, "yes"],
    "mask": [1, [1], {"tensor": "none"}, {"tensor": "0.sigmas"}],
    "sigmas": [None, [0, 1], {"tensor": "0.points"}],
    "points": [None, {"tensor": "0.sigmas"}, {"tensor": "0.noise"}],
    "noise": [1, {"tensor": "0.points"}, {"tensor": "0.sigmas"}],
    "positive": [None, [], [[]], [1], "ab", {"dict": {}}, [[{"tensor": "0.sigmas"}, {"dict": {}}]]],
    "negative": [[[None, {"dict": {}}]], [[{"tensor": "0.negative.0.0"}, None]]],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in VALUES.items() for v in values])
def test_other_values_are_refused(tmp_path, parts, name, value):
    tensors, about = parts
    (said,) = json.loads(about["structure"])
    structure = json.dumps([{**said, name: value}])
    damaged(tmp_path / "x.safetensors", tensors, about | {"structure": structure})


def test_fields_that_lack_or_are_unheard_of_are_refused(tmp_path, parts):
    tensors, about = parts
    (said,) = json.loads(about["structure"])
    for change in (*({k: v for k, v in said.items() if k != name} for name in said), {**said, "more": 1}):
        odd = {"structure": json.dumps([change])}
        (name,) = change.keys() ^ said.keys()
        damaged(tmp_path / "x.safetensors", tensors, about | odd, f"reference 1 lacks, .*: {name}")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("0.points", lambda t: t[:, :0]), ("0.points", lambda t: t[:2]), ("0.points", lambda t: t.long()),
        ("0.points", lambda t: t * torch.nan), ("0.points", lambda t: None),
        ("0.sigmas", lambda t: t.flip(0)),
        ("0.sigmas", lambda t: t[:1]), ("0.sigmas", lambda t: t + torch.inf), ("0.sigmas", lambda t: t + 1),
        ("0.noise", lambda t: t[:1]), ("0.noise", lambda t: t.bool()),
        ("0.positive.0.0", lambda t: t[:0]), ("0.positive.0.0", lambda t: t[0]),
        ("0.positive.0.0", lambda t: t.long()), ("0.negative.0.0", lambda t: t / 0),
        ("0.negative.0.1.pooled_output", lambda t: t * torch.nan),
    ],
)  # fmt: skip
def test_other_tensors_are_refused(tmp_path, parts, name, change):
    tensors, about = parts
    tensors[name] = change(tensors[name])
    tensors = {n: t.contiguous() for n, t in tensors.items() if t is not None}
    del about["crc32"]
    damaged(tmp_path / "x.safetensors", tensors, about)


def test_tensors_that_nothing_lists_are_refused(tmp_path, parts):
    tensors, about = parts
    damaged(tmp_path / "x.safetensors", tensors | {"more": torch.ones(1)}, about, "not those that it lists")
