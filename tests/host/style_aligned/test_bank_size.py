"""The memory that is told to the host is the memory that the references' features take."""

import pytest
import torch

from benchmarks import operators

MEGABYTE = 1e6


def features_of(demo, monkeypatch, model, prompts, **settings):
    """The run, and bytes of all tensors that its bank held at the last noise level."""
    call = demo.pack.nodes._host.style_aligned.call
    held = []

    def noted(bank):
        for _, _, features in bank._levels.values():
            layers = [layer for f in features.values() for layer in f.layers.values()]
            tensors = [x for f in layers for x in (f.k, f.v)]
            found = [s for f in layers for s in (f.queries, f.keys, f.values) if s is not None]
            tensors += [x for s in found for x in (s.mean, s.deviation)]
            held.append(sum(x.numel() * x.element_size() for x in tensors))

    runs = []
    prepare = demo.pack.nodes._host.style_aligned.patch.prepare_run
    with monkeypatch.context() as patch:
        patch.setattr(call.Bank, "clear", noted)
        patch.setattr(
            demo.pack.nodes._host.style_aligned.patch,
            "prepare_run",
            lambda *args: runs.append(prepare(*args)) or runs[-1],
        )
        demo.sample(model, prompts, steps=1, **settings)
    return runs[0], held[0]


@pytest.mark.parametrize("size", [8, 9, 13])
def test_what_is_told_is_what_is_held(demo, four, reference, other, monkeypatch, size):
    """Two references of one size, targets of others, some layers left out, values normalized too."""
    both = demo.weigh(other, 0.4, others=demo.weigh(reference, 0.6))
    model = demo.adain(demo.patched(reference=both, only_self_level=0.3), values=True)
    run, held = features_of(demo, monkeypatch, model, four, size=size)
    assert held == demo.pack.nodes._host.style_aligned.bank_size.bytes_of_bank(demo.model, run) > 0


def test_tokens_of_odd_sizes_are_the_layers_own(demo, star, four, monkeypatch):
    """A reference of 9 x 13 latents: halves are rounded up."""
    latent = torch.randn(1, 4, 9, 13, generator=torch.Generator().manual_seed(1))
    odd = demo.invert(None, steps=2, latent={"samples": latent})[0]
    run, held = features_of(demo, monkeypatch, demo.patched(reference=odd), four)
    assert held == demo.pack.nodes._host.style_aligned.bank_size.bytes_of_bank(demo.model, run)


def test_of_full_size_sdxl_at_1024_px(pack):
    """By arithmetic: 10 layers of 4096 x 640 and 60 of 1024 x 1280 keys, and as many values, in fp16."""
    sizes = pack.nodes._host.style_aligned.bank_size
    options = pack.zsamb_core.style_aligned.options
    plain = options.StyleOptions(share=options.Share(), adain=options.AdaIN(strength=0)).resolved()
    with torch.inference_mode(False), operators.fake():
        widths = pack.nodes._host.sdxl.self_attention(operators.fake_sdxl(torch.float16))
    assert len(widths) == 70
    keys = 10 * 4096 * 640 + 60 * 1024 * 1280
    assert sizes.bytes_of_features(widths, plain, (128, 128), 2) == 2 * keys * 2
    assert 2 * keys * 2 / MEGABYTE == pytest.approx(419.4, abs=0.1)
    with_adain = sizes.bytes_of_features(
        widths, options.StyleOptions(options.Share()).resolved(), (128, 128), 2
    )
    assert with_adain - 4 * keys == 2 * 2 * (10 * 640 + 60 * 1280) * 4  # means and deviations of q and k
