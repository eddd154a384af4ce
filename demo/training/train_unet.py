"""Train the demo UNet and its two text encoders together:
``python -m demo.training.train_unet --minutes 95``.

v-prediction with zero terminal SNR, so that the noise does not decide the palette. A third of the steps draw
single pictures. The others draw contact sheets: four pictures of different objects in one style, each with
its own caption, which see each other through self-attention alone (convolutions and norms stay within a
picture), so that self-attention learns to carry style. On every other sheet each picture has a noise level
of its own: a clear picture next to a noisy one teaches that fast. AdaIN, shifts and one-way sharing are
never trained.

On Linux without CUDA, glibc gives the large tensors back to the system at every
step; with ``MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=20000000000 MALLOC_TOP_PAD_=500000000`` in the
environment it keeps them, which is 1.5 times as fast. Writes ``weights/unet.safetensors`` and
``weights/text.safetensors`` (fp16, moving averages).
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from ..objects import OBJECTS
from ..pictures import caption
from ..styles import STYLES
from ..unet import SAMPLING, TEXT_G_CONFIG, TEXT_L_CONFIG, UNET_CONFIG
from .hosting import WEIGHTS, device, import_host, initialize
from .latents import encode_groups

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "unet.pt"
UNKNOWN = 0  # row of the compact vocabulary that stands for every word the captions never use


class TextTowers(nn.Module):
    """The two encoders over a compact vocabulary; their layers have the host's names."""

    def __init__(self, token_ids: list[int]):
        super().__init__()
        from transformers import CLIPTextConfig, CLIPTextModelWithProjection

        self.rows = {t: i + 1 for i, t in enumerate(token_ids)}
        common = {
            "vocab_size": len(token_ids) + 1,
            "eos_token_id": self.rows[49407],
            "bos_token_id": self.rows[49406],
            "attn_implementation": "eager",
        }
        self.clip_l = CLIPTextModelWithProjection(CLIPTextConfig(**{**TEXT_L_CONFIG, **common}))
        self.clip_g = CLIPTextModelWithProjection(CLIPTextConfig(**{**TEXT_G_CONFIG, **common}))

    def compact(self, ids: list[int]) -> list[int]:
        return [self.rows.get(t, UNKNOWN) for t in ids]

    def forward(self, l_ids: torch.Tensor, g_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Context (B, 77, 192), the penultimate states of L and G side by side as SDXL has them, and G's
        pooled (B, 128).
        """
        l_out = self.clip_l(l_ids, output_hidden_states=True)
        g_out = self.clip_g(g_ids, output_hidden_states=True)
        return torch.cat([l_out.hidden_states[-2], g_out.hidden_states[-2]], -1), g_out.text_embeds


class Captions:
    """Caption text to the compact token rows of both encoders, remembered, since captions repeat."""

    def __init__(self):
        from comfy.sdxl_clip import SDXLTokenizer

        self.tokenizer = SDXLTokenizer()
        words = {
            t for o in OBJECTS for s in (None, *STYLES) for t in self.ids(f"{caption(o, s)}, {caption(o)}")[0]
        }
        self.token_ids = sorted(words | {0, 49406, 49407})
        self.known: dict[str, tuple[list[int], list[int]]] = {}

    def ids(self, text: str) -> tuple[list[int], list[int]]:
        tokens = self.tokenizer.tokenize_with_weights(text)
        return [t for t, _ in tokens["l"][0]], [t for t, _ in tokens["g"][0]]

    def batch(self, towers: TextTowers, texts: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        for text in texts:
            if text not in self.known:
                l_ids, g_ids = self.ids(text)
                self.known[text] = towers.compact(l_ids), towers.compact(g_ids)
        rows = [self.known[t] for t in texts]
        return torch.tensor([r[0] for r in rows]).to(device()), torch.tensor([r[1] for r in rows]).to(
            device()
        )


def words(rng: np.random.Generator, obj: str, style: str) -> str:
    """A caption: sometimes with the style's name, sometimes empty, sometimes with words the model does not
    know.
    """
    if rng.random() < 0.1:
        return ""
    text = caption(obj, style if style and rng.random() < 0.4 else None)
    # Two words outside the vocabulary, to train the unknown row.
    return text + ", xylophone quartz" if rng.random() < 0.06 else text


def draw_batch(rng, latents: torch.Tensor, names: list[str], count: int, per_style: int):
    """Latents (count * per_style, 4, h, w) and their captions: ``per_style`` different objects of each of
    ``count`` styles.
    """
    objects, x, texts = list(OBJECTS), [], []
    for g in rng.integers(0, len(latents), count):
        picked = rng.choice(len(objects), per_style, replace=False)
        x.append(latents[g, picked].float())
        texts += [words(rng, objects[i], names[g]) for i in picked]
    return torch.cat(x), texts


class SheetAttention:
    """The host's attention function, with self-attention across each run of ``rows`` pictures."""

    def __init__(self, attention):
        self.attention, self.rows = attention, 1

    def __call__(self, q, k, v, heads, *args, **kwargs):
        if self.rows == 1 or q.shape != k.shape:  # cross-attention keeps to its own caption
            return self.attention(q, k, v, heads, *args, **kwargs)
        q, k, v = (x.reshape(-1, self.rows * x.shape[1], x.shape[2]) for x in (q, k, v))
        out = self.attention(q, k, v, heads, *args, **kwargs)
        return out.reshape(-1, out.shape[1] // self.rows, out.shape[2])


def attention_kernel():
    """The host's attention function to train with."""
    import comfy.ldm.modules.attention as attention

    # On a CPU the fused kernel's backward is far slower than two plain matrix products.
    return attention.attention_basic if device().type == "cpu" else attention.attention_pytorch


def noise_levels() -> torch.Tensor:
    """The product of alphas up to each of the 1000 steps."""
    from comfy.model_sampling import ModelSamplingDiscrete

    sigmas = ModelSamplingDiscrete(type("C", (), {"sampling_settings": SAMPLING})()).sigmas.to(device())
    return 1 / (1 + sigmas.square())


def embedded_sizes() -> torch.Tensor:
    """What SDXL's UNet is told of a picture's size, crop and target, behind the pooled text (1536)."""
    from comfy.ldm.modules.diffusionmodules.openaimodel import Timestep

    embed, side, crop = Timestep(256), torch.tensor([128.0]), torch.zeros(1)
    return torch.cat([embed(s) for s in (side, side, crop, crop, side, side)]).flatten().to(device())


@torch.no_grad()
def follow(average: dict[str, torch.Tensor], model: nn.Module, step: int, most: float) -> None:
    """Move the average towards the weights, fast at first and by 1 - ``most`` in the end."""
    current, decay = model.state_dict(), min(most, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.values()), [current[k] for k in average], 1 - decay)


def export(unet: dict[str, torch.Tensor], text: dict[str, torch.Tensor], token_ids: list[int]) -> None:
    WEIGHTS.mkdir(exist_ok=True)
    save_file({k: v.half().contiguous().cpu() for k, v in unet.items()}, WEIGHTS / "unet.safetensors")
    saved = {k.replace(".", ".transformer.", 1): v.half().contiguous().cpu() for k, v in text.items()}
    saved["token_ids"] = torch.tensor(token_ids, dtype=torch.int32)
    save_file(saved, WEIGHTS / "text.safetensors")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=95)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--named", type=int, default=90, help="groups of twelve pictures per named style")
    parser.add_argument("--random", type=int, default=1900, help="groups in random styles")
    parser.add_argument("--resume", action="store_true")
    options = parser.parse_args()
    import_host()
    import comfy.ldm.modules.attention as attention
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    attention.optimized_attention = sheet_attention = SheetAttention(attention_kernel())

    torch.manual_seed(options.seed)
    captions = Captions()
    towers = TextTowers(captions.token_ids).to(device())
    unet = initialize(UNetModel(**UNET_CONFIG)).to(device()).train()
    for (
        name,
        module,
    ) in unet.named_modules():  # residual branches start at zero, as in the papers the UNet follows
        if name.endswith(("out_layers.3", "proj_out")) or name == "out.2":
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)
    alpha_bar, sizes = noise_levels(), embedded_sizes()
    models = nn.ModuleDict({"unet": unet, "text": towers})
    average = {k: v.detach().clone() for k, v in models.state_dict().items()}
    optimizer = torch.optim.AdamW(models.parameters(), lr=5e-4, betas=(0.9, 0.99), weight_decay=0.01)
    step, before = 0, 0.0
    if options.resume:
        saved = torch.load(CHECKPOINT, weights_only=True)
        models.load_state_dict(saved["models"])
        optimizer.load_state_dict(saved["optimizer"])
        average, step, before = saved["average"], saved["step"], saved["seconds"]
    cached = CHECKPOINT.with_name("latents.pt")
    CHECKPOINT.parent.mkdir(exist_ok=True)
    if cached.exists():
        latents, names = torch.load(cached, weights_only=True)
    else:
        latents, names = encode_groups(options.named, options.random, options.seed * 1_000_000)
        torch.save([latents, names], cached)
    print(
        f"{latents.shape[0] * latents.shape[1]} pictures, latent mean {latents.float().mean():.3f} std "
        f"{latents.float().std():.3f}; UNet {sum(p.numel() for p in unet.parameters()) / 1e6:.2f} M, "
        f"text {sum(p.numel() for p in towers.parameters()) / 1e6:.2f} M parameters",
        flush=True,
    )

    rng = np.random.default_rng(options.seed + step)
    start, losses, told = time.time(), {True: 0.0, False: 0.0}, time.time()
    while (done := (before + time.time() - start) / (60 * options.minutes)) < 1:
        rate = min(1, (step + 1) / 300) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * done)))
        for group in optimizer.param_groups:
            group["lr"] = 5e-4 * rate
        sheets = step % 3 > 0
        rows = sheet_attention.rows = 4 if sheets else 1
        z, texts = draw_batch(rng, latents, names, 48 // rows, rows)
        z = z.to(device())
        t = torch.randint(0, 1000, (len(z) // rows, rows), device=z.device)
        if step % 3 == 1:  # one noise level for the whole sheet, as in sampling; else one for each picture
            t = t[:, :1].expand(-1, rows)
        t = t.flatten()
        a = alpha_bar[t].view(-1, 1, 1, 1)
        noise = torch.randn_like(z)
        with torch.autocast(device().type, torch.bfloat16):
            context, pooled = towers(*captions.batch(towers, texts))
            y = torch.cat([pooled, sizes.expand(len(z), -1)], 1)
            v = unet(a.sqrt() * z + (1 - a).sqrt() * noise, t.float(), context=context, y=y)
        loss = F.mse_loss(v.float(), a.sqrt() * noise - (1 - a).sqrt() * z)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(models.parameters(), 1.0)
        optimizer.step()
        step += 1
        follow(average, models, step, 0.9985)
        losses[sheets] = 0.99 * losses[sheets] + 0.01 * loss.item() if losses[sheets] else loss.item()
        if time.time() - told > 60:
            told = time.time()
            print(
                f"{(before + told - start) / 60:.1f} min step {step} single {losses[False]:.4f} sheet"
                f" {losses[True]:.4f}",
                flush=True,
            )
            save(models, average, optimizer, step, before + told - start, captions.token_ids)
    save(models, average, optimizer, step, before + time.time() - start, captions.token_ids)


def save(models, average, optimizer, step: int, seconds: float, token_ids: list[int]) -> None:
    export(
        {k[5:]: v for k, v in average.items() if k.startswith("unet.")},
        {k[5:]: v for k, v in average.items() if k.startswith("text.")},
        token_ids,
    )
    partial = CHECKPOINT.with_suffix(".tmp")
    torch.save(
        {
            "models": models.state_dict(),
            "average": average,
            "optimizer": optimizer.state_dict(),
            "step": step,
            "seconds": seconds,
        },
        partial,
    )
    partial.replace(CHECKPOINT)


if __name__ == "__main__":
    main()
