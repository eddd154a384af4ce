"""A small object classifier trained only on drawn pictures: ``python -m demo.training.classifier``.

It judges whether a generated picture shows the object that its prompt asked for. Writes
``weights/classifier.safetensors`` and prints its accuracy on drawn pictures it never saw.
"""

import argparse

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn

from ..objects import OBJECTS
from ..styles import STYLES
from .hosting import WEIGHTS, device
from .latents import draw_group


class ObjectClassifier(nn.Sequential):
    """(B, 3, 128, 128) sRGB in 0..1 to logits over the twelve objects."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        for before, after in ((3, 32), (32, 48), (48, 64), (64, 96)):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
        layers += [
            nn.Conv2d(96, 96, 3, padding=1),
            nn.SiLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(384, len(OBJECTS)),
        ]
        super().__init__(*layers)


def load_classifier() -> ObjectClassifier:
    model = ObjectClassifier().eval()
    model.load_state_dict({k: v.float() for k, v in load_file(WEIGHTS / "classifier.safetensors").items()})
    return model


@torch.no_grad()
def probabilities(model: ObjectClassifier, pictures: list[np.ndarray]) -> np.ndarray:
    """(B, 12): how probable each object is in (128, 128, 3) pictures."""
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float()
    return model(x).softmax(1).numpy()


def classify(model: ObjectClassifier, pictures: list[np.ndarray]) -> list[str]:
    """Names of the objects seen in (128, 128, 3) pictures."""
    return [list(OBJECTS)[i] for i in probabilities(model, pictures).argmax(1).tolist()]


def _drawn(named: int, random: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    from concurrent.futures import ProcessPoolExecutor

    jobs = [(n, seed + i) for i, n in enumerate([n for n in STYLES for _ in range(named)] + [""] * random)]
    with ProcessPoolExecutor() as pool:
        groups = np.stack(list(pool.map(draw_group, jobs, chunksize=8)))
    x = torch.from_numpy(groups).flatten(0, 1).permute(0, 3, 1, 2).contiguous()
    return x, torch.arange(len(OBJECTS)).repeat(len(jobs))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=3)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    x, y = _drawn(25, 500, options.seed * 1_000_000)
    x_held, y_held = _drawn(5, 60, options.seed * 1_000_000 + 500_000)
    model = ObjectClassifier().to(device()).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, options.steps)
    for step in range(options.steps):
        i = torch.randint(len(x), (64,))
        pictures = x[i].to(device()).float() / 255
        pictures = pictures.roll((int(torch.randint(-8, 9, ())), int(torch.randint(-8, 9, ()))), (2, 3))
        if step % 2:  # generated pictures are softer and noisier than drawn ones
            pictures = F.interpolate(F.avg_pool2d(pictures, 2), scale_factor=2, mode="bilinear")
        pictures = pictures + 0.05 * torch.randn_like(pictures[:1])
        loss = F.cross_entropy(model(pictures), y[i].to(device()), label_smoothing=0.05)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 250 == 249:
            print(f"step {step + 1} loss {loss.item():.3f}", flush=True)
    save_file({k: v.half().cpu() for k, v in model.state_dict().items()}, WEIGHTS / "classifier.safetensors")
    seen = load_classifier()
    with torch.no_grad():
        right = torch.cat([seen(b.float() / 255).argmax(1) for b in x_held.split(128)]) == y_held
    print(f"held-out drawn pictures: {right.float().mean():.4f} right of {len(right)}")


if __name__ == "__main__":
    main()
