"""Draw the training set and encode it with the trained demo autoencoder, grouped by style.

A group is one style with all twelve objects in it, so that single pictures and sheets of several objects in
one style can be put together while training.
"""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from ..objects import OBJECTS
from ..pictures import draw
from ..styles import HELD_OUT, STYLES, random_style
from ..vae import SDXL_SCALE, VAE_CONFIG
from .hosting import WEIGHTS, device


def draw_group(job: tuple[str, int]) -> np.ndarray:
    """All objects in one style, (objects, 128, 128, 3) uint8. ``job`` is a style name ("" for a random one)
    and a seed.
    """
    name, seed = job
    rng = np.random.default_rng(seed)
    style = {**STYLES, **HELD_OUT}[name] if name else random_style(rng)
    return np.stack([(draw(o, style, rng) * 255).round().astype(np.uint8) for o in OBJECTS])


def encode_groups(named: int, random: int, seed: int) -> tuple[torch.Tensor, list[str]]:
    """Latents (groups, objects, 4, 16, 16) in model space, unit spread, and each group's style name ("" if
    random).
    """
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from safetensors.torch import load_file

    model = AutoencoderKL(**VAE_CONFIG).eval()
    model.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS / "vae.safetensors").items()})
    model.to(device())
    names = [n for n in STYLES for _ in range(named)] + [""] * random
    jobs = [(n, seed + i) for i, n in enumerate(names)]
    latents = []
    with ProcessPoolExecutor() as pool, torch.no_grad(), torch.autocast(device().type, torch.bfloat16):
        for i, group in enumerate(pool.map(draw_group, jobs, chunksize=8)):
            x = torch.from_numpy(group).permute(0, 3, 1, 2).to(device()).float() / 127.5 - 1
            latents.append((model.quant_conv(model.encoder(x))[:, :4].float() * SDXL_SCALE).half().cpu())
            if i % 500 == 0:
                print(f"group {i} of {len(jobs)}", flush=True)
    return torch.stack(latents), names
