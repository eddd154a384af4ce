"""The host's choice of attention: an override, or a flag, is kept by the patched layers too."""

import inspect
import logging

import pytest
import torch

MODES = {
    "prompts only": {},
    "reference": {"shift": 0.7},
    "everyone": {"share": "all pictures", "strength": 0.5},
}


def with_override(model, seen, factor=1.0):
    """As attention packs set it. It calls what the host would have called, and multiplies the result."""

    def override(function, q, k, v, heads, *args, **kwargs):
        mask = args[0] if args else kwargs.get("mask")
        seen.append((q.shape, k.shape, None if mask is None else mask.shape))
        return function(q, k, v, heads, *args, **kwargs) * factor

    clone = model.clone()
    options = clone.model_options["transformer_options"]
    clone.model_options["transformer_options"] = {**options, "optimized_attention_override": override}
    return clone


@pytest.mark.parametrize("mode", MODES)
def test_an_override_computes_the_shared_layers_too(demo, four, reference, mode, caplog):
    """It sees own and references' keys at once, and the picture is the merge's to rounding."""
    settings = {**MODES[mode], "reference": reference if mode == "reference" else None}
    merged = demo.sample(demo.patched(**settings), four)
    seen = []
    with caplog.at_level(logging.INFO):
        out = demo.sample(with_override(demo.patched(**settings), seen), four)
    torch.testing.assert_close(out, merged, rtol=0, atol=5e-3)  # of values up to 6
    assert [q for q, k, _ in seen if k[1] > q[1] and k[2] == q[2]], "no self-attention with more keys"
    assert "optimized_attention_override" in caplog.text and "in one piece" in caplog.text


def test_an_override_changes_what_it_changes_in_shared_layers(demo, four, reference):
    """Its result is used: with all attention halved the patched model draws another picture, before the patch
    and behind it the same.
    """
    halved = demo.sample(with_override(demo.patched(reference=reference), [], 0.5), four)
    before = demo.sample(demo.patched(with_override(demo.model, [], 0.5), reference=reference), four)
    assert torch.equal(halved, before)
    assert not torch.equal(halved, demo.sample(demo.patched(reference=reference), four))


def test_an_override_at_strength_0_is_stock_with_it(demo, four, reference, caplog):
    stock = demo.sample(with_override(demo.model, [], 0.5), four)
    with caplog.at_level(logging.INFO):
        off = demo.sample(with_override(demo.patched(strength=0.0, reference=reference), [], 0.5), four)
    assert torch.equal(off, stock)
    assert "in one piece" not in caplog.text


def test_a_quantized_attention_of_the_host_stays(pack, demo, four, reference, monkeypatch, caplog):
    """As under --use-sage-attention: the host's function is not one of the exact ones."""
    host = pack.nodes._host.style_aligned.host_attention
    exact, keys = host.optimized_attention, []

    def attention_sage(q, k, v, *args, **kwargs):
        keys.append(k.shape[1])
        coarse = ((x * 8).round() / 8 for x in (q, k, v))
        return exact(*coarse, *args, **kwargs)

    monkeypatch.setattr(host, "optimized_attention", attention_sage)
    with caplog.at_level(logging.INFO):
        coarse = demo.sample(demo.patched(shift=0.7, reference=reference), four)
    monkeypatch.undo()
    fine = demo.sample(demo.patched(shift=0.7, reference=reference), four)
    assert "the host's attention_sage" in caplog.text
    assert not torch.equal(coarse, fine)
    assert len(set(keys)) > 2  # of the reference alone, and of both


def test_without_a_choice_nothing_is_said_and_layers_merge(pack, demo, four, reference, caplog):
    host = pack.nodes._host.style_aligned.host_attention
    assert host.others_choice({}) is None
    with caplog.at_level(logging.INFO):
        demo.sample(demo.patched(reference=reference), four)
    assert "in one piece" not in caplog.text


def test_a_device_without_a_kernel_takes_the_hosts_attention(pack, demo, four, reference, monkeypatch):
    """As on MPS, AMD and DirectML."""
    merged = demo.sample(demo.patched(shift=0.7, reference=reference), four)
    monkeypatch.setattr(pack.zsamb_core.style_aligned.kernels, "KERNELS", ())
    out = demo.sample(demo.patched(shift=0.7, reference=reference), four)
    torch.testing.assert_close(out, merged, rtol=0, atol=5e-3)  # of values up to 6


def test_the_exact_functions_are_the_hosts(pack):
    """A name that the host gives up would leave its attention taken for a quantized one."""
    import comfy.ldm.modules.attention as module

    exact = pack.nodes._host.style_aligned.host_attention.EXACT
    functions = {n for n, f in vars(module).items() if n.startswith("attention") and inspect.isfunction(f)}
    assert exact <= functions
    assert "attention_sage" in functions - exact
    assert module.optimized_attention.__name__ in exact
