"""Colors of the demo's latents, for previews while drawing: ``python -m demo.training.latent_rgb``.

Least squares of decoded pictures, averaged over the 8 x 8 pixels of each latent pixel, on the latents. Writes
``weights/latent_rgb.json``: ``factors`` (4, 3) and ``bias`` (3,) as ComfyUI's latent formats have them, for
latents in model space and colors in -1..1, and ``r2``, the explained variance of pictures left out of the
fit.
"""

import json

import torch
import torch.nn.functional as F
from torch import Tensor

from ..vae import SDXL_SCALE, VAE_CONFIG
from .hosting import WEIGHTS, device, import_host
from .train_vae import drawn

PICTURES, SEED = 96, 9
FILE = WEIGHTS / "latent_rgb.json"


def pairs(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Of (B, 3, 128, 128) uint8: latents (B * 256, 4) in model space, and the decoded colors there (B * 256,
    3) in -1..1.
    """
    from comfy.ldm.models.autoencoder import AutoencoderKL
    from safetensors.torch import load_file

    model = AutoencoderKL(**VAE_CONFIG).eval()
    model.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS / "vae.safetensors").items()})
    model.to(device())
    latents, colors = [], []
    with torch.no_grad():
        for batch in pictures.split(8):
            z = model.quant_conv(model.encoder(batch.to(device()).float() / 127.5 - 1))[:, :4]
            decoded = model.decoder(model.post_quant_conv(z)).clamp(-1, 1)
            latents.append(z * SDXL_SCALE)
            colors.append(F.avg_pool2d(decoded, 8))
    return tuple(torch.cat(x).movedim(1, -1).flatten(0, 2).double().cpu() for x in (latents, colors))


def fit(latents: Tensor, colors: Tensor) -> tuple[Tensor, Tensor]:
    """``factors`` (4, 3) and ``bias`` (3,) of the least squared error."""
    ones = torch.ones(len(latents), 1, dtype=latents.dtype)
    solved = torch.linalg.lstsq(torch.cat([latents, ones], 1), colors).solution
    return solved[:-1], solved[-1]


def explained(latents: Tensor, colors: Tensor, factors: Tensor, bias: Tensor) -> float:
    """R^2 over all three colors."""
    rest = (colors - latents @ factors - bias).square().sum()
    return 1 - float(rest / (colors - colors.mean(0)).square().sum())


def main() -> None:
    import_host()
    factors, bias = fit(*pairs(drawn(PICTURES, SEED)))
    r2 = explained(*pairs(drawn(PICTURES // 2, SEED + 1)), factors, bias)
    rows = [[round(x, 4) for x in row] for row in factors.tolist()]
    values = {"factors": rows, "bias": [round(x, 4) for x in bias.tolist()], "r2": round(r2, 4)}
    FILE.write_text(json.dumps(values, indent=1) + "\n")
    print(f"R^2 {r2:.4f} on {PICTURES // 2} other pictures, in {FILE}")


if __name__ == "__main__":
    main()
