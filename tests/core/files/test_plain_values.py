"""Nested values with tensors: as JSON and back, and what is refused."""

import json
from collections import OrderedDict

import pytest
import torch

from zsamb_core.files.plain_values import DEEPEST, put_together, taken_apart

ONE, TWO = torch.arange(3.0), torch.tensor(7)


def through(value):
    """By way of JSON, as a file has it."""
    tensors = {}
    return put_together(json.loads(json.dumps(taken_apart(value, tensors, "it", "0"))), tensors)


@pytest.mark.parametrize(
    "value",
    [
        None, True, False, 0, -(2**70), 0.1, 1 / 3, 5e-324, -0.0, "", "a \ud83d \u00e9 \n", [], (), {},
        [1, (2, [3.0]), {"a": ()}], {"tensor": "x"}, {"tuple": [1]}, {"dict": {"dict": 1}}, ("x", 0.5),
    ],
)  # fmt: skip
def test_what_goes_in_comes_out(value):
    """With its types: a list is no tuple, a dict that looks like a mark is no mark, True is not 1."""
    assert repr(through(value)) == repr(value)


def test_tensors_are_named_by_their_place_and_once_each():
    tensors = {}
    value = {"a": [ONE, (TWO, ONE)], "a.1": TWO.clone(), "b": ONE.clone()}
    plain = taken_apart(value, tensors, "it", "0")
    assert list(tensors) == ["0.a.0", "0.a.1.0", "0.a.1", "0.b"]
    back = put_together(plain, tensors)
    assert back["a"][0] is back["a"][1][1] is ONE and back["b"] is value["b"] and back["a.1"] is value["a.1"]


def test_two_tensors_never_have_one_name():
    tensors = {}
    back = put_together(taken_apart({"a": {"b": ONE}, "a.b": TWO}, tensors, "it", "0"), tensors)
    assert back["a"]["b"] is ONE and back["a.b"] is TWO and len(tensors) == 2


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (object(), "it is a object, which no file keeps"),
        ({"control": {"net": object()}}, "it: control: net is a object"),
        ([1, {2}], "it is a set"),
        (OrderedDict(a=1), "it is a OrderedDict"),
        ({1: 2}, "has a name that is 1, expected texts"),
        (float("nan"), "it is nan, expected a number"),
        ([float("-inf")], "it is -inf"),
        (torch.ones(2, dtype=torch.complex64), "tensor of kind complex64"),
        (torch.ones(2, device="meta"), "tensor of kind float32"),
    ],
)
def test_what_no_file_keeps_is_named(value, message):
    with pytest.raises(ValueError, match=message):
        taken_apart(value, {}, "it", "0")


def test_a_sparse_tensor_is_refused():
    """Apart from the values above, which live as long as the tests: others count the memory of all."""
    with pytest.raises(ValueError, match="tensor of kind float32, which no file keeps"):
        taken_apart(torch.ones(2, 2).to_sparse(), {}, "it", "0")


def test_what_is_nested_without_end_is_refused():
    row = []
    row.append(row)
    with pytest.raises(ValueError, match=f"more than {DEEPEST} levels"):
        taken_apart(row, {}, "it", "0")
    deep = []
    for _ in range(DEEPEST - 1):
        deep = [deep]
    assert through(deep) == deep
    for _ in range(3):
        deep = [deep]
    with pytest.raises(ValueError, match=f"more than {DEEPEST} levels"):
        put_together(deep, {})


@pytest.mark.parametrize(
    "value",
    [
        {"tensor": "none"}, {"tensor": ["0"]}, {"tensor": 0}, {"tuple": {}}, {"tuple": 1}, {"dict": []}, {},
        {"set": [1]}, {"dict": {}, "tuple": []}, float("nan"), float("inf"), {"dict": {"a": {}}},
    ],
)  # fmt: skip
def test_what_was_never_written_is_refused(value):
    with pytest.raises(ValueError, match="stands where a value|a number is"):
        put_together(value, {"0": ONE})
