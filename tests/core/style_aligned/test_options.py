import math

import pytest

from zsamb_core.prompts import prompt_lines
from zsamb_core.style_aligned.options import PRESETS, AdaIN, Share, StyleOptions, shares_group_norms


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


def test_full_share_brings_no_adain_of_its_own():
    assert StyleOptions(share=Share(everyone=True)).resolved().adain is None
    assert StyleOptions(share=Share(everyone=True), adain=AdaIN()).resolved().adain == AdaIN()


def test_no_layers_is_inactive():
    assert not StyleOptions(share=Share(), adain=AdaIN(), layers=frozenset()).active


def test_group_norms_are_shared_only_with_attention():
    assert StyleOptions(share=Share(), group_norm=True).resolved().group_norm
    assert not StyleOptions(share=Share(0.0), adain=AdaIN(), group_norm=True).resolved().group_norm


def test_group_norms_by_choice():
    """auto: on in the authors' notebook for a picture from outside, off in those for prompts alone."""
    assert shares_group_norms("auto", True) and not shares_group_norms("auto", False)
    for reference in (True, False):
        assert shares_group_norms("on", reference) and not shares_group_norms("off", reference)
        assert shares_group_norms(True, reference) and not shares_group_norms(False, reference)


@pytest.mark.parametrize("choice", ["true", "", "Auto", 1, None, 0.5])
def test_no_other_choice_of_group_norms(choice):
    with pytest.raises(ValueError, match=r"share_group_norm is .*, expected auto, on, off"):
        shares_group_norms(choice, True)


def test_presets_are_the_published_ones():
    assert PRESETS["normal"] == (math.log(2), 1.0)
    assert PRESETS["famous"] == (0.0, 0.5)


def test_prompt_lines():
    assert prompt_lines("a cat\n\n  a dog \n", " in red ") == ["a cat in red", "a dog in red"]


@pytest.mark.parametrize("text", ["", " \n\n\t"])
def test_an_empty_prompt_set_is_an_error(text):
    with pytest.raises(ValueError, match="prompts input is empty"):
        prompt_lines(text)
