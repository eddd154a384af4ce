"""From images to tokens, keys and values: against slow implementations written out here, and every pairing of
adapter, encoder and model that must be refused.
"""

import math

import pytest
import torch

from tests.host.adapters import adapter_state, plus_projector, saved
from zsamb_core.instantstyle import adapter_file as ip_adapter_file
from zsamb_core.instantstyle.adapter_file import Projector, open_adapter
from zsamb_core.instantstyle.image_tokens import image_tokens, keys_and_values, project, resample
from zsamb_core.instantstyle.style_embeds import FILES, KNOWN_ENCODERS, Encoder, StyleEmbeds, refuse_pairing
from zsamb_core.instantstyle.style_images import project_images, refuse_structure
from zsamb_core.layers import Layer

STRUCTURE = {
    Layer("input", 4, 0): 8,
    Layer("middle", 0, 0): 8,
    Layer("output", 1, 0): 12,
    Layer("output", 1, 1): 12,
}
NUMBERS = {("input", 4, 0): 1, ("output", 1, 0): 3, ("output", 1, 1): 5, ("middle", 0, 0): 7}
WIDTH, HIDDEN, POOLED = 10, 6, 5
ENCODER = Encoder(HIDDEN, POOLED)
ALL = dict.fromkeys(STRUCTURE, 1.0)


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def embeds(n=1, weights=None, seed=0, encoder=ENCODER, length=3, **more):
    return StyleEmbeds(
        encoder,
        randn(n, encoder.projection, seed=seed),
        randn(n, length, encoder.hidden, seed=seed + 1),
        randn(length, encoder.hidden, seed=seed + 2),
        tuple(float(w) for w in weights or [1.0] * n),
        **more,
    )


def of(images, rows, weights):
    """Some of the images, in that order."""
    return StyleEmbeds(images.encoder, images.pooled[rows], images.hidden[rows], images.blank, tuple(weights))


def make(tmp_path, kind="base", structure=STRUCTURE, features=None, width=WIDTH, only=None):
    features = features or (POOLED if kind == "base" else HIDDEN)
    state = adapter_state(structure, width, kind, features)
    if only is not None:
        weights = {n: t for n, t in state["ip_adapter"].items() if int(n.split(".")[0]) in only}
        state["ip_adapter"] = weights
    return open_adapter(saved(state, tmp_path / f"{kind}.safetensors")), state


# Tokens.


def test_projection_is_a_layer_norm_of_a_linear_map():
    """By hand: W e + b is 1, 3, 2, 0, two tokens of two channels; normalized -1, 1 and 1, -1."""
    state = {
        "proj.weight": torch.tensor([[1.0, 0], [0, 2], [1, 0], [0, 0]]),
        "proj.bias": torch.tensor([0.0, 1, 1, 0]),
        "norm.weight": torch.tensor([2.0, 3]),
        "norm.bias": torch.tensor([0.5, -1]),
    }
    tokens = project(state, torch.tensor([[1.0, 1.0]]))
    expected = torch.tensor([[[-2 + 0.5, 3 - 1], [2 + 0.5, -3 - 1]]])
    torch.testing.assert_close(tokens, expected, rtol=1e-4, atol=1e-4)


def layer_norm(x, weight, bias):
    mean = sum(x) / len(x)
    variance = sum((a - mean) ** 2 for a in x) / len(x)
    return [(a - mean) / math.sqrt(variance + 1e-5) * w + b for a, w, b in zip(x, weight, bias, strict=True)]


def matvec(weight, x):
    return [sum(w * a for w, a in zip(row, x, strict=True)) for row in weight]


def add(a, b):
    return [x + y for x, y in zip(a, b, strict=True)]


def test_projection_is_the_one_written_out(tmp_path):
    adapter, state = make(tmp_path)
    p = {n: t.double().tolist() for n, t in state["image_proj"].items()}
    images = randn(2, POOLED)
    tokens = project(adapter.read_projector(), images)
    assert tokens.shape == (2, 4, WIDTH)
    for i, e in enumerate(images.double().tolist()):
        flat = add(matvec(p["proj.weight"], e), p["proj.bias"])
        for t in range(4):
            expected = layer_norm(flat[WIDTH * t : WIDTH * (t + 1)], p["norm.weight"], p["norm.bias"])
            torch.testing.assert_close(
                tokens[i, t].double(), torch.tensor(expected).double(), rtol=1e-4, atol=1e-5
            )


def test_a_zero_embedding_gives_the_tokens_of_no_image(tmp_path):
    adapter, state = make(tmp_path)
    p = state["image_proj"]
    tokens = project(adapter.read_projector(), torch.zeros(1, POOLED))[0]
    for t, bias in enumerate(p["proj.bias"].view(4, WIDTH).tolist()):
        expected = layer_norm(bias, p["norm.weight"].tolist(), p["norm.bias"].tolist())
        torch.testing.assert_close(tokens[t], torch.tensor(expected), rtol=1e-4, atol=1e-5)
    assert tokens.abs().min(-1).values.max() > 0


def slow_resampler(p, hidden, depth):
    """One image's hidden states, lists of numbers, by the description of a Perceiver."""

    def normed(rows, name):
        return [layer_norm(row, p[f"{name}.weight"], p[f"{name}.bias"]) for row in rows]

    def linear(rows, name, bias=True):
        out = [matvec(p[f"{name}.weight"], row) for row in rows]
        return [add(row, p[f"{name}.bias"]) for row in out] if bias else out

    x = linear(hidden, "proj_in")
    latents = p["latents"][0]
    for i in range(depth):
        states, own = normed(x, f"layers.{i}.0.norm1"), normed(latents, f"layers.{i}.0.norm2")
        queries = linear(own, f"layers.{i}.0.to_q", False)
        both = linear(states + own, f"layers.{i}.0.to_kv", False)
        inner = len(queries[0])
        attended = []
        for q in queries:
            out = []
            for head in range(0, inner, 64):
                part = slice(head, head + 64)
                logits = [
                    sum(a * b for a, b in zip(q[part], kv[part], strict=True)) / math.sqrt(64) for kv in both
                ]
                odds = [math.exp(logit - max(logits)) for logit in logits]
                values = [kv[inner:][part] for kv in both]
                columns = zip(*values, strict=True)
                out += [
                    sum(o * v for o, v in zip(odds, column, strict=True)) / sum(odds) for column in columns
                ]
            attended.append(out)
        out = linear(attended, f"layers.{i}.0.to_out", False)
        latents = [add(row, more) for row, more in zip(latents, out, strict=True)]
        out = linear(normed(latents, f"layers.{i}.1.0"), f"layers.{i}.1.1", False)
        out = [[a / 2 * (1 + math.erf(a / math.sqrt(2))) for a in row] for row in out]
        out = linear(out, f"layers.{i}.1.3", False)
        latents = [add(row, more) for row, more in zip(latents, out, strict=True)]
    return normed(linear(latents, "proj_out"), "norm_out")


@pytest.mark.parametrize(("inner", "depth"), [(64, 1), (128, 2), (192, 1)])
def test_the_resampler_is_the_one_written_out(inner, depth):
    """In double precision, so that an approximate GELU would show."""
    generator = torch.Generator().manual_seed(4)
    state = plus_projector(generator, 3, 5, HIDDEN, channels=7, inner=inner, depth=depth)
    # Large matrices, for a softmax that is far from even.
    state = {n: t.double() if "norm" in n else 3 * t.double() for n, t in state.items()}
    hidden = randn(2, 4, HIDDEN).double()
    tokens = resample(state, hidden)
    assert tokens.shape == (2, 3, 5)
    p = {n: t.tolist() for n, t in state.items()}
    for image, rows in zip(tokens, hidden.tolist(), strict=True):
        expected = torch.tensor(slow_resampler(p, rows, depth), dtype=torch.float64)
        torch.testing.assert_close(image, expected, rtol=1e-8, atol=1e-8)


def test_the_kind_chooses_the_projector():
    generator = torch.Generator().manual_seed(4)
    state = plus_projector(generator, 3, 5, HIDDEN, channels=7, inner=64, depth=1)
    hidden = randn(2, 4, HIDDEN)
    assert torch.equal(image_tokens(state, "plus", hidden), resample(state, hidden))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_keys_and_values_are_matrix_products(tmp_path, dtype):
    state = adapter_state(STRUCTURE, WIDTH, features=POOLED)
    state = {part: {n: t.to(dtype) for n, t in weights.items()} for part, weights in state.items()}
    adapter = open_adapter(saved(state, tmp_path / "a.safetensors"))
    tokens = randn(2, 9, WIDTH)
    pairs = keys_and_values(adapter, tokens, [7, 3])
    assert list(pairs) == [7, 3]
    for n, pair in pairs.items():
        for p, projected in zip("kv", pair, strict=True):
            weight = state["ip_adapter"][f"{n}.to_{p}_ip.weight"].float()
            assert projected.shape == (2, 9, len(weight)) and projected.dtype == torch.float32
            torch.testing.assert_close(projected, tokens @ weight.T)


# Images of a model's layers.


def expected_pair(state, tokens, layer):
    return [tokens @ state["ip_adapter"][f"{NUMBERS[layer]}.to_{p}_ip.weight"].T for p in "kv"]


def same(pair, expected):
    for a, b in zip(pair, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_both_sides_are_the_projected_tokens(tmp_path, kind):
    """And layers have the numbers of diffusers' order, whatever order the model names them in."""
    adapter, state = make(tmp_path, kind)
    images = embeds(2)
    sides = project_images(adapter, images, ALL, STRUCTURE)
    if kind == "base":
        tokens = project(state["image_proj"], images.pooled).flatten(0, 1)
        empty = project(state["image_proj"], torch.zeros(1, POOLED))[0]
    else:
        tokens = resample(state["image_proj"], images.hidden).flatten(0, 1)
        empty = resample(state["image_proj"], images.blank[None])[0]
    assert sides.image.bias is None and sides.blank.bias is None
    assert list(sides.weights) == list(sides.image.layers) == list(sides.blank.layers) == list(STRUCTURE)
    for layer in STRUCTURE:
        same(sides.image.layers[layer], expected_pair(state, tokens, layer))
        same(sides.blank.layers[layer], expected_pair(state, empty.repeat(2, 1), layer))


def test_only_the_layers_with_weights_are_read(tmp_path, monkeypatch):
    adapter, state = make(tmp_path)
    loaded, load = [], ip_adapter_file._Tensor.load

    def counted(tensor):
        loaded.append(tensor.name)
        return load(tensor)

    monkeypatch.setattr(ip_adapter_file._Tensor, "load", counted)
    weights = {("output", 1, 1): -0.5, ("input", 4, 0): 2.0}
    sides = project_images(adapter, embeds(), weights, STRUCTURE)
    assert sides.weights == weights and sides.image.layers.keys() == weights.keys()
    needed = [f"ip_adapter.{n}.to_{p}_ip.weight" for n in (1, 5) for p in "kv"]
    assert sorted(loaded) == sorted([f"image_proj.{n}" for n in state["image_proj"]] + needed)
    assert sides.scaled(2).weights == {("output", 1, 1): -1.0, ("input", 4, 0): 4.0}


def attend(q, side, layer):
    k, v = side.layers[layer]
    logits = q @ k.T / math.sqrt(k.shape[-1])
    return torch.softmax(logits if side.bias is None else logits + side.bias, -1) @ v


def same_attention(side, expected):
    for layer, width in STRUCTURE.items():
        q = 3 * randn(5, width)
        a, b = attend(q, side, layer), attend(q, expected, layer)
        assert a.isfinite().all()
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_a_negative_image_takes_the_place_of_none(tmp_path):
    """As many tokens on both sides: copies of them all where that comes out even."""
    adapter, state = make(tmp_path)
    images, negative = embeds(1), embeds(3, seed=7)
    sides = project_images(adapter, images, ALL, STRUCTURE, negative)
    tokens, others = (project(state["image_proj"], e.pooled).flatten(0, 1) for e in (images, negative))
    for layer in STRUCTURE:
        same(sides.image.layers[layer], expected_pair(state, tokens.repeat(3, 1), layer))
        same(sides.blank.layers[layer], expected_pair(state, others, layer))
    assert sides.image.bias is None and sides.blank.bias is None
    turned = project_images(adapter, negative, ALL, STRUCTURE, images)
    for layer in STRUCTURE:
        same(turned.blank.layers[layer], sides.image.layers[layer])
        same(turned.image.layers[layer], sides.blank.layers[layer])


@pytest.mark.parametrize("kind", ["base", "plus"])
@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 0.5)])
@pytest.mark.parametrize("more", [1, 2, 3, 4, 5])
def test_each_side_is_seen_as_it_is_alone(tmp_path, kind, weights, more):
    """Whatever the other side's number of images, and where the tokens do not come out even."""
    adapter, _ = make(tmp_path, kind)
    images, negative = embeds(2, weights), embeds(more, range(1, more + 1), seed=7)
    sides = project_images(adapter, images, ALL, STRUCTURE, negative)
    lengths = {len(k) for side in (sides.image, sides.blank) for k, _ in side.layers.values()}
    assert lengths == {max(2, more) * adapter.projector.tokens}
    assert all(side.bias is None or len(side.bias) in lengths for side in (sides.image, sides.blank))
    same_attention(sides.image, project_images(adapter, images, ALL, STRUCTURE).image)
    same_attention(sides.blank, project_images(adapter, negative, ALL, STRUCTURE).image)


@pytest.mark.parametrize("kind", ["base", "plus"])
@pytest.mark.parametrize(
    ("weights", "repeated"),
    [((2, 1), [0, 0, 1]), ((1, 3), [0, 1, 1, 1]), ((1, 0.5), [0, 0, 1]), ((4, 4), [0, 1]), ((0, 1), [1])],
)
def test_a_weight_is_the_image_so_many_times(tmp_path, kind, weights, repeated):
    adapter, _ = make(tmp_path, kind)
    images = embeds(2, weights)
    often = of(images, repeated, [1.0] * len(repeated))
    sides = project_images(adapter, images, ALL, STRUCTURE)
    expected = project_images(adapter, often, ALL, STRUCTURE)
    assert expected.image.bias is None
    assert (sides.image.bias is None) == (weights in ((4, 4), (0, 1)))
    same_attention(sides.image, expected.image)
    same_attention(sides.blank, expected.blank)


def test_the_bias_is_the_logarithm_of_the_weight_over_the_mean(tmp_path):
    """And minus infinity for the tokens that make up the number."""
    adapter, _ = make(tmp_path)
    sides = project_images(adapter, embeds(2, [3.0, 1.0]), ALL, STRUCTURE, embeds(3, [1.0, 2.0, 3.0], seed=7))
    logs = [math.log(w) if w else -math.inf for w in (1.5, 0.5, 0) for _ in range(4)]
    torch.testing.assert_close(sides.image.bias, torch.tensor(logs))
    logs = [math.log(w) for w in (0.5, 1.0, 1.5) for _ in range(4)]
    torch.testing.assert_close(sides.blank.bias, torch.tensor(logs))
    sides = project_images(adapter, embeds(4), ALL, STRUCTURE, embeds(2, [3.0, 1.0]))
    logs = [math.log(w) for w in (1.5, 0.5) for _ in range(4)]
    assert sides.image.bias is None
    torch.testing.assert_close(sides.blank.bias, torch.tensor(logs * 2))


@pytest.mark.parametrize("kind", ["base", "plus"])
def test_an_image_of_weight_0_is_absent(tmp_path, kind):
    adapter, _ = make(tmp_path, kind)
    images = embeds(3, [2.0, 0.0, 2.0])
    huge = torch.finfo(torch.float32).max  # finite, and no longer so in any sum
    images.pooled[1], images.hidden[1] = huge, huge
    sides = project_images(adapter, images, ALL, STRUCTURE, of(images, [1, 0], [0.0, 1.0]))
    expected = project_images(adapter, of(images, [0, 2], [1.0, 1.0]), ALL, STRUCTURE, of(images, [0], [1.0]))
    assert sides.image.bias is None and sides.blank.bias is None
    for layer in STRUCTURE:
        for a, b in ((sides.image, expected.image), (sides.blank, expected.blank)):
            assert all(torch.equal(x, y) for x, y in zip(a.layers[layer], b.layers[layer], strict=True))


def test_images_in_half_precision_are_projected_in_fp32(tmp_path):
    adapter, _ = make(tmp_path)
    images = embeds(2)
    half = StyleEmbeds(ENCODER, images.pooled.half(), images.hidden.half(), images.blank.half(), (1.0, 1.0))
    sides = project_images(adapter, half, ALL, STRUCTURE)
    assert all(t.dtype == torch.float32 for pair in sides.image.layers.values() for t in pair)


# What does not belong together.


def test_an_adapter_of_more_layers_than_the_model_is_refused(tmp_path):
    """The messages tell SDXL's 70 and SD1.5's 16 layers apart, by name."""
    seventy = {Layer("input", 4, i): 4 for i in range(70)}
    sixteen = {Layer("input", 1, i): 4 for i in range(16)}
    adapter, _ = make(tmp_path, structure=seventy, width=2048)
    phrase = (
        r"has a layer 139, and the model has 16 cross-attention layers, so the last is 31\. The adapter"
        r" is for"
        r" SDXL \(tokens of 2048\); the model has 16 layers \(SD1\.5's number\)"
    )
    with pytest.raises(ValueError, match=phrase):
        project_images(adapter, embeds(), {}, sixteen)
    refuse_structure(adapter, seventy, list(seventy))
    adapter, _ = make(tmp_path, structure=sixteen, width=768)
    with pytest.raises(ValueError, match=r"has nothing for input 4, it has only input 4"):
        refuse_structure(adapter, seventy, list(seventy))
    with pytest.raises(
        ValueError, match=r"layer 1 is 4 wide.* 5\. The adapter is for SD1\.5 \(tokens of 768\)"
    ):
        refuse_structure(adapter, dict.fromkeys(sixteen, 5), [])


def test_an_adapter_of_another_width_is_refused(tmp_path):
    adapter, _ = make(tmp_path, structure=STRUCTURE | {("output", 1, 1): 16})
    with pytest.raises(ValueError, match=r"layer 5 is 16 wide, and the model's \(output 1, layer 1\) 12"):
        project_images(adapter, embeds(), {("input", 4, 0): 1.0}, STRUCTURE)


def test_a_slim_file_serves_what_it_has(tmp_path):
    adapter, state = make(tmp_path, only=[3, 5])
    style = {("output", 1, 0): 1.0, ("output", 1, 1): 1.0}
    sides = project_images(adapter, embeds(), style, STRUCTURE)
    tokens = project(state["image_proj"], embeds().pooled)[0]
    same(sides.image.layers["output", 1, 1], expected_pair(state, tokens, ("output", 1, 1)))
    for more in (("input", 4, 0), ("middle", 0, 0)):
        with pytest.raises(
            ValueError, match=f"base.safetensors has nothing for {more[0]} {more[1]}, .* output 1"
        ):
            project_images(adapter, embeds(), style | {more: 1.0}, STRUCTURE)


def test_images_with_content_taken_out_are_refused_by_plus_adapters(tmp_path):
    changed = embeds(changed=True)
    adapter, _ = make(tmp_path, "base")
    project_images(adapter, changed, ALL, STRUCTURE)
    adapter, _ = make(tmp_path, "plus")
    for pair in ((changed, None), (embeds(), changed)):
        with pytest.raises(ValueError, match="content was subtracted .* this is a plus adapter.*Use a base"):
            project_images(adapter, pair[0], ALL, STRUCTURE, pair[1])


ENCODERS = {name: Encoder(*numbers) for numbers, name in KNOWN_ENCODERS.items()}
MADE_FOR = {
    ("base", 768): "CLIP ViT-L/14",
    ("base", 1024): "CLIP ViT-H/14",
    ("base", 1280): "CLIP ViT-bigG/14",
    ("plus", 1024): "CLIP ViT-L/14",
    ("plus", 1280): "CLIP ViT-H/14",
    ("plus", 1664): "CLIP ViT-bigG/14",
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize(("kind", "features"), MADE_FOR)
def test_every_wrong_pairing_is_refused_by_name_and_number(kind, features, name):
    projector, encoder, right = Projector(kind, 4, 2048, features), ENCODERS[name], MADE_FOR[kind, features]
    if name == right:
        return refuse_pairing(projector, encoder)
    with pytest.raises(ValueError) as caught:
        refuse_pairing(projector, encoder)
    message = str(caught.value)
    place = "projected" if kind == "base" else "hidden"
    assert f"made for {right} ({features} {place} channels)" in message
    assert f"encoder is {name} ({encoder.hidden} hidden, {encoder.projection} projected channels)" in message
    assert (FILES[right] in message) if right in FILES else ("clip_vision" not in message)


def test_unknown_encoders_are_named_by_their_numbers():
    with pytest.raises(
        ValueError, match="made for an encoder of 512 projected .* is an encoder of 7 hidden, 9 pro"
    ):
        refuse_pairing(Projector("base", 4, 2048, 512), Encoder(7, 9))
    with pytest.raises(ValueError, match="made for an encoder of 512 hidden channels, penultimate, and"):
        refuse_pairing(Projector("plus", 16, 2048, 512), Encoder(7, 512))
    refuse_pairing(Projector("plus", 16, 2048, 7), Encoder(7, 512))


@pytest.mark.parametrize(
    ("kind", "features", "hidden", "pooled"),
    [
        ("base", 1280, 1280, 1024),  # ViT-H's hidden states have bigG's number
        ("base", 1024, 1664, 1280),
        ("plus", 1664, 1280, 1024),
        ("plus", 1280, 1664, 1280),
        ("base", 1024, 1024, 768),
    ],
)
def test_wrong_pairings_do_not_get_through(tmp_path, kind, features, hidden, pooled):
    adapter, _ = make(tmp_path, kind, features=features)
    right = {"base": Encoder(9, features), "plus": Encoder(features, 9)}[kind]
    wrong = embeds(encoder=Encoder(hidden, pooled))
    for images, negative in ((wrong, None), (embeds(encoder=right), wrong)):
        with pytest.raises(ValueError, match="Load the encoder it is made for"):
            project_images(adapter, images, ALL, STRUCTURE, negative)
    project_images(adapter, embeds(encoder=right), ALL, STRUCTURE)
