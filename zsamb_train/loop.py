"""The training loop. One process trains as it is; under ``accelerate launch`` or ``torchrun`` each process
does its rows of every batch.

A step's pictures, noise and drops depend on the run's seed and the step alone, so a run that was interrupted,
or goes on with another number of processes, sees what it would have seen.
"""

import math
import signal
import time
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from zsamb_core.console import say
from zsamb_core.layers import Layer

from . import checkpoints
from .adapter import StyleAdapter
from .batch import Batch, encode
from .curves import Curves
from .data.loader import Rows
from .host import Host, attention
from .learning import State, copy_of, follow, lasting, put, rate_at
from .patches import with_images
from .probe import Probe
from .recipe import Recipe, draw, errors, log_snr_of, noised, weights
from .result import write_adapter

SAY_EVERY = 20.0  # seconds


class Broken(RuntimeError):
    """The training cannot go on; says why, and where the last good checkpoint is."""


@dataclass
class Settings:
    """How a run goes. ``batch``: pictures a step over all processes; ``parts``: that a process does its rows
    in; ``about``: metadata of the adapter's file.
    """

    run: Path
    steps: int
    batch: int
    parts: int
    seed: int
    rate: float
    warmup: int
    schedule: str
    clip: float
    average: float
    keep: int
    save_every: int
    probe_every: int
    sheet_every: int
    about: dict[str, str] = field(default_factory=dict)


@dataclass
class Trainer:
    """``adapter``: bare; ``optimizer`` of its trained parameters; ``accelerator`` of accelerate."""

    host: Host
    adapter: StyleAdapter
    numbers: dict[Layer, int]
    optimizer: torch.optim.Optimizer
    accelerator: Any
    recipe: Recipe
    settings: Settings
    probe: Probe | None = None
    sheet: Any = None
    step: int = 0
    average: State = field(default_factory=dict)
    saved: int | None = None

    def __post_init__(self) -> None:
        self.attention = attention(self.host.device)
        self.alphas = self.host.alphas()
        self.log_snr = log_snr_of(self.alphas)
        self.blank = self.host.no_image(self.adapter.made.kind, self.adapter.made.features)
        self.trained = [p for p in self.adapter.parameters() if p.requires_grad]
        self.go_on()
        self.wrapped, self.optimizer = self.accelerator.prepare(self.adapter, self.optimizer)
        self.average = {name: value.to(self.host.device) for name, value in self.average.items()}
        self.stopped: int | None = None

    @property
    def main(self) -> bool:
        first: bool = self.accelerator.is_main_process
        return first

    def go_on(self) -> None:
        """Take the newest checkpoint, where there is one."""
        self.average = copy_of(self.adapter)
        found = checkpoints.newest(self.settings.run)
        if found is None:
            return
        self.step, state = found
        self.saved = self.step
        put(self.adapter, state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average = state["average"]
        if self.main:
            say(f"goes on from step {self.step} of {self.settings.steps}")

    def loss(self, batch: Batch) -> torch.Tensor:
        """The mean over a part's rows; gradients run into the adapter."""
        device, seed = self.host.device, self.settings.seed
        shape = tuple(batch.latents.shape[1:])
        draws = [draw(self.recipe, seed, place, shape, self.log_snr) for place in batch.places]
        steps = torch.tensor([d.step for d in draws])
        a = self.alphas[steps].to(device)
        noise = torch.stack([d.noise for d in draws]).to(device)
        x, wanted = noised(batch.latents.to(device), noise, a, self.host.velocity)
        captions = [text if d.text else "" for text, d in zip(batch.captions, draws, strict=True)]
        context, pooled = self.host.read_texts(captions)
        y = self.host.describe_sizes(pooled, batch.sizes, batch.crops, batch.targets)
        kept = torch.tensor([d.image for d in draws]).view(-1, *[1] * (batch.features.ndim - 1))
        features = torch.where(kept, batch.features, self.blank).to(device)
        options = with_images(self.wrapped(features), self.numbers, self.attention)
        said = self.host.predict(x, steps.to(device), context, y, options)
        return (errors(said, wanted) * weights(self.recipe, a, self.host.velocity)).mean()

    def learn(self, rows: Rows) -> float:
        """One step of the optimizer. Returns the mean loss over all processes. Raises Broken where it is no
        number; then nothing was learned from it.
        """
        batch = encode(self.host, self.adapter.made.kind, rows)
        size = math.ceil(len(batch) / self.settings.parts)
        firsts = range(0, len(batch), size)
        self.optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.host.device)
        for first in firsts:
            part = batch.part(first, first + size)
            last = first == firsts[-1]
            with nullcontext() if last else self.accelerator.no_sync(self.wrapped):
                loss = self.loss(part) * (len(part) / len(batch))
                self.accelerator.backward(loss)
            total += loss.detach()
        mean = float(self.accelerator.reduce(total, "mean"))
        if not math.isfinite(mean):
            raise Broken(
                f"step {self.step}: the loss is {mean}, expected a number. Pictures of this step:"
                f" {', '.join(batch.names)}. Last good checkpoint:"
                f" {checkpoints.last_good(self.settings.run)}."
                " Lower --rate, or take the named pictures out if one of them is broken."
            )
        if self.settings.clip:
            self.accelerator.clip_grad_norm_(self.trained, self.settings.clip)
        s = self.settings
        rate = rate_at(self.step, s.steps, s.rate, s.warmup, s.schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.step()
        self.step += 1
        follow(self.average, self.adapter, self.step, s.average)
        return mean

    def run(self, batches: Iterator[Rows]) -> int:
        """Train to the last step, or until a signal; saves in the end. Returns the exit code."""
        self.listen()
        curves = Curves(self.settings.run, self.step)
        start, first, told, losses = time.monotonic(), self.step, 0.0, []
        if self.step == 0:
            self.report(curves)
        for rows in batches:
            if self.step >= self.settings.steps or self.must_stop():
                break
            losses.append(self.learn(rows))
            now = time.monotonic()
            if self.main and (now - told > SAY_EVERY or self.step == self.settings.steps):
                told = now
                left = (now - start) / (self.step - first) * (self.settings.steps - self.step)
                at = f"step {self.step} of {self.settings.steps}"
                say(f"{at}, loss {_mean(losses):.4f}, {lasting(left)} left")
            if self.due(self.settings.probe_every):
                curves.add(self.step, loss=_mean(losses), rate=self.optimizer.param_groups[0]["lr"])
                losses = []
                self.report(curves)
            if self.due(self.settings.save_every):
                self.save()
        if self.saved != self.step:
            self.save()
        self.accelerator.end_training()
        return self.stopped or 0

    def due(self, every: int) -> bool:
        return every > 0 and (self.step % every == 0 or self.step == self.settings.steps)

    def report(self, curves: Curves) -> None:
        """The probe's numbers and, more rarely, a sheet, both of the moving averages; by the first process
        alone.
        """
        if self.main:
            values = copy_of(self.adapter)
            put(self.adapter, self.average)
            if self.probe:
                gains = self.probe.measure(self.with_adapter)
                curves.add(
                    self.step, style=gains.style, style_error=gains.style_error, content=gains.content,
                    content_error=gains.content_error,
                )  # fmt: skip
                say(f"step {self.step}: {gains}")
            if self.sheet and self.step and self.due(self.settings.sheet_every):
                place = self.settings.run / "sheets" / f"{self.step:08d}.png"
                self.sheet.draw(self.adapter, self.numbers, place)
            put(self.adapter, values)
            curves.write()
            curves.draw()
            self.accelerator.log(curves.newest(), step=self.step)
        self.accelerator.wait_for_everyone()

    def with_adapter(self, features: torch.Tensor) -> dict[str, Any]:
        """The host's options to call the UNet with, by the bare adapter."""
        return with_images(self.adapter(features), self.numbers, self.attention)

    def save(self) -> None:
        self.saved = self.step
        if self.main:
            s, about = self.settings, {**self.settings.about, "steps": str(self.step)}
            state = {
                "weights": copy_of(self.adapter), "average": self.average,
                "optimizer": self.optimizer.state_dict(),
            }  # fmt: skip
            folder = checkpoints.save(s.run, self.step, state, s.keep)
            write_adapter(s.run / "adapter.safetensors", self.adapter, self.average, self.numbers, about)
            say(f"saved {folder.name} and adapter.safetensors in {s.run}")
        self.accelerator.wait_for_everyone()

    def listen(self) -> None:
        """SIGTERM, as clusters send it, and Ctrl-C end the run after its step."""

        def stop(number: int, frame: object) -> None:
            self.stopped = 0 if number == signal.SIGTERM else 130

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)

    def must_stop(self) -> bool:
        """Whether any process was told to: all stop at the same step."""
        told = torch.tensor(float(self.stopped is not None), device=self.host.device)
        stop = float(self.accelerator.reduce(told, "sum")) > 0
        if stop and self.stopped is None:
            self.stopped = 0
        return stop


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else math.nan
