"""Train the demo DINO by self-distillation on drawn pictures, without labels:
``python -m demo.training.train_dino``.

Caron, Touvron, Misra, Jegou, Mairal, Bojanowski, Joulin: *Emerging Properties in Self-Supervised Vision
Transformers* (ICCV 2021), equations 1 to 5: a student that sees all crops learns to predict what its own
moving average, centered and sharpened, says of the large ones. Colors are not changed, since style is what
the features are for. Writes ``weights/dino.safetensors`` and prints how well the nearest neighbors of unseen
drawings are in their style.
"""

import argparse
import copy
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from ..judges import DINO, DINO_MEAN, DINO_STD, WEIGHTS, load_dino, make_dino, normalize
from ..styles import STYLES
from .drawn import crops, draw_groups, held_out_groups

CHECKPOINT = Path(__file__).resolve().parents[1] / "checkpoints" / "dino.pt"
PROTOTYPES = 1024


class Head(nn.Module):
    """CLS (B, D) to logits over the prototypes: three layers, a bottleneck of unit length, cosines."""

    def __init__(self) -> None:
        super().__init__()
        width = DINO["hidden_size"]
        self.layers = nn.Sequential(
            nn.Linear(width, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 64)
        )
        self.prototypes = nn.Parameter(torch.randn(PROTOTYPES, 64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.normalize(self.layers(x), dim=-1) @ F.normalize(self.prototypes, dim=-1).T


def cls(model, pictures: torch.Tensor) -> torch.Tensor:
    """(B, D): the CLS token of the last layer."""
    x = normalize(pictures, DINO_MEAN, DINO_STD)
    return model(pixel_values=x, interpolate_pos_encoding=True).last_hidden_state[:, 0]


@torch.no_grad()
def neighbors(model, groups: torch.Tensor, names: list[str], k: int = 5) -> dict[str, float]:
    """How often ``k`` nearest neighbors, each drawing left out of its own, vote for its style; for the named
    training styles, the held-out ones, and all. Drawings of its own group do not vote: they share more than
    a style.
    """
    features = F.normalize(
        torch.cat([cls(model, x.float() / 255) for x in groups.flatten(0, 1).split(128)]), dim=1
    )
    group = torch.arange(len(groups)).repeat_interleave(groups.shape[1])
    styles = sorted(set(names))
    label = torch.tensor([styles.index(n) for n in names])[group]
    near = features @ features.T
    near[group[:, None] == group[None]] = -2
    votes = F.one_hot(label[near.topk(k).indices], len(styles)).sum(1)
    right = votes.argmax(1) == label
    trained = torch.tensor([names[g] in STYLES for g in group.tolist()])
    parts = {"training styles": trained, "held-out styles": ~trained, "all": torch.ones_like(trained)}
    return {name: float(right[part].float().mean()) for name, part in parts.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--named", type=int, default=15, help="groups of twelve pictures per named style")
    parser.add_argument("--random", type=int, default=450, help="groups in random styles")
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    groups, _ = draw_groups(options.named, options.random, options.seed * 1_000_000)
    pictures = groups.flatten(0, 1)
    held, held_names = held_out_groups(6, options.seed * 1_000_000 + 500_000)
    student = nn.ModuleDict({"body": make_dino(eager=True), "head": Head()}).train()
    teacher = copy.deepcopy(student).requires_grad_(False)
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-3, weight_decay=0.04)
    centre = torch.zeros(PROTOTYPES)
    start, step = time.time(), 0
    told = start
    while (part := (time.time() - start) / (60 * options.minutes)) < 1:
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min(1.0, step / 100) * (0.5 + 0.5 * torch.cos(torch.tensor(3.1416 * part)))
        x = pictures[torch.randint(len(pictures), (options.batch,))].float() / 255
        large = torch.cat([crops(x, 0.4, 1.0, 128) for _ in range(2)])
        small = torch.cat([crops(x, 0.1, 0.4, 64) for _ in range(4)])
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                said = teacher["head"](cls(teacher["body"], large)).float()
            seen = [student["head"](cls(student["body"], views)).float() for views in (large, small)]
        wanted = ((said - centre) / 0.04).softmax(-1).chunk(2)
        views = [*seen[0].chunk(2), *seen[1].chunk(4)]
        losses = [
            -(target * (view / 0.1).log_softmax(-1)).sum(-1).mean()
            for i, target in enumerate(wanted)
            for j, view in enumerate(views)
            if i != j
        ]
        loss = torch.stack(losses).mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(student.parameters(), 3.0)
        optimizer.step()
        momentum = 1 - 0.01 * (0.5 + 0.5 * float(torch.cos(torch.tensor(3.1416 * part))))
        with torch.no_grad():
            centre = 0.9 * centre + 0.1 * said.mean(0)
            for mine, theirs in zip(teacher.parameters(), student.parameters(), strict=True):
                mine.lerp_(theirs, 1 - momentum)
        step += 1
        if time.time() - told > 120:
            told = time.time()
            found = neighbors(teacher["body"].eval(), held, held_names)
            print(f"step {step}, {part:.0%}: loss {float(loss):.3f}, neighbors {found}", flush=True)
            CHECKPOINT.parent.mkdir(exist_ok=True)
            torch.save(teacher["body"].state_dict(), CHECKPOINT)
    state = {k: v.half().contiguous() for k, v in teacher["body"].state_dict().items()}
    save_file(state, WEIGHTS / "dino.safetensors")
    print(f"{step} steps; neighbors of unseen drawings: {neighbors(load_dino(), held, held_names)}")


if __name__ == "__main__":
    main()
