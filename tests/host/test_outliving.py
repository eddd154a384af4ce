"""What newer hosts ask of values that outlive a node or a model call: their size, and where they are
allocated.
"""

from contextlib import contextmanager

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from .style_aligned.styling import make_adapter, make_embeds, styled

pytestmark = pytest.mark.host


class Allocated(TorchDispatchMode):
    """Notes of every tensor's memory whether it was allocated in a pause."""

    def __init__(self):
        super().__init__()
        self.paused, self.places = False, {}

    @contextmanager
    def pause(self):
        before, self.paused = self.paused, True
        try:
            yield
        finally:
            self.paused = before

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        views = any(r.alias_info is not None for r in func._schema.returns)
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, torch.Tensor) and not views:
                self.places[x.untyped_storage().data_ptr()] = self.paused
        return out

    def all_paused(self, tensors):
        return all(self.places.get(t.untyped_storage().data_ptr(), True) for t in tensors)


def test_what_is_kept_of_a_model_call_is_allocated_in_a_pause(pack, demo, reference, tmp_path, monkeypatch):
    """As a host that records the allocations of a model's blocks wants it. Its pause is stood in for here:
    0.30 has none.
    """
    host = pack.nodes._host
    allocated, features, placed = Allocated(), [], []
    for module in (host.outliving, host.style_aligned.layers, host.instantstyle.style_images):
        monkeypatch.setattr(module, "outliving", allocated.pause)
    clear, get = host.style_aligned.call.Bank.clear, host.instantstyle.style_images.Call.placed

    def noted_clear(bank):
        features.extend(f for _, _, level in bank._levels.values() for f in level.values())
        clear(bank)

    def noted_get(call, key, make):
        placed.append(get(call, key, make))
        return placed[-1]

    monkeypatch.setattr(host.style_aligned.call.Bank, "clear", noted_clear)
    monkeypatch.setattr(host.instantstyle.style_images.Call, "placed", noted_get)
    adapter = make_adapter(pack, demo.model, tmp_path / "a.safetensors")
    images = make_embeds(pack, count=2, weights=(1.0, 2.0))
    model = styled(pack, demo.model, adapter, images, mask=torch.ones(1, 8, 8))[0]
    model = demo.adain(demo.patched(model, reference=reference, share_group_norm=True), values=True)
    with allocated:
        out = demo.sample(model, demo.encode("a cat"), batch=1, steps=1)
    layers = [layer for f in features for layer in f.layers.values()]
    tensors = [t for layer in layers for t in (layer.k, layer.v)]
    tensors += [t for x in layers for s in (x.queries, x.keys, x.values) for t in (s.mean, s.deviation)]
    tensors += [t for f in features for n in f.norms.values() for t in (n.mean, n.variance)]
    tensors += [t for x in placed for t in (x if isinstance(x, tuple) else (x,))]
    assert len(tensors) > 300 and len(placed) >= 3
    assert allocated.all_paused(tensors)
    monkeypatch.undo()
    assert torch.equal(demo.sample(model, demo.encode("a cat"), batch=1, steps=1), out)


def test_style_values_tell_the_cache_their_size(demo, pack, reference):
    masked = demo.weigh(reference, mask=torch.ones(1, 8, 8), others=reference)
    path = reference.references[0].trajectory
    size = sum(t.numel() * t.element_size() for t in masked._comfy_cache_tensors())
    assert size == 2 * 4 * (path.points.numel() + path.sigmas.numel()) + 4 * 64
    embeds = make_embeds(pack, count=3)
    expected = embeds.pooled.numel() + embeds.hidden.numel() + embeds.blank.numel()
    assert sum(t.numel() for t in embeds._comfy_cache_tensors()) == expected
