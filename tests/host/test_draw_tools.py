"""The tools behind the sheets and tables of docs draw with the pack's nodes as they are now."""

import numpy as np
import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture
def quick(pack, monkeypatch):
    """Fewer steps than the figures are drawn with."""
    from tools.draw import knobs

    monkeypatch.setattr(knobs, "SAMPLER", {**knobs.SAMPLER, "steps": 2})
    invert, execute = pack.nodes.references.DDIMInvert, pack.nodes.references.DDIMInvert.execute
    monkeypatch.setattr(invert, "execute", lambda **inputs: execute(**{**inputs, "steps": 2}))


def test_a_sheet_s_set(pack, quick):
    from tools.draw import adapter_knobs, knobs

    one = knobs.Set(pack, 3, 0)
    assert one.a.references[0].positive is not one.b.references[0].positive
    models = {"stock": one.base, "shared": one.share(), "normed": one.share(share_group_norm="on")}
    models["adapter"] = adapter_knobs.styled(one, "", "output 5 = 1").model
    drawn = {name: np.stack(one.pictures(model)) for name, model in models.items()}
    assert all(pictures.shape == (4, 128, 128, 3) for pictures in drawn.values())
    for name in ("shared", "normed", "adapter"):
        others = (drawn[other] for other in drawn if other != name)
        assert all(np.abs(drawn[name] - other).mean() > 1e-3 for other in others)


def test_a_table_s_set(pack, quick):
    from tools.draw import roles

    one = roles.Set(pack, 5)
    assert len({*one.objects, one.shown, one.absent}) == 6
    rows = {
        **{label: row for label, row in roles.by_block(one).items() if label in ("no adapter", "output 5")},
        **{label: row for label, row in roles.by_words(one).items() if label == "its object, 1"},
        "shared": roles.by_sharing(one)["output 3-5"],
    }
    drawn = [np.stack(one.pictures(make())) for make in rows.values()]
    assert len(drawn) == 4
    for i, pictures in enumerate(drawn):
        assert all(np.abs(pictures - other).mean() > 1e-3 for other in drawn[:i])
    judge = _Even()
    values = roles.measured(one, list(drawn[0]), judge)
    assert len(values) == len(roles.HEADS) and values[-1] == pytest.approx(1 / 12)


class _Even(torch.nn.Module):
    """A classifier that knows nothing."""

    def forward(self, x):
        return torch.zeros(len(x), 12)
