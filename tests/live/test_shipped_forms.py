"""Workflows that people saved from this repository go on working: every form that was ever shipped."""

import numpy as np
import pytest

from tests.live import shipped_forms
from tests.live.stand_ins import save_pictures
from tools.hosting import workflows

pytestmark = pytest.mark.live
FORMS = [form for form in shipped_forms.shipped() if form["kind"] == "api"]
# What ships now is drawn by test_server; of forms that differ in their texts one is drawn.
NOW = {shipped_forms.shape(form["form"]) for form in shipped_forms.current() if form["kind"] == "api"}
OLD = {shipped_forms.shape(form["form"]): form for form in reversed(FORMS)}
DRAWN = [form for shape, form in OLD.items() if shape not in NOW or "pictures" in form]
LEVELS = 1.0  # of 255, that small pictures may differ in the mean, on another processor
# Forms whose pictures were wrong, and what made them right.
FIRST = "from prompts alone the first picture is no ControlNet's, as published"
MENDED = {"style_aligned_canny": FIRST, "style_aligned_depth": FIRST}


def test_what_ships_now_is_kept():
    new = [form for form in shipped_forms.current() if not shipped_forms.has(shipped_forms.shipped(), form)]
    names = [f"{form['kind']} {form['name']}" for form in new]
    assert not names, "run `python -m tests.live.shipped_forms`, and commit the file it writes"


@pytest.fixture(scope="module")
def pictures(server, stand_ins):
    """As they were: tests that draw through a studio save theirs under the same names."""
    save_pictures(server.base / "input")


def twin_as_it_was(form):
    """A demo twin that keeps its style words, as all did at first."""
    twin = workflows.demo_twin(form)
    for key, node in form.items():
        if "style" in node["inputs"]:
            twin[key]["inputs"]["style"] = node["inputs"]["style"]
    return twin


@pytest.mark.parametrize("form", DRAWN, ids=[form["name"] for form in DRAWN])
def test_a_form_draws_what_it_drew(server, pictures, form):
    drawn = server.run(workflows.with_steps(twin_as_it_was(form["form"]), 2))
    assert drawn and all(picture.std() > 0.01 for picture in drawn)
    if "pictures" in form and form["name"] not in MENDED:
        after = [shipped_forms.small(picture).astype(float) for picture in drawn]
        before = shipped_forms.read(form["pictures"])
        differ = [float(np.abs(a - b).mean()) for a, b in zip(after, before, strict=True)]
        assert max(differ) < LEVELS, differ
