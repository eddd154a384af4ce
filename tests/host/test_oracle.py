"""Every self-attention layer of the patched host against the paper's equations, written out here."""

import math

import pytest
import torch

pytestmark = pytest.mark.host


def normalise(x, ref):
    """Equation 2, per channel over tokens: (N, C) takes the mean and deviation of (M, C)."""
    deviation = (x.var(0, unbiased=True) + 1e-5).sqrt()
    return (x - x.mean(0)) / deviation * (ref.var(0, unbiased=True) + 1e-5).sqrt() + ref.mean(0)


def attention(q, k, v, shift_from=None, shift=0.0):
    """softmax(q k^T / sqrt(d)) v for one head, with ``shift`` on the logits of the keys from ``shift_from``
    on.
    """
    logits = q @ k.T / math.sqrt(q.shape[-1])
    if shift_from is not None:
        logits[:, shift_from:] += shift
    return torch.softmax(logits, -1) @ v


def layer_oracle(q, k, v, ref, target, heads, shift, scale):
    """Equation 3 for one target row: AdaIN on query and key, concatenation, softmax, head by head."""
    q_t, k_t = normalise(q[target], q[ref]), normalise(k[target], k[ref])
    width = q.shape[-1] // heads
    outs = []
    for h in range(heads):
        s = slice(h * width, (h + 1) * width)
        keys = torch.cat([k_t[:, s], scale * k[ref][:, s]])
        values = torch.cat([v[target][:, s], v[ref][:, s]])
        outs.append(attention(q_t[:, s], keys, values, len(k_t), shift))
    return torch.cat(outs, -1)


def plain_oracle(q, k, v, row, heads):
    width = q.shape[-1] // heads
    parts = [slice(h * width, (h + 1) * width) for h in range(heads)]
    return torch.cat([attention(q[row][:, s], k[row][:, s], v[row][:, s]) for s in parts], -1)


@pytest.fixture
def layers(demo):
    """Listen to every attn1 of the real UNet: its projections, and what reaches its output layer."""
    heard, handles = {}, []
    for name, module in demo.model.model.diffusion_model.named_modules():
        if name.endswith(".attn1"):
            record = heard.setdefault(name, {"heads": module.heads})
            for part in ("to_q", "to_k", "to_v"):

                def keep(_, __, out, record=record, part=part):
                    record[part] = out.detach().clone()

                handles.append(getattr(module, part).register_forward_hook(keep))

            def keep_input(_, inputs, record=record):
                record["out"] = inputs[0].detach().clone()

            handles.append(module.to_out.register_forward_pre_hook(keep_input))
    yield heard
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize("shift", [0.0, math.log(2)])
@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_every_layer_is_equation_3(demo, four, reference, layers, mode, shift, scale):
    extra = 1 if mode == "reference" else 0
    demo.sample(
        demo.patched(shift=shift, scale=scale, reference=reference if extra else None),
        four,
        steps=2,
        sampler="euler",
    )
    assert len(layers) == 12  # eleven blocks, one of which holds two
    worst = 0.0
    for record in layers.values():
        q, k, v = record["to_q"], record["to_k"], record["to_v"]
        assert q.dtype == torch.float32
        rows = q.shape[0] // 2
        assert rows == 4 + extra
        for chunk in range(2):
            ref = chunk * rows + (4 if extra else 0)
            expected = plain_oracle(q, k, v, ref, record["heads"])
            worst = max(worst, float((record["out"][ref] - expected).abs().max()))
            for target in range(chunk * rows, chunk * rows + rows):
                if target != ref:
                    expected = layer_oracle(q, k, v, ref, target, record["heads"], shift, scale)
                    worst = max(worst, float((record["out"][target] - expected).abs().max()))
    assert worst < 1e-5
