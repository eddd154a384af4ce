"""One set conditioning out of several: each picture of a batch with its own entries."""

import logging
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .conditioning import filled
from .types import Conditioning

# What an entry has for each picture; all else is the whole entry's.
ROWS = ("pooled_output", "mask", "mask_strength", "strength")
IN_ONE_SIZE = (
    "They go through the model in one size. Use Conditioning (Set Mask) in place of Conditioning (Set Area)."
)
MOST = 4  # times that prompts of several lengths are repeated, as the host does for its own


class Source(NamedTuple):
    """An input: its ``name``, its conditioning, and how many pictures it is for."""

    name: str
    conditioning: Conditioning
    pictures: int


class Slot(NamedTuple):
    """An entry of the set. ``parts``: by input, the entry of its pictures; the others have no part in it."""

    parts: dict[int, tuple[torch.Tensor, dict[str, Any]]]


def joined(conditionings: dict[str, Conditioning], empty: torch.Tensor | None, node: str) -> Conditioning:
    """The conditionings, by the names of their inputs, as one: the rows of an entry are the pictures, in
    order. A conditioning of several rows is for as many pictures.

    Entries that are alike in all but the text and where it counts become one. Others stay apart, and a mask
    keeps them from the pictures that they are not for. ``empty`` (1, P, C): what shorter prompts are filled
    up with; else all are repeated to a common length, which changes nothing in attention. Raises ValueError
    for what cannot stand in one set.
    """
    sources = counted(conditionings)
    refuse_mixed(sources)
    slots = slots_of(sources)
    batch = sum(source.pictures for source in sources)
    if len(slots) > max(len(source.conditioning) for source in sources):
        logging.warning(
            f"{node}: the conditionings differ in more than text and masks, so {batch} pictures are"
            f" {len(slots)} entries. Each goes through the model for all pictures."
        )
    return [entry(slot, sources, empty, node) for slot in slots]


def counted(conditionings: dict[str, Conditioning]) -> list[Source]:
    """Raises ValueError for a conditioning without entries, or with entries of different numbers of rows."""
    sources: list[Source] = []
    for name, conditioning in conditionings.items():
        rows = {len(tokens) for tokens, _ in conditioning}
        several = sorted(rows - {1})
        if not rows or len(several) > 1:
            found = f"entries of {' and '.join(map(str, several))} rows" if rows else "no entry"
            raise ValueError(
                f"{name} has {found}, expected one prompt, or as many in each entry. Connect one picture's"
                " conditioning, or one Prompt Set's."
            )
        sources.append(Source(name, conditioning, several[0] if several else 1))
    return sources


def refuse_mixed(sources: Sequence[Source]) -> None:
    """Raises ValueError for prompts of different models, and for areas that are not all pictures'."""
    of_first = sources[0].conditioning[0]
    for source in sources:
        for tokens, details in source.conditioning:
            width, expected = tokens.shape[-1], of_first[0].shape[-1]
            if width != expected:
                raise ValueError(
                    f"{source.name} has tokens of {width} channels and {sources[0].name} of {expected},"
                    " expected one number, as of one model. Encode all prompts with one model's CLIP."
                )
            pooled = details.get("pooled_output")
            if (pooled is None) != (of_first[1].get("pooled_output") is None):
                raise ValueError(
                    f"{source.name} has {'no' if pooled is None else 'a'} pooled output, and"
                    f" {sources[0].name} has {'one' if pooled is None else 'none'}. Encode all prompts with"
                    " one model's CLIP."
                )
            if details.get("set_area_to_bounds"):
                raise ValueError(
                    f"{source.name} has a mask whose bounds are its area, expected the default: the pictures"
                    " of a batch go through the model in one size. Set set_cond_area to default in"
                    " Conditioning (Set Mask)."
                )
    areas = [[d["area"] for _, d in source.conditioning if d.get("area") is not None] for source in sources]
    for source, own in zip(sources, areas, strict=True):
        if own != areas[0]:
            raise ValueError(
                f"{source.name} has the areas {said(own)} and {sources[0].name} {said(areas[0])}, expected"
                f" the same ones in all pictures. {IN_ONE_SIZE}"
            )


def said(areas: Sequence[Any]) -> str:
    return ", ".join(str(tuple(area)) for area in areas) or "none"


def slots_of(sources: Sequence[Source]) -> list[Slot]:
    """Entries of several inputs that are alike, in the order of the first input that has them."""
    slots: list[Slot] = []
    for number, source in enumerate(sources):
        for tokens, details in source.conditioning:
            free = (
                s
                for s in slots
                if number not in s.parts and is_alike(next(iter(s.parts.values()))[1], details)
            )
            slot = next(free, None)
            if slot is None:
                slots.append(slot := Slot({}))
            slot.parts[number] = (tokens, details)
    return slots


def is_alike(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two entries differ at most in what each picture has of its own."""
    keys = {*one, *other} - {*ROWS, "set_area_to_bounds"}  # which is refused where it is on
    return all(key in one and key in other and same(one[key], other[key]) for key in keys)


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
        return tensors and one.shape == other.shape and torch.equal(one, other)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return one is other or bool(one == other)


def entry(slot: Slot, sources: Sequence[Source], empty: torch.Tensor | None, node: str) -> list[Any]:
    """The set's entry [tokens, details]. A picture that has no part in it lends its first entry, masked."""
    lent = {i: (source.conditioning[0][0], source.conditioning[0][1]) for i, source in enumerate(sources)}
    parts = [{**lent, **slot.parts}[i] for i in range(len(sources))]
    rows = of_one_length([tokens for tokens, _ in parts], [source.name for source in sources], empty, node)
    tokens = [row.expand(source.pictures, -1, -1) for row, source in zip(rows, sources, strict=True)]
    details = dict(next(iter(slot.parts.values()))[1])
    if details.get("pooled_output") is not None:
        all_pooled = [own["pooled_output"] for _, own in parts]
        pooled = [x.expand(source.pictures, -1) for x, source in zip(all_pooled, sources, strict=True)]
        details["pooled_output"] = torch.cat([x.to(pooled[0]) for x in pooled])
    if needs_mask(slot, sources):
        refuse_what_masks_change(slot, sources)
        details |= {"mask": mask_of(slot, sources), "mask_strength": 1.0, "strength": 1.0}
    return [torch.cat([x.to(tokens[0]) for x in tokens]), details]


def refuse_what_masks_change(slot: Slot, sources: Sequence[Source]) -> None:
    """Raises ValueError for entries that the host draws otherwise once they have a mask, or that reach other
    entries than their own.
    """
    for number, (_, details) in slot.parts.items():
        name = sources[number].name
        if details.get("area") is not None and details.get("mask") is None:
            raise ValueError(
                f"{name} has an area, and the other pictures' entries differ from it in more than text,"
                f" expected the same in all pictures. {IN_ONE_SIZE}"
            )
        if len(slot.parts) < len(sources) and details.get("control_apply_to_uncond"):
            raise ValueError(
                f"{name} has a ControlNet that acts on the negative too, expected the same one in all"
                " pictures, or one of its own from Apply ControlNet with a negative."
            )
        if len(slot.parts) < len(sources) and details.get("default"):
            raise ValueError(
                f"{name} has a default (Cond Set Default Combine) and not all others have, expected it in all"
                " pictures or in none."
            )


def needs_mask(slot: Slot, sources: Sequence[Source]) -> bool:
    """Whether the pictures differ in where the entry counts, and how much."""
    (_, first), *others = slot.parts.values()
    alike = all(same(*(d.get(key) for d in (first, details))) for _, details in others for key in ROWS[1:])
    return len(slot.parts) < len(sources) or not alike


def mask_of(slot: Slot, sources: Sequence[Source]) -> torch.Tensor:
    """(pictures, h, w): each picture's mask times its strengths; ones where it has none, zeros where it has
    no part in the entry. Raises ValueError for masks of different sizes.
    """
    masks: dict[int, torch.Tensor] = {}
    for number, (_, details) in slot.parts.items():
        mask = details.get("mask")
        if mask is not None:
            masks[number] = mask.reshape(-1, *mask.shape[-2:]).float()
            if len(masks[number]) not in (1, sources[number].pictures):
                raise ValueError(
                    f"{sources[number].name} has {len(masks[number])} masks for {sources[number].pictures}"
                    " pictures, expected one, or one for each."
                )
    sizes = {tuple(mask.shape[-2:]): sources[number].name for number, mask in masks.items()}
    if len(sizes) > 1:
        found = " and ".join(f"{w} x {h} ({name})" for (h, w), name in sizes.items())
        raise ValueError(f"the masks of one entry are {found}, expected one size. Resize them before.")
    size = next(iter(sizes), (1, 1))  # the host scales it
    rows = []
    for number, source in enumerate(sources):
        if number not in slot.parts:
            rows.append(torch.zeros(source.pictures, *size))
            continue
        details = slot.parts[number][1]
        strength = details.get("strength", 1.0)
        if number in masks:
            strength *= details.get("mask_strength", 1.0)
        mask = masks.get(number, torch.ones(1, *size)).cpu()
        rows.append(strength * mask.expand(source.pictures, -1, -1))
    return torch.cat(rows)


def of_one_length(
    rows: Sequence[torch.Tensor], names: Sequence[str], empty: torch.Tensor | None, node: str
) -> list[torch.Tensor]:
    """Prompts (n, T, C) at one number of tokens. Raises ValueError for lengths that have no near common
    multiple, or an ``empty`` piece of other channels.
    """
    lengths = [row.shape[1] for row in rows]
    longest = max(lengths)
    if min(lengths) == longest:
        return list(rows)
    if empty is not None:
        if empty.shape[-1] != rows[0].shape[-1]:
            raise ValueError(
                f"the clip input makes tokens of {empty.shape[-1]} channels, and the conditionings have"
                f" {rows[0].shape[-1]}, expected the CLIP that encoded them. Connect that one."
            )
        return [
            row
            if row.shape[1] == longest
            else torch.cat([filled(r[None], empty.to(r), longest) for r in row])
            for row in rows
        ]
    common = math.lcm(*lengths)
    if common > MOST * longest:
        listed = ", ".join(f"{name} {length}" for name, length in zip(names, lengths, strict=True))
        raise ValueError(
            f"the prompts have different numbers of tokens ({listed}), expected one, or such as fit together."
            " Connect the clip input, and shorter prompts are filled up with its empty pieces."
        )
    logging.info(f"{node}: prompts of {min(lengths)} to {longest} tokens are repeated to {common}.")
    return [row.repeat(1, common // row.shape[1], 1) for row in rows]
