import math

import pytest

from zsamb_core.options import AdaIN, Share, StyleOptions
from zsamb_core.prompts import prompt_lines


def test_nothing_asked_is_inactive():
    assert not StyleOptions().active


def test_strength_0_is_inactive():
    assert not StyleOptions(share=Share(strength=0.0)).active
    assert not StyleOptions(adain=AdaIN(strength=0.0)).active
    assert not StyleOptions(adain=AdaIN(queries=False, keys=False)).active


def test_sharing_brings_adain_unless_it_is_set():
    assert StyleOptions(share=Share(0.5)).resolved().adain == AdaIN(strength=0.5)
    assert StyleOptions(share=Share(), adain=AdaIN(strength=0.0)).resolved().adain is None
    assert StyleOptions(share=Share(0.0), adain=AdaIN()).resolved() == StyleOptions(adain=AdaIN())


def test_strength_is_a_factor_on_the_attention_mass():
    assert Share(0.5, math.log(2)).logit_shift == pytest.approx(0)


def test_prompt_lines():
    assert prompt_lines("a cat\n\n  a dog \n", " in red ") == ["a cat in red", "a dog in red"]


@pytest.mark.parametrize("text", ["", " \n\n\t"])
def test_an_empty_prompt_set_is_an_error(text):
    with pytest.raises(ValueError, match="prompts input is empty"):
        prompt_lines(text)
