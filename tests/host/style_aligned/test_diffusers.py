"""StyleAligned through a whole SDXL network, against the paper's equations written here on diffusers.

One set of random weights is in the host's UNet and in diffusers' ``UNet2DConditionModel``. This side keeps
the paper's variance-preserving latents z = sqrt(abar) x0 + sqrt(1 - abar) eps and diffusers' DDIM; the pack
and the host compute in x = z * sqrt(1 + sigma^2) with Euler steps. The two share no code and no variables.
"""

import copy
import math

import comfy.samplers
import pytest
import torch
from diffusers import DDIMScheduler

from .twins import CONTEXT, POOLED, diffusers_unet, host_model

pytestmark = pytest.mark.host

HEIGHT, WIDTH = 12, 16  # of the latents; unequal, so that a swap would show
STEPS, TARGETS, CFG, INVERSION_CFG = 10, 3, 3.0, 2.0
# Largest difference of two final latents, whose deviation is about 16. Rounding in fp32 leaves 1e-4.
TOLERANCE = 5e-4


def prompt(seed, rows=1):
    """Random embeddings (rows, 77, C) and pooled ones (rows, P), as text encoders would give them."""
    generator = torch.Generator().manual_seed(seed)
    context = torch.randn(rows, 77, CONTEXT, generator=generator)
    return context, torch.randn(rows, POOLED, generator=generator)


def latents(seed, rows):
    return torch.randn(rows, 4, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed))


# Each target has its own prompt, and the reference has prompts of its own on both sides of the guidance.
PROMPTS, NEGATIVE = prompt(1, TARGETS), prompt(2)
REFERENCE, REFERENCE_NEGATIVE = prompt(3), prompt(4)
NOISE, PICTURE = latents(5, TARGETS), latents(6, 1)


def per_half(x):
    """Rows [uncond_ref, uncond targets.., cond_ref, cond targets..] as (2, rows of a half, ...)."""
    return x.unflatten(0, (2, -1))


def reference_of(x):
    """``x`` with every row replaced by the first of its own half, the reference."""
    return per_half(x)[:, :1].expand_as(per_half(x)).flatten(0, 1)


def normalize(x):
    """Equation 2: each channel of (B, N, C) takes the reference's mean and deviation over tokens."""
    mean, deviation = x.mean(1, keepdim=True), (x.var(1, keepdim=True, unbiased=True) + 1e-5).sqrt()
    return (x - mean) / deviation * reference_of(deviation) + reference_of(mean)


class AlignedAttention:
    """Equation 3 as an attention processor: softmax(q [k, scale k_ref]^T / sqrt(d) + shift) [v, v_ref].

    The reference attends to itself twice, as published, but at scale 1: a second copy of its tokens changes
    nothing. The pack leaves that row to the host's plain attention, which this checks.
    """

    def __init__(self, shift, scale):
        self.shift, self.scale = shift, scale

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, temb=None):
        q, k = normalize(attn.to_q(hidden_states)), normalize(attn.to_k(hidden_states))
        v = attn.to_v(hidden_states)
        scale = torch.full((len(k), 1, 1), self.scale)
        per_half(scale)[:, 0] = 1.0
        keys, values = torch.cat([k, scale * reference_of(k)], 1), torch.cat([v, reference_of(v)], 1)
        q, keys, values = (x.unflatten(-1, (attn.heads, -1)).transpose(1, 2) for x in (q, keys, values))
        logits = q @ keys.mT / math.sqrt(q.shape[-1])
        logits[..., k.shape[1] :] += self.shift
        return attn.to_out[0]((logits.softmax(-1) @ values).transpose(1, 2).flatten(2))


def aligned(network, shift, scale, group_norm):
    """A copy of ``network`` with shared attention in every attn1 and, if asked, shared group norms."""
    network = copy.deepcopy(network)
    own = AlignedAttention(shift, scale)
    processors = network.attn_processors
    network.set_attn_processor({n: own if ".attn1." in n else p for n, p in processors.items()})
    norms = [m for m in network.modules() if isinstance(m, torch.nn.GroupNorm)] if group_norm else []
    for norm in norms:

        def forward(x, norm=norm):
            """The image normalized with the reference below it: one set of statistics for both."""
            both = torch.cat([x, reference_of(x)], 2)
            return torch.nn.GroupNorm.forward(norm, both)[:, :, : x.shape[2]]

        norm.forward = forward
    return network


@pytest.fixture(scope="module")
def network():
    unet = diffusers_unet()
    for name, parameter in unet.named_parameters():
        if ".attn1.to_q." in name or ".attn1.to_k." in name:
            parameter *= 2  # at torch's initial weights attention is nearly uniform
            # The epsilon of equation 2 counts in channels that hardly vary.
            parameter[::2] *= 0.01 if ".to_q." in name else 100
        elif name == "conv_out.weight":
            parameter *= 1.5
    return unet


@pytest.fixture(scope="module")
def model(network):
    return host_model(network)


@pytest.fixture(scope="module")
def schedule():
    """SDXL's noise levels. Ten steps take the timesteps 999, 899 .. 99, as the host's "simple" does."""
    schedule = DDIMScheduler(clip_sample=False, timestep_spacing="trailing", set_alpha_to_one=True)
    # diffusers makes these products in fp32, where they err by 1e-5.
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    schedule.alphas_cumprod = (1 - betas).cumprod(0)
    schedule.set_timesteps(STEPS)
    return schedule


def guided_noise(network, z, t, positive, negative, cfg):
    """Classifier-free guidance at timestep ``t``, both halves in one batch."""
    context, pooled = (torch.cat([n, p]) for n, p in zip(negative, positive, strict=True))
    size = [HEIGHT * 8, WIDTH * 8]
    added = {"text_embeds": pooled, "time_ids": torch.tensor([[*size, 0, 0, *size]] * len(pooled))}
    out = network(torch.cat([z, z]), int(t), context, added_cond_kwargs=added).sample
    uncond, cond = out.chunk(2)
    return uncond + cfg * (cond - uncond)


def stack(*prompts):
    return [torch.cat(parts) for parts in zip(*prompts, strict=True)]


def invert(network, schedule):
    """PICTURE's path, latent by timestep, by the published rule: from z at t' to z at t > t' with the noise
    that the network sees in z(t') at the *target* timestep t.
    """
    abar, path, z, low = schedule.alphas_cumprod, {}, PICTURE, 0
    for t in schedule.timesteps.flip(0).tolist():
        eps = guided_noise(network, z, t, REFERENCE, REFERENCE_NEGATIVE, INVERSION_CFG)
        x0 = (z - (1 - abar[low]).sqrt() * eps) / abar[low].sqrt()
        z = path[t] = abar[t].sqrt() * x0 + (1 - abar[t]).sqrt() * eps
        low = t
    return path


def generate(network, schedule, path=None):
    """The targets by DDIM. A ``path`` adds the reference as the first row, set to it before each step."""
    z, positive, negative = NOISE, PROMPTS, [NEGATIVE] * TARGETS
    if path is not None:
        z, positive = torch.cat([PICTURE, z]), stack(REFERENCE, positive)
        negative = [REFERENCE_NEGATIVE, *negative]
    for t in schedule.timesteps:
        if path is not None:
            z = torch.cat([path[int(t)], z[1:]])
        eps = guided_noise(network, z, t, positive, stack(*negative), CFG)
        z = schedule.step(eps, t, z).prev_sample
    return z[-TARGETS:]


def conditioning(embeddings):
    return [[embeddings[0], {"pooled_output": embeddings[1]}]]


def host_sigmas(model):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)


def host_invert(pack, model):
    """STYLE_REFERENCE and LATENT of PICTURE."""
    return pack.nodes.references.DDIMInvert.execute(
        model=model, latent={"samples": model.model.process_latent_out(PICTURE)},
        positive=conditioning(REFERENCE), negative=conditioning(REFERENCE_NEGATIVE),
        steps=STEPS, cfg=INVERSION_CFG, refinements=0, scheduler="simple",
    ).result  # fmt: skip


def host_aligned(pack, model, reference, shift, scale, group_norm):
    return pack.nodes.style_aligned.SharedAttention.execute(
        model=model, strength=1.0, preset="custom", score_shift=shift, score_scale=scale, share="reference",
        blocks="all", only_self_level=0.0, start_percent=0.0, end_percent=1.0, share_group_norm=group_norm,
        reference=reference,
    ).result[0]  # fmt: skip


def host_generate(model):
    """The targets by the host's guider and Euler sampler, which starts at x = NOISE * sqrt(1 + sigma^2)."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(conditioning(PROMPTS), conditioning(NEGATIVE))
    guider.set_cfg(CFG)
    euler, empty = comfy.samplers.sampler_object("euler"), torch.zeros_like(NOISE)
    out = guider.sample(NOISE.clone(), empty, euler, host_sigmas(model), disable_pbar=True)
    return model.model.process_latent_in(out)


@pytest.fixture(scope="module")
def inverted(pack, network, model, schedule):
    """The pack's (STYLE_REFERENCE, LATENT), and the path found here."""
    with torch.inference_mode():
        return *host_invert(pack, model), invert(network, schedule)


@pytest.fixture(scope="module")
def unaligned(model):
    with torch.inference_mode():
        return host_generate(model)


def distance(a, b):
    return float((a - b).abs().max())


def test_both_networks_are_one(network, model, schedule, unaligned):
    """Without the pack: the same noise at the same timestep, noise levels and whole run."""
    host, abar = model.model, schedule.alphas_cumprod[schedule.timesteps]
    sigmas = ((1 - abar) / abar).sqrt()
    torch.testing.assert_close(host_sigmas(model)[:-1].double(), sigmas, rtol=1e-6, atol=0)
    y = host.encode_adm(pooled_output=PROMPTS[1], width=WIDTH * 8, height=HEIGHT * 8)
    for t in (999, 99, 0):
        eps = host.diffusion_model(NOISE, torch.full((TARGETS,), t), context=PROMPTS[0], y=y)
        assert distance(eps, guided_noise(network, NOISE, t, PROMPTS, PROMPTS, 1.0)) < 1e-5
    assert distance(unaligned, generate(network, schedule)) < TOLERANCE


def test_inversion_is_the_published_rule(model, schedule, inverted):
    _, latent, path = inverted
    point = model.model.process_latent_in(latent["samples"]) * schedule.alphas_cumprod[999].sqrt()
    assert distance(point, path[999]) < TOLERANCE
    assert distance(point, PICTURE) > 100 * TOLERANCE


@pytest.mark.parametrize(
    "shift, scale, group_norm",
    [(0.0, 1.0, False), (math.log(2), 1.0, True), (math.log(2), 0.5, False)],
)
@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_a_whole_run_is_the_papers(
    pack, network, model, schedule, inverted, unaligned, mode, shift, scale, group_norm
):
    """Targets aligned to a picture's inverted path, or all to the first of them, as both sides draw them."""
    reference, _, path = inverted if mode == "reference" else (None, None, None)
    targets = host_generate(host_aligned(pack, model, reference, shift, scale, group_norm))
    expected = generate(aligned(network, shift, scale, group_norm), schedule, path)
    assert distance(targets, expected) < TOLERANCE
    assert distance(targets, unaligned) > 100 * TOLERANCE
