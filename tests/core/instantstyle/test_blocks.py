"""Adapter layers by number, presets by role, and weights as text."""

import random
import re

import pytest

from tests.core.sdxl_layers import SDXL, SDXL_DEPTHS
from zsamb_core.instantstyle.blocks import PRESETS, adapter_keys, layer_weights, parse_weights, preset_weights
from zsamb_core.layers import Layer

SD15 = [
    *(Layer("input", i, 0) for i in (1, 2, 4, 5, 7, 8)),
    Layer("middle", 0, 0),
    *(Layer("output", i, 0) for i in range(3, 12)),
]


def numbers(keys, name, number):
    return [keys[layer] for layer in keys if layer[:2] == (name, number)]


def odd(first, last):
    return list(range(first, last + 1, 2))


def test_sdxl_layers_have_the_published_numbers():
    keys = adapter_keys(SDXL)
    assert numbers(keys, "output", 1) == odd(69, 87)
    assert numbers(keys, "input", 8) == odd(29, 47)
    assert numbers(keys, "middle", 0) == odd(121, 139)
    assert numbers(keys, "input", 4) == [1, 3] and numbers(keys, "output", 0) == odd(49, 67)
    assert numbers(keys, "output", 5) == [117, 119]
    assert sorted(keys.values()) == odd(1, 139) and len(keys) == 70


def test_sd15_layers_have_the_published_numbers():
    keys = adapter_keys(SD15)
    assert [keys["input", i, 0] for i in (1, 2, 4, 5, 7, 8)] == odd(1, 11)
    assert [keys["output", i, 0] for i in range(3, 12)] == odd(13, 29)
    assert keys["middle", 0, 0] == 31 and len(keys) == 16


@pytest.mark.parametrize("layers", [SDXL, SD15], ids=["SDXL", "SD1.5"])
def test_numbers_do_not_depend_on_the_order_of_layers(layers):
    mixed = random.Random(0).sample(layers, len(layers))
    assert adapter_keys(mixed) == adapter_keys(layers)


def by_block(weights):
    """{block: weight}, of whole blocks only."""
    blocks = {}
    for layer, weight in weights.items():
        blocks.setdefault(layer[:2], set()).add(weight)
    assert all(len(values) == 1 for values in blocks.values())
    return {block: values.pop() for block, values in blocks.items()}


SDXL_PRESETS = {
    "style": {("output", 1): 1},
    "layout": {("input", 8): 1},
    "style and layout": {("input", 8): 1, ("output", 1): 1},
    "precise style": {("input", 8): -1, ("output", 1): 1},
    "strong style": {block: 1 for block in SDXL_DEPTHS if block != ("input", 8)},
    "all": dict.fromkeys(SDXL_DEPTHS, 1),
}
SD15_STYLE = {("output", i): 1 for i in (3, 4, 5)}
SD15_LAYOUT = [("input", 7), ("input", 8), ("middle", 0)]
SD15_PRESETS = {
    "style": SD15_STYLE,
    "layout": dict.fromkeys(SD15_LAYOUT, 1),
    "style and layout": SD15_STYLE | dict.fromkeys(SD15_LAYOUT, 1),
    "precise style": SD15_STYLE | dict.fromkeys(SD15_LAYOUT, -1),
    "strong style": {layer[:2]: 1 for layer in SD15 if layer[:2] not in SD15_LAYOUT},
    "all": {layer[:2]: 1 for layer in SD15},
}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets(preset):
    for layers, expected in ((SDXL, SDXL_PRESETS), (SD15, SD15_PRESETS)):
        weights = preset_weights(preset, layers)
        assert by_block(weights) == expected[preset]
        assert list(weights) == [layer for layer in layers if layer[:2] in expected[preset]]


@pytest.mark.parametrize("preset", PRESETS)
def test_only_all_is_for_other_models(preset):
    strange = [Layer("input", 1, 0), Layer("input", 2, 0), Layer("output", 0, 0)]
    if preset == "all":
        assert preset_weights(preset, strange) == dict.fromkeys(strange, 1.0)
    else:
        with pytest.raises(
            ValueError, match=f"preset {preset} is known for .*input 1, input 2, output 0.*preset all"
        ):
            preset_weights(preset, strange)


@pytest.mark.parametrize("preset", ["", "Style", "content", "style  and layout"])
def test_unknown_presets_are_refused(preset):
    with pytest.raises(ValueError, match=f"preset is {preset!r}, expected one of style, layout"):
        preset_weights(preset, SDXL)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", {}),
        (" ,;\n", {}),
        ("output 1 = 1", {("output", 1, None): 1}),
        ("OUTPUT 1=0.5", {("output", 1, None): 0.5}),
        ("output_1 : -0.3", {("output", 1, None): -0.3}),
        ("output1=1e-1", {("output", 1, None): 0.1}),
        ("middle 0 = +2", {("middle", 0, None): 2}),
        ("input 7-8 = -0.3", {("input", 7, None): -0.3, ("input", 8, None): -0.3}),
        ("input 7 - 8 = 10", {("input", 7, None): 10, ("input", 8, None): 10}),
        ("output 1.3 = 0", {("output", 1, 3): 0}),
        ("output 1.0-2 = .5", {("output", 1, i): 0.5 for i in range(3)}),
        ("input 4-5.0-1 = 1", {("input", b, i): 1 for b in (4, 5) for i in (0, 1)}),
        ("output 1 = 1, output 1.0 = 0.5", {("output", 1, None): 1, ("output", 1, 0): 0.5}),
        ("output 1 = 1\noutput 2 = 2; input 4 = 3,", {("output", 1, None): 1, ("output", 2, None): 2,
                                                      ("input", 4, None): 3}),
        ("output 0-5 = 1, output 1 = 0", {("output", i, None): int(i != 1) for i in range(6)}),
        ("input 5-5 = 1", {("input", 5, None): 1}),
    ],
)  # fmt: skip
def test_weights_that_are_read(text, expected):
    assert parse_weights(text) == expected


@pytest.mark.parametrize(
    "item",
    [
        "output 1", "output 1 =", "= 1", "output = 1", "output 1 = x", "output 1 = 1 2", "output 1 = nan",
        "output 1 = inf", "output 1 = 10.1", "output 1 = -11", "up 1 = 1", "output -1 = 1", "output 1. = 1",
        "output .1 = 1", "output 1.1.1 = 1", "output 1- = 1", "output 1 2 = 1", "all = 1", "1 = 1",
        "output 1 == 1",
    ],
)  # fmt: skip
def test_weights_that_are_refused(item):
    with pytest.raises(ValueError, match=f"layers: {re.escape(repr(item))} is not a weight"):
        parse_weights(f"input 4 = 1, {item}\noutput 0 = 1")


@pytest.mark.parametrize("item", ["output 5-3 = 1", "output 1.4-0 = 1"])
def test_ranges_that_run_backwards_are_refused(item):
    with pytest.raises(ValueError, match=f"{item}' has a range that ends before it starts"):
        parse_weights(item)


def test_endless_ranges_are_refused():
    with pytest.raises(ValueError, match="is not a weight"):
        parse_weights("output 1-999999999999 = 1")


def test_random_text_is_read_or_refused():
    rng = random.Random(0)
    pieces = [
        *"_-.=:,;10e+ \n\t\x00\\(",
        "input",
        "output",
        "middle",
        "77",
        "nan",
        "inf",
        "9" * 50,
        "{}",
        "%s",
    ]
    pieces += ["\u0661", "\u00b2", "\u0130"]  # digits of other kinds, and a letter that lower() makes two of
    for _ in range(3000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randrange(14)))
        if rng.random() < 0.5:
            text = "output 1" + text + "= 1"
        try:
            weights = parse_weights(text)
        except ValueError:
            continue
        assert all(-10 <= weight <= 10 for weight in weights.values())
        try:
            layer_weights(weights, SDXL)
        except ValueError:
            continue


def test_a_layers_own_weight_counts_before_its_blocks():
    weights = layer_weights(
        parse_weights("output 1.0-4 = 0.5, output 1 = 1, output 1.9 = 0, input 4 = -2"), SDXL
    )
    expected = {("output", 1, i): 0.5 if i < 5 else 1.0 for i in range(9)}
    assert weights == expected | {("input", 4, 0): -2, ("input", 4, 1): -2}
    # In the order of the model.
    assert list(weights) == [layer for layer in SDXL if layer in weights]


def test_zeros_are_left_out_even_where_the_model_has_nothing():
    assert layer_weights(parse_weights("output 1 = 0, input 99 = 0, output 0.44 = 0"), SDXL) == {}
    assert layer_weights({}, SDXL) == {}
    assert layer_weights(parse_weights("output 1 = 0, output 1.2 = 1"), SDXL) == {("output", 1, 2): 1}


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("input 6 = 1", "input 6"),
        ("output 0-6 = 1", "output 6"),
        ("middle 1 = 1", "middle 1"),
        ("output 1.10 = 1", "output 1.10"),
        ("input 4.0-2 = -1", "input 4.2"),
        ("input 9.0 = 1", "input 9.0"),
    ],
)
def test_weights_on_what_the_model_lacks_are_refused(text, what):
    with pytest.raises(
        ValueError, match=f"the model has no {what}; its blocks are input 4, input 5, .*output 5"
    ):
        layer_weights(parse_weights(text), SDXL)
