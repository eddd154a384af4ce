"""Beside ControlNets, LoRAs, image adapters and inpainting: what should be equal is, and none of them meets
the reference.
"""

from contextlib import contextmanager

import pytest
import torch

pytestmark = pytest.mark.host
CLOSE = {"rtol": 0, "atol": 2e-3}
CPU = torch.device("cpu")


def randomized(module, seed, scale=0.05):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, generator=generator) * scale)
    return module


def control_net(seed=1):
    """A ControlNet of the host's own class, with the demo UNet's shape and random weights."""
    import comfy.cldm.cldm
    import comfy.controlnet
    import comfy.ops

    from demo.unet import UNET_CONFIG

    config = {k: v for k, v in UNET_CONFIG.items() if k not in ("out_channels", "transformer_depth_output")}
    operations = comfy.ops.disable_weight_init
    net = comfy.cldm.cldm.ControlNet(**config, hint_channels=3, dtype=torch.float32, operations=operations)
    return comfy.controlnet.ControlNet(randomized(net, seed), load_device=CPU)


def controlled(demo, positive, net, strength=1.0):
    from nodes import ControlNetApplyAdvanced

    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(3))
    return ControlNetApplyAdvanced().apply_controlnet(
        positive, demo.encode(""), net, hint, strength, 0.0, 1.0
    )


@contextmanager
def rows_seen(module):
    """The batch size of each call of a torch module."""
    sizes = []
    handle = module.register_forward_pre_hook(
        lambda _, args, kwargs: sizes.append((args[0] if args else kwargs["x"]).shape[0]), with_kwargs=True
    )
    yield sizes
    handle.remove()


@contextmanager
def bank_of(demo, monkeypatch):
    """What the references leave in the layers, in the order of the calls."""
    keys = []
    module = demo.pack.nodes._host.style_aligned.call
    original = module.call_with_references

    def keep(executor, run, rows, recorded, *args):
        original(executor, run, rows, recorded, *args)
        keys.extend(f.layers["output", 5, 0].k.clone() for f in recorded)

    with monkeypatch.context() as patch:
        patch.setattr(module, "call_with_references", keep)
        yield keys


@pytest.fixture(params=["prompts only", "reference"])
def patched(request, demo, reference):
    return demo.patched(shift=0.7, reference=reference if request.param == "reference" else None)


def test_a_controlnet_acts_and_never_runs_on_the_reference(demo, four, reference, monkeypatch):
    net = control_net()
    model = demo.patched(reference=reference)
    with bank_of(demo, monkeypatch) as without:
        plain = demo.sample(model, four)
    positive, negative = controlled(demo, four, net)
    with rows_seen(net.control_model) as rows, bank_of(demo, monkeypatch) as with_control:
        out = demo.sample(model, positive, negative)
    assert set(rows) == {8}  # four pictures, positive and negative
    assert not torch.equal(out, plain) and out.isfinite().all()
    assert len(without) == len(with_control) == 2 * demo.steps
    # The first step's noise is the same with and without: so are the reference's features at every step.
    for a, b in zip(without, with_control, strict=True):
        assert torch.equal(a, b)


def test_a_controlnet_of_strength_0_is_none(demo, four, patched):
    positive, negative = controlled(demo, four, control_net(), strength=0.0)
    torch.testing.assert_close(demo.sample(patched, positive, negative), demo.sample(patched, four), **CLOSE)


def test_controlnets_agree_joint_and_separate_and_in_a_chain(demo, four, patched, monkeypatch):
    one = controlled(demo, four, control_net(1))
    from nodes import ControlNetApplyAdvanced

    hint = torch.rand(1, 128, 128, 3, generator=torch.Generator().manual_seed(4))
    two = ControlNetApplyAdvanced().apply_controlnet(*one, control_net(2), hint, 0.5, 0.0, 1.0)
    joint = demo.sample(patched, *two, size=16)
    assert not torch.equal(joint, demo.sample(patched, *one, size=16))
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(patched), "get_free_memory", lambda self, device: 0)
        separate = demo.sample(patched, *two, size=16)
    torch.testing.assert_close(separate, joint, **CLOSE)


def lora_file(demo, seed=1, scale=0.1):
    """A LoRA in the format that files have, on every attention projection of the UNet."""
    generator, lora = torch.Generator().manual_seed(seed), {}
    for name, p in demo.model.model.diffusion_model.named_parameters():
        if ".attn" in name and name.endswith(("to_q.weight", "to_k.weight", "to_v.weight")):
            key = "lora_unet_" + name.removesuffix(".weight").replace(".", "_")
            lora[f"{key}.lora_up.weight"] = torch.randn(p.shape[0], 2, generator=generator) * scale
            lora[f"{key}.lora_down.weight"] = torch.randn(2, p.shape[1], generator=generator) * scale
            lora[f"{key}.alpha"] = torch.tensor(2.0)
    return lora


def with_lora(demo, model, strength=1.0):
    import comfy.sd

    return comfy.sd.load_lora_for_models(model, None, lora_file(demo), strength, 0.0)[0]


def test_a_lora_acts_on_pictures_and_reference_in_either_order(demo, four, reference, monkeypatch, stock):
    with bank_of(demo, monkeypatch) as plain_bank:
        plain = demo.sample(demo.patched(reference=reference), four)
    with bank_of(demo, monkeypatch) as lora_bank:
        first = demo.sample(demo.patched(with_lora(demo, demo.model), reference=reference), four)
    second = demo.sample(with_lora(demo, demo.patched(reference=reference)), four)
    assert torch.equal(first, second)
    assert not torch.equal(first, plain)
    assert not torch.equal(plain_bank[0], lora_bank[0])
    assert torch.equal(demo.sample(demo.model, four), stock)


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_an_image_adapter_in_cross_attention_sees_the_pictures_alone(demo, four, reference, mode):
    """As IP-Adapter packs do: attn2 replaced, image tokens beside the text's."""
    from comfy.ldm.modules.attention import optimized_attention

    sizes = []

    def adapter(q, k, v, extra):
        sizes.append(q.shape[0])
        image = torch.randn(1, 4, k.shape[-1], generator=torch.Generator().manual_seed(1)).expand(
            len(q), -1, -1
        )
        heads = extra["n_heads"]
        return optimized_attention(q, k, v, heads) + 0.3 * optimized_attention(q, image, image, heads)

    def with_adapter(model):
        model = model.clone()
        model.set_model_attn2_replace(adapter, "output", 1)
        return model

    connected = reference if mode == "reference" else None
    patched = demo.patched(shift=0.7, reference=connected)
    after = demo.sample(with_adapter(patched), four)
    assert set(sizes) == {8}
    assert not torch.equal(after, demo.sample(patched, four))
    before = demo.patched(with_adapter(demo.model), shift=0.7, reference=connected)
    assert torch.equal(after, demo.sample(before, four))


def test_an_inpainting_mask_keeps_what_it_keeps(demo, four, patched, star):
    latent = {"samples": demo.vae.encode(star).repeat(4, 1, 1, 1)}
    mask = torch.zeros(1, 1, 128, 128)
    mask[..., 64:] = 1
    out = demo.sample(patched, four, latent={**latent, "noise_mask": mask})
    torch.testing.assert_close(out[..., :8], latent["samples"][..., :8], rtol=0, atol=1e-2)
    assert (out[..., 8:] - latent["samples"][..., 8:]).abs().mean() > 0.1
    assert not torch.equal(out, demo.sample(demo.model, four, latent={**latent, "noise_mask": mask}))


@pytest.fixture(scope="module")
def inpainter(demo, pack):
    """The demo model with an inpainting model's nine input channels."""
    import comfy.model_patcher

    host = pack.nodes._host.demo_model
    config = host.DemoSDXL({**host.UNET_CONFIG, "in_channels": 9})
    config.set_inference_dtype(torch.float32, None)
    model = config.get_model({}, device=CPU)
    weights = {k: v.clone() for k, v in demo.model.model.diffusion_model.state_dict().items()}
    first = weights["input_blocks.0.0.weight"]
    extra = torch.randn(first.shape[0], 5, 3, 3, generator=torch.Generator().manual_seed(1)) * 0.02
    weights["input_blocks.0.0.weight"] = torch.cat([first, extra], 1)
    model.diffusion_model.load_state_dict(weights)
    return comfy.model_patcher.ModelPatcher(model, CPU, CPU)


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_an_inpainting_model_agrees_joint_and_separate(
    demo, inpainter, four, reference, star, mode, monkeypatch
):
    from nodes import InpaintModelConditioning

    model = demo.patched(inpainter, shift=0.7, reference=reference if mode == "reference" else None)
    mask = torch.zeros(1, 128, 128)
    mask[..., 64:] = 1
    positive, negative, latent = InpaintModelConditioning().encode(
        four, demo.encode(""), star, demo.vae, mask
    )
    latent = {k: v.repeat(4, *[1] * (v.ndim - 1)) for k, v in latent.items()}
    joint = demo.sample(model, positive, negative, latent=latent)
    assert joint.isfinite().all()
    assert not torch.equal(joint, demo.sample(inpainter, positive, negative, latent=latent))
    with monkeypatch.context() as low_memory:
        low_memory.setattr(type(model), "get_free_memory", lambda self, device: 0)
        separate = demo.sample(model, positive, negative, latent=latent)
    torch.testing.assert_close(separate, joint, **CLOSE)


def test_inversion_with_an_inpainting_model(demo, inpainter, star):
    _, latent = demo.invert(star, model=inpainter)
    assert latent["samples"].isfinite().all()
