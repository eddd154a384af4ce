"""Train the demo autoencoder on drawn pictures: ``python -m demo.training.train_vae --minutes 14``.

L1 and L2 on the picture, and Gaussian noise of a tenth of the latents' spread on the way to the decoder,
which keeps the latent space smooth. At the end the latents are scaled to the standard deviation that SDXL's
have, so that the host's SDXL latent format fits. Writes ``weights/vae.safetensors`` (fp16).
"""

import argparse
import math
import time

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from zsamb_core.style_aligned.inversion import psnr as psnr_of_one

from ..objects import OBJECTS
from ..pictures import draw, training_style
from ..vae import SDXL_SCALE, VAE_CONFIG
from .hosting import WEIGHTS, device, import_host, initialize

NOISE = 0.1


def drawn(count: int, seed: int) -> torch.Tensor:
    """``count`` training pictures, (count, 3, 128, 128) uint8."""
    rng = np.random.default_rng(seed)
    names = list(OBJECTS)
    pictures = np.stack(
        [
            (draw(names[i % len(names)], training_style(rng), rng) * 255).round().astype(np.uint8)
            for i in range(count)
        ]
    )
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    """Mean over pictures of the peak signal-to-noise ratio in dB, for values in 0..1."""
    return float(np.mean([psnr_of_one(x, y) for x, y in zip(a, b, strict=True)]))


def export(model, pictures: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights in fp16, with the latents' scale folded into the two 1x1 convolutions."""
    with torch.no_grad():
        z = model.quant_conv(model.encoder(pictures.to(device()).float() / 127.5 - 1))[:, :4]
        factor = 1 / (SDXL_SCALE * float(z.std()))
        state = {k: v.detach().clone().float().cpu() for k, v in model.state_dict().items()}
        state["quant_conv.weight"][:4] *= factor
        state["quant_conv.bias"][:4] *= factor
        state["quant_conv.weight"][4:] = 0
        state["quant_conv.bias"][4:] = 2 * math.log(NOISE / SDXL_SCALE)
        state["post_quant_conv.weight"] /= factor
    return {k: v.half().contiguous() for k, v in state.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=14)
    parser.add_argument("--pictures", type=int, default=9600)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    import_host()
    from comfy.ldm.models.autoencoder import AutoencoderKL

    torch.manual_seed(options.seed)
    model = initialize(AutoencoderKL(**VAE_CONFIG)).to(device()).train()
    pictures, held = drawn(options.pictures, options.seed), drawn(48, options.seed + 1)
    print(
        f"{len(pictures)} pictures, {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4)
    generator = torch.Generator().manual_seed(options.seed)
    start, step = time.time(), 0
    WEIGHTS.mkdir(exist_ok=True)
    while (done := (time.time() - start) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = (
                1e-3 * min(1, (step + 1) / 100) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done)))
            )
        # Crops first, for many cheap steps; whole pictures last, for the statistics that the host will meet.
        side, batch = (64, 8) if done < 0.6 else (128, 3)
        picked = pictures[torch.randint(len(pictures), (batch,), generator=generator)]
        top, left = torch.randint(0, 129 - side, (2,), generator=generator).tolist()
        picked = picked[:, :, top : top + side, left : left + side]
        x = picked.to(device()).float() / 127.5 - 1
        with torch.autocast(device().type, torch.bfloat16):
            z = model.quant_conv(model.encoder(x))[:, :4]
            noisy = z + NOISE * z.detach().std() * torch.randn_like(z)
            y = model.decoder(model.post_quant_conv(noisy)).float()
        loss = F.l1_loss(y, x) + 2 * F.mse_loss(y, x) + 1e-4 * z.float().square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 500 == 0:
            with torch.no_grad():
                h = held.to(device()).float() / 127.5 - 1
                out = model.decoder(model.post_quant_conv(model.quant_conv(model.encoder(h))[:, :4]))
                quality = psnr(out.clamp(-1, 1) / 2 + 0.5, h / 2 + 0.5)
            print(
                f"{(time.time() - start) / 60:.1f} min step {step} loss {loss.item():.4f} held-out PSNR"
                f" {quality:.2f} dB",
                flush=True,
            )
            save_file(export(model, pictures[:256]), WEIGHTS / "vae.safetensors")
    save_file(export(model, pictures[:256]), WEIGHTS / "vae.safetensors")


if __name__ == "__main__":
    main()
