"""With little memory the host loads a part of a model's weights and fetches the others when they are used."""

import math
from dataclasses import replace

import pytest
import torch

pytestmark = pytest.mark.host
PART = 4 * 2**20  # bytes of the demo UNet's weights that are loaded, of some 44 MB


@pytest.fixture
def partly(demo, monkeypatch):
    """A demo model of its own that the host loads in part, as it does under --lowvram. On a CPU it loads all
    whatever the flag, so it is told here how much there is.
    """
    import comfy.model_management as management

    load = management.LoadedModel.model_load

    def part(self, lowvram_model_memory=0, force_patch_weights=False):
        return load(self, PART, force_patch_weights)

    own = replace(demo, model=demo.pack.nodes.demo_model.LoadDemoModel.execute().result[0])
    with monkeypatch.context() as patch:
        patch.setattr(management.LoadedModel, "model_load", part)
        yield own
    management.unload_all_models()


def is_partly_loaded(model):
    fetched = [m for m in model.model.modules() if getattr(m, "comfy_cast_weights", False)]
    return 0 < model.loaded_size() < model.model_size() and bool(fetched)


@pytest.mark.parametrize("kind", ["stock", "strength 0", "prompts alone", "a reference", "group norms"])
def test_what_is_drawn_is_the_same(demo, four, reference, partly, kind):
    def drawn(on):
        settings = {
            "stock": None,
            "strength 0": {"strength": 0.0, "reference": reference},
            "prompts alone": {"share_group_norm": "off"},
            "a reference": {"reference": reference, "shift": math.log(2)},
            "group norms": {"reference": reference, "share_group_norm": "on"},
        }[kind]
        model = on.model if settings is None else on.patched(**settings)
        return on.sample(model, four)

    in_part = drawn(partly)
    assert is_partly_loaded(partly.model)
    assert torch.equal(in_part, drawn(demo))


def test_an_inversion_is_the_same(demo, star, partly):
    in_part, noised = partly.invert(star, refinements=1)
    assert is_partly_loaded(partly.model)
    whole, expected = demo.invert(star, refinements=1)
    assert torch.equal(noised["samples"], expected["samples"])
    assert torch.equal(in_part.references[0].trajectory.points, whole.references[0].trajectory.points)
