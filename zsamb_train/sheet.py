"""Pictures of how far an adapter is: drawn by the host, with the node's own hooks, from fixed seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from zsamb_core import sheet
from zsamb_core.files.whole_file import write_over
from zsamb_core.layers import Layer

from .adapter import StyleAdapter
from .host import Host

STEPS, CFG, SEED = 20, 5.0, 1


@dataclass(frozen=True)
class Sheet:
    """A row for each style picture, a column for each prompt; above them the prompts without an adapter.

    ``pictures`` (H, W, 3) in 0..1, ``features`` of each, ``blank`` (1, ...) of no image; ``size``: of the
    drawn pictures, (width, height).
    """

    host: Host
    pictures: Sequence[torch.Tensor]
    features: torch.Tensor
    blank: torch.Tensor
    prompts: Sequence[str]
    size: tuple[int, int]

    def draw(self, adapter: StyleAdapter, numbers: dict[Layer, int], place: Path) -> None:
        """Writes a PNG at ``place``."""
        rows = [sheet.Row([None, *self.set(self.host.model)], "no style picture")]
        for picture, features in zip(self.pictures, self.features, strict=True):
            model = self.adapted(adapter, numbers, features[None])
            rows.append(sheet.Row([picture, *self.set(model)]))
        heads = ["style", *self.prompts]
        drawn = sheet.drawn(sheet.laid_out(rows, heads), rows)
        image = Image.fromarray((drawn.clamp(0, 1) * 255).round().to(torch.uint8).numpy())
        place.parent.mkdir(parents=True, exist_ok=True)
        write_over(place, lambda path: image.save(path, "PNG"))

    @torch.no_grad()
    def adapted(self, adapter: StyleAdapter, numbers: dict[Layer, int], features: torch.Tensor) -> Any:
        """A clone of the model that draws with the adapter as it is now, as StyleBlockIPAdapter makes it."""
        core = self.host.pack.zsamb_core.instantstyle.style_images
        made = adapter(torch.cat([features, self.blank]).to(self.host.device))
        sides = [
            core.Seen({layer: tuple(x[i].cpu() for x in made[n]) for layer, n in numbers.items()}, None)
            for i in range(2)
        ]
        images = core.StyleImages(*sides, dict.fromkeys(numbers, 1.0))
        return self.host.pack.nodes._host.instantstyle.style_images.with_images(self.host.model, images)

    def set(self, model: Any) -> list[torch.Tensor]:
        """A picture of each prompt."""
        seeds = range(SEED, SEED + len(self.prompts))
        return [
            self.host.draw(model, prompt, seed, self.size, STEPS, CFG)
            for prompt, seed in zip(self.prompts, seeds, strict=True)
        ]
