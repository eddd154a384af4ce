"""Train the demo IP-Adapter on the frozen demo UNet: ``python -m demo.training.train_ip_adapter``.

Ye, Zhang, Liu, Han, Yang: *IP-Adapter* (arXiv 2308.06721): a linear projector makes four tokens of the image
encoder's embedding, and every cross-attention gets keys and values of its own for them, which start as those
for text (equation 5). Every block sees the picture that is to be drawn, object, pose and style; images and
captions are dropped now and then, for guidance. Nothing is trained towards a block's role: which block
carries style in this UNet is for the nodes to show. Writes ``weights/ip_adapter.safetensors`` (fp16, moving
averages).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from ..objects import OBJECTS
from ..unet import UNET_CONFIG
from .hosting import WEIGHTS, device, import_host
from .latents import encode_groups
from .measure import load_pack
from .train_unet import (
    Captions,
    TextTowers,
    attention_kernel,
    embedded_sizes,
    follow,
    noise_levels,
    words,
)

PAIRS = Path(__file__).resolve().parents[1] / "checkpoints" / "ip_adapter_pairs.pt"
TOKENS = 4


class Adapter(nn.Module):
    """A projector, and a pair of projections for each cross-attention layer, by its number in the file."""

    def __init__(self, features: int, context: int, widths: dict[int, int]):
        super().__init__()
        self.proj = nn.Linear(features, TOKENS * context)
        self.norm = nn.LayerNorm(context)
        self.layers = nn.ModuleDict(
            {
                str(number): nn.ModuleDict({p: nn.Linear(context, width, bias=False) for p in "kv"})
                for number, width in widths.items()
            }
        )

    def tokens(self, embeds: torch.Tensor) -> torch.Tensor:
        return self.norm(self.proj(embeds).unflatten(-1, (TOKENS, -1)))

    def names(self) -> dict[str, str]:
        """A file's name of each tensor by our own."""
        names = {
            f"{part}.{p}": f"image_proj.{part}.{p}" for part in ("proj", "norm") for p in ("weight", "bias")
        }
        return names | {
            f"layers.{n}.{p}.weight": f"ip_adapter.{n}.to_{p}_ip.weight" for n in self.layers for p in "kv"
        }


def patches(adapter: Adapter, numbers: dict, tokens: torch.Tensor, attention) -> dict:
    """The host's replacements of the cross-attentions: text's plus the image's."""

    def patch(number: int):
        k_ip, v_ip = (adapter.layers[str(number)][p](tokens) for p in "kv")

        def attend(q, k, v, extra):
            return attention(q, k, v, extra["n_heads"]) + attention(q, k_ip, v_ip, extra["n_heads"])

        return attend

    return {"patches_replace": {"attn2": {layer: patch(number) for layer, number in numbers.items()}}}


@torch.no_grad()
def encode_images(vision, named: int, random: int, seed: int) -> torch.Tensor:
    """Embeddings (groups, objects, D) of the pictures that `encode_groups` draws from the same numbers."""
    from .drawn import draw_groups

    groups, _ = draw_groups(named, random, seed)
    return torch.stack([vision.encode_image(g.movedim(1, -1).float() / 255)["image_embeds"] for g in groups])


def data(options, vision) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    PAIRS.parent.mkdir(exist_ok=True)
    if not PAIRS.exists():
        numbers = options.named, options.random, options.seed * 1_000_000
        latents, names = encode_groups(*numbers)
        torch.save([latents, encode_images(vision, *numbers), names], PAIRS)
    return torch.load(PAIRS, weights_only=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=28)
    parser.add_argument("--seed", type=int, default=8)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--named", type=int, default=20, help="groups of twelve pictures per named style")
    parser.add_argument("--random", type=int, default=900, help="groups in random styles")
    options = parser.parse_args()
    import_host()
    import comfy.ldm.modules.attention as attention
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    attention.optimized_attention = kernel = attention_kernel()
    pack = load_pack()
    model = pack.nodes.demo_model.load_demo_model()[0]
    widths = pack.nodes._host.sdxl.cross_attention(model, UNET_CONFIG["context_dim"], "Training")
    numbers = pack.zsamb_core.instantstyle.blocks.adapter_keys(widths)
    latents, embeds, names = data(options, pack.nodes.demo_model.load_demo_clip_vision())
    embeds = embeds.to(device())

    torch.manual_seed(options.seed)
    captions = Captions()
    towers = TextTowers(captions.token_ids)
    text = {k.replace(".transformer.", ".", 1): v for k, v in load_file(WEIGHTS / "text.safetensors").items()}
    assert text.pop("token_ids").tolist() == captions.token_ids
    towers.load_state_dict({k: v.float() for k, v in text.items()})
    unet = UNetModel(**UNET_CONFIG)
    state = {k: v.float() for k, v in load_file(WEIGHTS / "unet.safetensors").items()}
    unet.load_state_dict(state)
    for model in (towers, unet):
        model.to(device()).eval().requires_grad_(False)
    alpha_bar, sizes = noise_levels(), embedded_sizes()
    adapter = Adapter(
        embeds.shape[-1], UNET_CONFIG["context_dim"], {numbers[n]: w for n, w in widths.items()}
    )
    adapter.to(device())
    with torch.no_grad():
        # Both in the order of execution.
        blocks = [m for m in unet.modules() if isinstance(m, attention.BasicTransformerBlock)]
        for layer, block in zip(widths, blocks, strict=True):
            for p in "kv":
                adapter.layers[str(numbers[layer])][p].weight.copy_(getattr(block.attn2, f"to_{p}").weight)
    average = {k: v.detach().clone() for k, v in adapter.state_dict().items()}
    optimizer = torch.optim.AdamW(adapter.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    rng = np.random.default_rng(options.seed)
    start, step, mean = time.time(), 0, 0.0
    told = start
    objects = list(OBJECTS)
    while (done := (time.time() - start) / (60 * options.minutes)) < 1:
        rate = min(1, (step + 1) / 200) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * rate
        g = rng.integers(0, len(latents), options.batch)
        drawn = rng.integers(0, len(objects), options.batch)
        z = latents[g, drawn].float().to(device())
        image = embeds[g, drawn] * torch.from_numpy(rng.random(options.batch) > 0.1)[:, None].to(device())
        t = torch.randint(0, 1000, (options.batch,), device=z.device)
        a = alpha_bar[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        with torch.autocast(device().type, torch.bfloat16):
            with torch.no_grad():
                context, pooled = towers(
                    *captions.batch(
                        towers, [words(rng, objects[o], names[i]) for i, o in zip(g, drawn, strict=True)]
                    )
                )
            y = torch.cat([pooled, sizes.expand(len(z), -1)], 1)
            settings = patches(adapter, numbers, adapter.tokens(image), kernel)
            v = unet(
                a.sqrt() * z + (1 - a).sqrt() * noise,
                t.float(),
                context=context,
                y=y,
                transformer_options=settings,
            )
        loss = F.mse_loss(v.float(), a.sqrt() * noise - (1 - a).sqrt() * z)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(adapter.parameters(), 1.0)
        optimizer.step()
        step += 1
        follow(average, adapter, step, 0.998)
        mean = 0.99 * mean + 0.01 * loss.item() if mean else loss.item()
        if time.time() - told > 60:
            told = time.time()
            print(f"{(told - start) / 60:.1f} min step {step}: loss {mean:.4f}", flush=True)
            save(adapter, average)
    save(adapter, average)
    print(f"{step} steps", flush=True)


def save(adapter: Adapter, average: dict[str, torch.Tensor]) -> None:
    names = adapter.names()
    save_file(
        {names[k]: v.half().contiguous().cpu() for k, v in average.items()},
        WEIGHTS / "ip_adapter.safetensors",
    )


if __name__ == "__main__":
    main()
