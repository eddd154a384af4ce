"""Which pictures of a set a run draws.

The host tells a model nothing of a LATENT's ``batch_index``, but draws its noise by it: each row has the
noise that its picture has in the whole batch. So that noise, made again from the run's seed, says which
pictures the rows are: after Rebatch Latents, Latent From Batch and Repeat Latent Batch, in any sampler that
adds the host's own noise.
"""

import logging

import torch

from .types import Conditioning

PICTURES = "zsamb_pictures"
FURTHEST = 512  # pictures of a set that are looked through: a third of a second at 1024 px


def pictures_of(noise: torch.Tensor, seed: int | None) -> tuple[int, ...] | None:
    """The pictures, counted from 0, whose noise (B, C, h, w) the host drew with ``seed``; None for other
    noise, or none.
    """
    if seed is None or not noise.any():
        return None
    noise = noise.cpu()
    # A generator of its own: samplers go on with the state of torch's.
    generator = torch.Generator().manual_seed(seed)
    if torch.equal(torch.randn(noise.shape, generator=generator).to(noise.dtype), noise):
        return tuple(range(len(noise)))
    generator.manual_seed(seed)
    found: dict[int, int] = {}
    for picture in range(FURTHEST):
        drawn = torch.randn(1, *noise.shape[1:], generator=generator).to(noise.dtype)[0]
        found |= {i: picture for i in range(len(noise)) if i not in found and torch.equal(noise[i], drawn)}
        if len(found) == len(noise):
            return tuple(found[i] for i in range(len(noise)))
    return None


def rows_of(values: torch.Tensor, pictures: tuple[int, ...] | None, batch: int) -> torch.Tensor:
    """Of ``values``, one for each picture of a set, those of the ``batch`` pictures drawn; as it is where it
    is one for all, one for each of the batch, or of another number.
    """
    if len(values) in (1, batch) or pictures is None or max(pictures) >= len(values):
        return values
    return values[torch.tensor(pictures, device=values.device)]


def pick_prompts(conds: dict, pictures: tuple[int, ...] | None, batch: int, node: str) -> None:
    """Give a run's cond entries, its own copies, the rows of the pictures that it draws.

    An entry with as many rows as the batch stays as it is: it was made for the batch. Others count for the
    whole set, and repeat where that is larger, as the host repeats them.
    """
    said: dict[str, int] = {}
    for entry in (entry for entries in conds.values() for entry in entries):
        tokens = entry.get("cross_attn")
        rows = 1 if tokens is None else len(tokens)
        if rows in (1, batch):
            continue
        said |= told(rows, pictures, batch)
        # Of the number of the batch, so that context windows find each picture's too.
        chosen = range(batch) if pictures is None else pictures
        entry.update(rows_by(entry, rows, torch.tensor([p % rows for p in chosen])))
    for line, level in said.items():
        logging.log(level, "%s: %s", node, line)


def rows_by(details: dict, rows: int, chosen: torch.Tensor) -> dict:
    """The tensors of ``details`` that have a row for each prompt, with the ``chosen`` rows alone."""
    return {
        key: value[chosen.to(value.device)]
        for key, value in details.items()
        if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows
    }


def part_of_prompts(conditioning: Conditioning, latent: dict, node: str) -> Conditioning:
    """The CONDITIONING with the rows of a LATENT's pictures, by its ``batch_index``; entries of one row,
    which is for all pictures, as they are.
    """
    batch = len(latent["samples"])
    pictures = tuple(latent.get("batch_index", range(batch)))
    if len(pictures) != batch or any(p < 0 for p in pictures):
        raise ValueError(
            f"{node}: the latent input has batch_index {list(pictures)} for {batch} pictures, expected a"
            " number from 0 for each. Take it from Rebatch Latents or Latent From Batch."
        )
    parts = []
    for tokens, details in conditioning:
        rows = len(tokens)
        if rows > 1:
            chosen = torch.tensor([p % rows for p in pictures])
            details = {**details, **rows_by(details, rows, chosen)}
            tokens = tokens[chosen]
            if max(pictures) >= rows:
                (line,) = told(rows, pictures, batch)
                logging.warning("%s: %s", node, line)
        parts.append([tokens, details])
    return parts


def told(prompts: int, pictures: tuple[int, ...] | None, batch: int) -> dict[str, int]:
    """A line, and its level, on a conditioning of another number of prompts than pictures are drawn."""
    if pictures is None:
        line = (
            f"{prompts} prompts for {batch} picture{'s' if batch > 1 else ''}, and nothing tells which of the"
            " set, because the run adds no noise of its own: the prompts are taken from the first on. For a"
            " part of a set choose its prompts with Prompt Set Part."
        )
        return {line: logging.WARNING}
    surplus = tuple(p for p in pictures if p >= prompts)
    if not surplus:
        return {f"of {prompts} prompts this run draws {numbered(pictures)}.": logging.INFO}
    again = numbered(tuple(p % prompts for p in surplus), "prompt")
    repeat = "repeats" if len(surplus) == 1 else "repeat"
    line = (
        f"there are {prompts} prompts, so {numbered(surplus)} of the set {repeat} {again}. Take the batch"
        " size from Prompt Set, or write more prompts."
    )
    return {line: logging.WARNING}


def numbered(places: tuple[int, ...], what: str = "picture") -> str:
    """``picture 3``, or ``pictures 3, 4``: people count from 1."""
    return f"{what}{'s' if len(places) > 1 else ''} {', '.join(str(p + 1) for p in places)}"
