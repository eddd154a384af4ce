"""Train the demo CLIP pair on drawn pictures and their captions: ``python -m demo.training.train_clip``.

Radford et al.: *Learning Transferable Visual Models From Natural Language Supervision* (ICML 2021): both
towers learn to find each picture's captions, and each caption's pictures in the batch. There are so few
captions here that each picture is compared with all of them, and all that are true of it count. Writes
``weights/clip.safetensors`` and prints how often "a {object}" is found for unseen drawings.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from ..judges import CLIP_MEAN, CLIP_SIZE, CLIP_STD, WEIGHTS, load_clip, make_clip, normalize
from ..pictures import caption
from ..styles import STYLES
from .drawn import OBJECT_NAMES, crops, draw_groups, held_out_groups
from .hosting import import_host

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "clip.pt"
START, END = 49406, 49407


class Captions:
    """Captions as rows of a compact vocabulary: one row for all unknown words, then the words that the
    captions use, by their number in CLIP's vocabulary; so start and end come last.
    """

    def __init__(self) -> None:
        from comfy.sdxl_clip import SDXLTokenizer

        self.tokenizer = SDXLTokenizer()
        self.texts = [caption(o, s) for o in OBJECT_NAMES for s in (None, *STYLES)]
        self.token_ids = sorted({t for text in self.texts for t in self.ids(text)} | {START, END})
        self.rows = {t: i + 1 for i, t in enumerate(self.token_ids)}

    def ids(self, text: str) -> list[int]:
        """Padded to 77 with the end, as OpenAI's CLIP pads."""
        return [t for t, _ in self.tokenizer.tokenize_with_weights(text)["l"][0]]

    def batch(self, texts: list[str]) -> torch.Tensor:
        """Rows up to the longest text's end: what follows the end changes nothing before it."""
        rows = torch.tensor([[self.rows.get(t, 0) for t in self.ids(text)] for text in texts])
        return rows[:, : int((rows != self.rows[END]).sum(1).max()) + 1]

    def true_of(self, obj: str, style: str) -> torch.Tensor:
        """Which of all captions are true of a picture: the object's, and with its style where that has a
        name.
        """
        return torch.tensor([t in (caption(obj), caption(obj, style or None)) for t in self.texts])


def image_embeds(model, pictures: torch.Tensor) -> torch.Tensor:
    vision = model.vision_model(pixel_values=normalize(pictures, CLIP_MEAN, CLIP_STD))
    return F.normalize(model.visual_projection(vision.pooler_output).float(), dim=-1)


def text_embeds(model, ids: torch.Tensor) -> torch.Tensor:
    return F.normalize(model.text_projection(model.text_model(input_ids=ids).pooler_output).float(), dim=-1)


def agreement(logits: torch.Tensor, true: torch.Tensor) -> torch.Tensor:
    """Cross entropy of each row's logits with what is true of it, evenly."""
    wanted = true.float() / true.sum(1, keepdim=True)
    return -(wanted * logits.log_softmax(1)).sum(1).mean()


@torch.no_grad()
def zero_shot(model, ids: torch.Tensor, groups: torch.Tensor, names: list[str]) -> dict[str, float]:
    """How often the caption "a {object}", ``ids`` in the objects' order, is the nearest to a drawing."""
    texts = text_embeds(model, ids)
    images = torch.cat(
        [image_embeds(model, F.avg_pool2d(x.float() / 255, 2)) for x in groups.flatten(0, 1).split(128)]
    )
    right = (images @ texts.T).argmax(1).view(len(groups), -1) == torch.arange(len(OBJECT_NAMES))
    trained = torch.tensor([name in STYLES for name in names])
    parts = {"training styles": trained, "held-out styles": ~trained, "all": torch.ones_like(trained)}
    return {name: float(right[part].float().mean()) for name, part in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=6)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--named", type=int, default=25, help="groups of twelve pictures per named style")
    parser.add_argument("--random", type=int, default=450, help="groups in random styles")
    options = parser.parse_args()
    import_host()
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    groups, names = draw_groups(options.named, options.random, options.seed * 1_000_000)
    held, held_names = held_out_groups(6, options.seed * 1_000_000 + 500_000)
    captions = Captions()
    model = make_clip(len(captions.token_ids) + 1, eager=True).train()
    plain, ids = captions.batch([caption(o) for o in OBJECT_NAMES]), captions.batch(captions.texts)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.05)
    start, step = time.time(), 0
    told = start
    while (part := (time.time() - start) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, step / 100) * (0.5 + 0.5 * math.cos(math.pi * part))
        g, o = rng.integers(0, len(groups), options.batch), rng.integers(0, len(OBJECT_NAMES), options.batch)
        x = F.avg_pool2d(crops(groups[g, o].float() / 255, 0.7, 1.0, 2 * CLIP_SIZE), 2)
        with torch.autocast("cpu", torch.bfloat16):
            images, words = image_embeds(model, x), text_embeds(model, ids)
        logits = images @ words.T * model.logit_scale.exp().clamp(max=100)
        true = torch.stack([captions.true_of(OBJECT_NAMES[j], names[i]) for i, j in zip(g, o, strict=True)])
        there = true[:, true.any(0)]
        loss = (agreement(logits, true) + agreement(logits[:, true.any(0)].T, there.T)) / 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if time.time() - told > 120:
            told = time.time()
            found = zero_shot(model.eval(), plain, held, held_names)
            model.train()
            print(f"step {step}, {part:.0%}: loss {float(loss):.3f}, zero-shot {found}", flush=True)
            CHECKPOINT.parent.mkdir(exist_ok=True)
            torch.save(model.state_dict(), CHECKPOINT)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
    state["token_ids"] = torch.tensor(captions.token_ids, dtype=torch.int32)
    save_file(state, WEIGHTS / "clip.safetensors")
    whole = torch.tensor([captions.ids(caption(o)) for o in OBJECT_NAMES])
    print(f"{step} steps; zero-shot on unseen drawings: {zero_shot(load_clip(), whole, held, held_names)}")


if __name__ == "__main__":
    main()
