"""Which layers share."""

import pytest

from tests.core.sdxl_layers import SDXL, SDXL_DEPTHS
from zsamb_core.layers import (
    Layer,
    block_name,
    block_names,
    left_alone,
    parse_blocks,
    published_order,
    read_name,
)


def test_the_published_order_is_down_up_middle():
    order = published_order(SDXL)
    assert len(order) == 70
    assert order[0] == ("input", 4, 0) and order[24] == ("output", 0, 0) and order[60] == ("middle", 0, 0)


@pytest.mark.parametrize(
    ("level", "count"), [(0, 0), (1, 70), (0.3, 24), (0.4, 35), (0.5, 35), (0.1, 7), (0.9, 63), (0.7, 46)]
)
def test_levels_are_quantised_as_published(level, count):
    """For .7: n = .3 * 70 = 21, every third layer would be alone at .3, which is 24; the complement is 46."""
    assert len(left_alone(SDXL, level)) == count


def test_a_level_takes_every_so_manyth_layer_from_the_first():
    order = published_order(SDXL)
    assert left_alone(SDXL, 0.3) == set(order[::3])
    assert left_alone(SDXL, 0.7) == set(order) - set(order[::3])


def test_edge_levels_are_sane():
    """Published: 0 < level < 1 / 70 divides by zero, and .9 counts (1 - .9) * 70 = 6.99... as 6."""
    assert left_alone(SDXL, 0.01) == frozenset()
    assert left_alone(SDXL, 0.995) == frozenset(SDXL)
    assert left_alone(SDXL, 0.9) == frozenset(SDXL) - left_alone(SDXL, 0.1)
    for level in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match="only_self_level"):
            left_alone(SDXL, level)


def test_blocks_are_named_as_the_host_names_them():
    blocks = list(SDXL_DEPTHS)
    assert parse_blocks("all", blocks) == parse_blocks(" ALL ", blocks) == frozenset(blocks)
    assert parse_blocks("input 4, output 0-2", blocks) == {("input", 4), *(("output", i) for i in range(3))}
    assert parse_blocks("middle, input_7", blocks) == {("middle", 0), ("input", 7)}
    assert parse_blocks("input", blocks) == {("input", i) for i in (4, 5, 7, 8)}
    assert parse_blocks("input 0-6", blocks) == {("input", 4), ("input", 5)}


@pytest.mark.parametrize("text", ["", " , ", "output 9", "input 4; output 1", "everything", "input -1"])
def test_unknown_blocks_are_refused(text):
    with pytest.raises(ValueError, match="blocks: .*input 4, input 5"):
        parse_blocks(text, list(SDXL_DEPTHS))


@pytest.mark.parametrize("text", ["output 1.0", "output 2-0", "output 1.", "output -1", "output \u0661"])
def test_layers_and_ranges_that_hold_nothing_are_no_blocks(text):
    with pytest.raises(ValueError, match="names no block of this model"):
        parse_blocks(text, list(SDXL_DEPTHS))


def test_a_layer_is_the_hosts_tuple_and_knows_its_block():
    layer = Layer("output", 1, 4)
    assert layer == ("output", 1, 4) and layer.block == ("output", 1)
    assert {layer: 1}["output", 1, 4] == {("output", 1, 4): 1}[layer] == 1
    assert sorted([("output", 1, 5), layer, ("input", 8, 0)])[1] is layer


def test_every_layer_is_read_as_it_is_written():
    for layer in SDXL:
        block, whole = read_name(block_name(layer.block, layer.position)), read_name(block_name(layer.block))
        assert (block.name, *block.numbers, *block.positions) == layer
        assert (whole.name, *whole.numbers) == layer.block and whole.positions is None
    assert block_names(layer.block for layer in SDXL).startswith("input 4, input 5, input 7, input 8, middle")
