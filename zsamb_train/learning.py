"""The rate of learning by step, and moving averages of the weights."""

import math
from collections.abc import Mapping

import torch
from torch import nn

State = dict[str, torch.Tensor]


def rate_at(step: int, steps: int, rate: float, warmup: int, schedule: str) -> float:
    """Of the step from 0: it rises evenly over ``warmup`` steps; then it is constant, or falls as half a
    cosine to nothing at ``steps``.
    """
    if step < warmup:
        return rate * (step + 1) / warmup
    if schedule == "constant":
        return rate
    done = (step - warmup) / max(steps - warmup, 1)
    return rate * (0.5 + 0.5 * math.cos(math.pi * min(done, 1.0)))


@torch.no_grad()
def follow(average: State, model: nn.Module, step: int, most: float) -> None:
    """Move the average towards the weights after ``step`` steps: fast at first, then by 1 - ``most``."""
    decay = min(most, (1 + step) / (10 + step))
    values = dict(model.named_parameters())
    torch._foreach_lerp_(list(average.values()), [values[name].data for name in average], 1 - decay)


def copy_of(model: nn.Module) -> State:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


@torch.no_grad()
def put(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Give the model these weights."""
    for name, value in model.named_parameters():
        value.copy_(state[name])


def lasting(seconds: float) -> str:
    """In minutes, from an hour and a half on in hours."""
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
