"""Beside other guidance, attention patches, caches and compilers of the host: with their strength at nothing
the picture is the one without them; otherwise it is finite and another.
"""

import pytest
import torch

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}


@pytest.fixture(params=["prompts only", "reference"])
def patch(request, demo, reference):
    """Puts the style patch on a model."""
    connected = reference if request.param == "reference" else None
    return lambda model=None, **settings: demo.patched(model, shift=0.7, reference=connected, **settings)


def result(node, *args):
    out = node(*args)
    return (out.result if hasattr(out, "result") else out)[0]


def perturbed(model, scale):
    from comfy_extras.nodes_pag import PerturbedAttentionGuidance

    return result(PerturbedAttentionGuidance.execute, model, 5 * scale)


def self_attention_guided(model, scale):
    from comfy_extras.nodes_sag import SelfAttentionGuidance

    return result(SelfAttentionGuidance.execute, model, scale, 2.0)


def normalised_attention(model, scale):
    """NAG at scale 1 guides by nothing; 2 is moderate."""
    from comfy_extras.nodes_nag import NAGuidance

    return result(NAGuidance.execute, model, 1.0 + scale, 0.5, 2.5)


def free_u(model, scale):
    from comfy_extras.nodes_freelunch import FreeU

    return result(FreeU.execute, model, 1 + scale * 0.3, 1 + scale * 0.4, 1 - scale * 0.1, 1 - scale * 0.8)


def hyper_tile(model, scale):
    from comfy_extras.nodes_hypertile import HyperTile

    tile = 32 if scale else 2048
    return result(HyperTile.execute, model, tile, 1, 1, False)


def merged_tokens(model, scale):
    from comfy_extras.nodes_tomesd import TomePatchModel

    return result(TomePatchModel.execute, model, 0.5 * scale)


PATCHES = {
    "PAG": perturbed,
    "NAG": normalised_attention,
    "FreeU": free_u,
    "HyperTile": hyper_tile,
    "ToMe": merged_tokens,
}


@pytest.mark.parametrize("name", PATCHES)
def test_at_nothing_it_is_not_there(demo, four, patch, name):
    plain = demo.sample(patch(), four)
    torch.testing.assert_close(demo.sample(PATCHES[name](patch(), 0.0), four), plain, **CLOSE)


@pytest.mark.parametrize("name", [n for n in PATCHES if n != "ToMe"])
def test_it_acts_beside_the_style_in_either_order(demo, four, patch, name):
    """ToMe merges tokens at the latent's own resolution alone, where SDXL has no attention."""
    import random

    def draw(model):
        torch.manual_seed(1)  # HyperTile draws its tiling
        random.seed(1)
        return demo.sample(model, four, size=16)  # of smaller ones HyperTile makes no tiles

    other = PATCHES[name]
    after, before = draw(other(patch(), 1.0)), draw(patch(other(demo.model, 1.0)))
    assert after.isfinite().all()
    torch.testing.assert_close(after, before, **CLOSE)
    assert (after - draw(patch())).abs().mean() > 0.01  # it acts
    assert (after - draw(other(demo.model, 1.0))).abs().mean() > 0.01  # and so does the style


def test_hypertile_tiles_attend_to_the_whole_reference(demo, four, reference, monkeypatch):
    """Not a fall back: rows come in tiles, four to a picture here, and each sees all reference tokens."""
    layers = demo.pack.nodes._host.style_aligned.layers
    seen, original = set(), layers.shared_attention

    def listen(q, k, v, parts, *others):
        seen.add((q.shape[1], q.shape[2], len(parts[0][0].k)))
        return original(q, k, v, parts, *others)

    monkeypatch.setattr(layers, "shared_attention", listen)
    demo.sample(hyper_tile(demo.patched(reference=reference), 1.0), four, size=16)
    assert (16, 16, 64) in seen
    seen.clear()
    demo.sample(hyper_tile(demo.patched(), 1.0), four, size=16)
    assert (12, 16, 64) in seen  # from prompts only, the first picture's tiles are the reference


def test_merged_queries_share_too(demo, four, patch):
    """What token merging does, at a resolution where SDXL has attention: every other query is left out."""

    def merge(q, k, v, extra):
        return q[:, ::2], k, v

    model = patch()
    model.set_model_attn1_patch(merge)
    model.set_model_attn1_output_patch(lambda n, extra: n.repeat_interleave(2, 1))
    out = demo.sample(model, four)
    assert out.isfinite().all()
    stock = demo.model.clone()
    stock.set_model_attn1_patch(merge)
    stock.set_model_attn1_output_patch(lambda n, extra: n.repeat_interleave(2, 1))
    assert (out - demo.sample(stock, four)).abs().mean() > 0.01


def test_moved_tokens_with_a_mask_are_refused(demo, four, reference):
    model = demo.patched(reference=demo.weigh(reference, mask=torch.ones(1, 16, 16)))
    with pytest.raises(ValueError, match="because a reference has a mask. HyperTile"):
        demo.sample(hyper_tile(model, 1.0), four, size=16)


def test_sag_keeps_its_one_layer_and_reads_the_right_rows(demo, four, patch, caplog):
    """At scale 0 it changes but the layer that it listens to, which then shares nothing."""
    without_middle = demo.sample(patch(blocks="input, output"), four)
    caplog.set_level("INFO")
    torch.testing.assert_close(
        demo.sample(self_attention_guided(patch(), 0.0), four), without_middle, **CLOSE
    )
    assert "belongs to another node and does not share" in caplog.text
    guided = demo.sample(self_attention_guided(patch(), 0.5), four)
    assert guided.isfinite().all() and not torch.equal(guided, without_middle)


def test_extra_guidance_calls_reuse_the_reference(demo, four, reference, monkeypatch):
    """PAG and SAG call the model again at the same noise level; the reference goes through it once."""
    module = demo.pack.nodes._host.style_aligned.call
    calls, original = [], module.call_with_references

    def count(executor, run, rows, *args):
        calls.append(len(rows))
        original(executor, run, rows, *args)

    monkeypatch.setattr(module, "call_with_references", count)
    model = perturbed(self_attention_guided(demo.patched(reference=reference), 0.5), 1.0)
    demo.sample(model, four, steps=4)
    assert calls == [2] * 4  # positive and negative together, once per step


@pytest.mark.parametrize("order", ["compiled first", "compiled last"])
def test_a_compiled_model_gives_the_same_picture(demo, four, patch, order, stock):
    """With the host's own wrapper and guard filter; the eager backend, since only tracing can differ. The
    window closes half-way, which a compiled constant would miss.
    """
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    def compiled(model):
        model = model.clone(disable_dynamic=True)
        set_torch_compile_wrapper(model, "eager", options={"guard_filter_fn": skip_torch_compile_dict})
        return model

    torch._dynamo.reset()
    window = {"end_percent": 0.5, "share_group_norm": True}
    expected = demo.sample(patch(**window), four)
    first = order == "compiled first"
    model = patch(compiled(demo.model), **window) if first else compiled(patch(**window))
    torch.testing.assert_close(demo.sample(model, four), expected, **CLOSE)
    assert torch.equal(stock, demo.sample(demo.model.clone(), four))


@pytest.mark.parametrize("name", ["EasyCacheNode", "LazyCacheNode"])
def test_step_caches_run_beside_it(demo, four, patch, name):
    """At threshold 0 they reuse nothing."""
    from comfy_extras import nodes_easycache

    node = getattr(nodes_easycache, name)
    cached = result(node.execute, patch(), 0.0, 0.15, 0.95, False)
    torch.testing.assert_close(
        demo.sample(cached, four, steps=6), demo.sample(patch(), four, steps=6), **CLOSE
    )
    reused = demo.sample(result(node.execute, patch(), 5.0, 0.15, 0.95, False), four, steps=6)
    assert reused.isfinite().all()


@pytest.mark.parametrize("first", ["stock", "patched", "off"])
def test_a_compiled_model_with_and_without_the_patch(demo, four, patch, first):
    """Both share what was compiled first, with or without the patches."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper
    from comfy_extras.nodes_torch_compile import skip_torch_compile_dict

    compiled = demo.model.clone()
    set_torch_compile_wrapper(compiled, "eager", options={"guard_filter_fn": skip_torch_compile_dict})
    models = {
        "stock": compiled,
        "patched": patch(compiled, end_percent=0.5),
        "off": patch(compiled, strength=0.0),
    }
    expected = {"stock": demo.model, "patched": patch(end_percent=0.5), "off": demo.model}
    torch._dynamo.reset()
    for name in (first, *(n for n in models if n != first)):
        latents, right = (demo.sample(m[name], four, scheduler="ddim_uniform") for m in (models, expected))
        torch.testing.assert_close(latents, right, rtol=0, atol=2e-3)
