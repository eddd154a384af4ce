"""One model call: the references go through the model first, and the targets' layers then read what they
left there.

References never share a batch with the targets. Once per noise level they go through the unpatched model in a
call of their own. The host may then ask at that level as it likes: cond and uncond together or apart, tiles,
areas, guidance with extra calls. ControlNets, inpainting and other packs' patches see the targets alone, in
the very rows that the host made.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from comfy.conds import CONDCrossAttn

from ....zsamb_core.layers import Layer
from ....zsamb_core.style_aligned.adain import Statistics
from ....zsamb_core.style_aligned.attention_maps import AttentionMaps
from ....zsamb_core.style_aligned.group_norm import GroupStatistics
from ....zsamb_core.style_aligned.options import StyleOptions
from ....zsamb_core.style_aligned.reference import Reference
from ..model_parts import PART, part_of, without_first
from ..sampling_run import chunk_names, repeats

RUN = "zsamb_style_run"
Group = tuple[tuple[int, ...], StyleOptions]
# Where `style_images` finds what a call is to see; a reference sees none of it.
STYLE_IMAGES = "zsamb_style_images"


class LayerFeatures(NamedTuple):
    """What a reference leaves in a self-attention layer: ``k, v`` (M, C) and the statistics that AdaIN
    asks for.
    """

    k: torch.Tensor
    v: torch.Tensor
    queries: Statistics | None
    keys: Statistics | None
    values: Statistics | None


class Features:
    """What one reference with one prompt leaves in all layers, at one noise level."""

    def __init__(self) -> None:
        self.layers: dict[Layer, LayerFeatures] = {}
        self.norms: dict[str, GroupStatistics] = {}


class Bank:
    """The references' features at the noise level that is being drawn, for each device.

    They depend on the model's weights too, which hooks change between the conds of one step.
    """

    def __init__(self) -> None:
        self._levels: dict = {}  # device to (sigma, hooks, features)

    def at(self, device: torch.device, sigma: float, hooks: Any) -> dict[tuple[str, int], Features]:
        """By the cond's name and the reference's number; empty at a new noise level or with other hooks."""
        level = self._levels.get(device)
        if level is None or level[0] != sigma or level[1] is not hooks:
            level = self._levels[device] = (sigma, hooks, {})
        return level[2]

    def clear(self) -> None:
        self._levels.clear()


@dataclass(frozen=True)
class Run:
    """One sampling run. ``asked``: what ``options`` are at full strength; ``factor_at``: the factor on the
    strength at a noise level, and ``factors``: one more for each picture, none where they are all the same.

    ``batch`` pictures of ``size`` (h, w) in latents; noise levels from ``start`` down to ``end``;
    ``patches``: what replaces self-attention, by block. For each reference: its weight (`normalised_weights`)
    and the mean of it over the picture, ``logits``: its own shift and scale, or None, and ``conds``: its
    model-ready conditioning by name. ``maps``: where shares of attention are noted, None where nobody asks.
    """

    options: StyleOptions
    batch: int
    size: tuple[int, int]
    start: float
    end: float
    patches: dict
    references: tuple[Reference, ...] = ()
    weights: tuple = ()
    mean_weights: tuple[float, ...] = ()
    logits: tuple[tuple[float | None, float | None], ...] = ()
    conds: tuple[dict[str, dict], ...] = ()
    bank: Bank = field(default_factory=Bank)
    maps: AttentionMaps | None = None
    asked: StyleOptions = StyleOptions()
    factor_at: Callable[[float], float] | None = None
    factors: tuple[float, ...] = ()

    def at(self, sigma: float) -> "Run":
        """The run as it is at a noise level, for the picture that counts the references most."""
        if self.factor_at is None and not self.factors:
            return self
        return replace(self, options=self.asked.resolved(self._factor(sigma) * max(self.factors or (1.0,))))

    def groups(self, sigma: float, pictures: Sequence[int]) -> tuple[Group, ...]:
        """The ``pictures`` that count the references alike, each group with its options."""
        rows: dict[float, list[int]] = {}
        for row, picture in enumerate(pictures if len(set(self.factors)) > 1 else ()):
            rows.setdefault(self.factors[picture], []).append(row)
        at = self._factor(sigma)
        return tuple((tuple(group), self.asked.resolved(at * factor)) for factor, group in rows.items())

    def _factor(self, sigma: float) -> float:
        return 1.0 if self.factor_at is None else self.factor_at(sigma)

    @property
    def led_by_first(self) -> bool:
        """From prompts only: the first picture is what the others look at."""
        return not self.references and not (self.options.share is not None and self.options.share.everyone)


class Recording(NamedTuple):
    """The current call is of references: each row keeps what its layers see."""

    options: StyleOptions
    rows: list[Features]


class Listening(NamedTuple):
    """Whose shares of attention the layers note, and where: those of the positive ``chunks`` of a call on
    whole pictures.
    """

    maps: AttentionMaps
    sigma: float
    chunks: tuple[int, ...]


class Sharing(NamedTuple):
    """The current call is of ``chunks`` times ``rows`` targets. ``features``: for each chunk, those of each
    reference; empty without references. ``pictures``: which of the batch the targets are, None for all.
    ``listening``: None where no shares of attention are noted. ``groups``: rows and their options, where not
    all have those of the run.
    """

    run: Run
    chunks: int
    rows: int
    features: list[list[Features]]
    pictures: list[int] | None = None
    listening: Listening | None = None
    groups: tuple[Group, ...] = ()


# The call that the layers are in. The options cannot carry it: a group norm does not get them, and
# torch.compile takes plain values in them for constants.
CALL: ContextVar[Recording | Sharing | None] = ContextVar("zsamb_call", default=None)


def apply_with_references(executor: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
    """APPLY_MODEL wrapper. ``x`` (chunks * rows, C, h, w); chunk c belongs to the cond entry ``uuids[c]``."""
    with uncompiled():
        return _apply_with_references(executor, *args, **kwargs)


def _apply_with_references(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: torch.Tensor | None = None,
    c_crossattn: torch.Tensor | None = None,
    control: Any = None,
    transformer_options: dict[str, Any] = {},
    **kwargs: Any,
) -> torch.Tensor:
    run: Run | None = transformer_options.get(RUN)
    args = (x, t, c_concat, c_crossattn, control, transformer_options)
    if run is None:
        return executor(*args, **kwargs)
    chunks = len(transformer_options["cond_or_uncond"])
    leads = run.led_by_first and run.batch > 1
    if leads and not run.options.control_first and isinstance(control, dict):
        # As published: the picture that all others look at is no ControlNet's. One alone leads none.
        control = without_first(control, chunks, run.batch)
        args = (x, t, c_concat, c_crossattn, control, transformer_options)
    in_parts = 0 < run.options.at_once < run.batch and x.shape[0] == chunks * run.batch
    sigma = float(t.flatten()[0])
    run = run.at(sigma)
    if not run.end <= sigma <= run.start or not run.options.active:
        if in_parts:
            return by_parts(executor, run, chunks, None, args, kwargs)
        return executor(*args, **kwargs)
    refuse_parts(run, x, chunks)
    features = []
    if run.references:
        patcher = executor.class_obj.current_patcher
        bank = run.bank.at(x.device, sigma, patcher.current_hooks if patcher is not None else None)
        names = chunk_names(transformer_options)
        everyone = range(len(run.references))
        missing = [(n, j) for n in dict.fromkeys(names) for j in everyone if (n, j) not in bank]
        record(executor, run, bank, missing, x, t, transformer_options)
        features = [[bank[name, j] for j in everyone] for name in names]
    listening = listening_to(run, x, sigma, transformer_options)
    if in_parts:
        return by_parts(executor, run, chunks, features, args, kwargs, listening)
    tiles = repeats(x.shape[0], chunks, run.batch)
    rows, groups = x.shape[0] // (tiles * chunks), run.groups(sigma, range(run.batch))
    sharing = Sharing(run, tiles * chunks, rows, tiles * features, listening=listening, groups=groups)
    return within(sharing, executor, args, kwargs)


def listening_to(run: Run, x: torch.Tensor, sigma: float, transformer_options: dict) -> Listening | None:
    """None where nobody asks, and for tiles, areas and windows: nothing tells which part they are."""
    names = chunk_names(transformer_options) if run.maps is not None else []
    if run.maps is None or tuple(x.shape[-2:]) != run.size or len(x) != len(names) * run.batch:
        return None
    return Listening(run.maps, sigma, tuple(c for c, name in enumerate(names) if name == "positive"))


def within(call: "Recording | Sharing | None", executor: Any, args: Any, kwargs: Any) -> torch.Tensor:
    """The model call, with ``call`` for its layers to read."""
    token = CALL.set(call)
    try:
        return executor(*args, **kwargs)
    finally:
        CALL.reset(token)


def by_parts(
    executor: Any,
    run: Run,
    chunks: int,
    features: Any,
    args: Any,
    kwargs: Any,
    listening: Listening | None = None,
) -> torch.Tensor:
    """The call, with ``at_once`` pictures of the batch in the model at a time: (chunks * batch, C, h, w), as
    one call gives it. ``features``: the references', empty without references, None where nothing is shared
    at this noise level.
    """
    x, *others, options = args
    out = torch.empty_like(x, dtype=torch.float32).unflatten(0, (chunks, run.batch))

    def draw(call: Any, pictures: list[int]) -> None:
        inputs = [part_of(value, pictures, chunks, run.batch) for value in (x, *others)]
        extra = part_of(kwargs, pictures, chunks, run.batch)
        drawn = within(call, executor, (*inputs, {**options, PART: tuple(pictures)}), extra)
        out[:, pictures] = drawn.unflatten(0, (chunks, -1)).to(out.dtype)

    sigma, left = float(others[0].flatten()[0]), list(range(run.batch))
    if features == []:
        # The first picture goes first, and leaves in the layers what a reference leaves there.
        recorded = [Features() for _ in range(chunks)]
        draw(Recording(run.options, recorded), [left.pop(0)])
        features = [[each] for each in recorded]
        run = replace(run, weights=(1.0,), mean_weights=(1.0,), logits=((None, None),))
    while left:
        pictures, left = left[: run.options.at_once], left[run.options.at_once :]
        if features is None:
            draw(None, pictures)
        else:
            groups = run.groups(sigma, pictures)
            draw(Sharing(run, chunks, len(pictures), features, pictures, listening, groups), pictures)
    return out.flatten(0, 1)


def refuse_parts(run: Run, x: torch.Tensor, chunks: int) -> None:
    """Raises ValueError for what cannot be drawn. Tiles stacked on the batch, without a reference: nothing
    tells whose first picture leads. A part of a picture, with a mask: nothing tells which part. A part of the
    batch, with factors by picture: nothing tells which pictures.
    """
    if len(set(run.factors)) > 1 and x.shape[0] % (chunks * run.batch):
        raise ValueError(
            f"SharedAttention Patch: the model is being called with {x.shape[0]} rows for {chunks} prompts,"
            f" expected the {run.batch} pictures of the batch for each, because strength_by_picture differs"
            " among them. Leave it empty where the batch is drawn in windows."
        )
    if not run.references and x.shape[0] != chunks * run.batch:
        raise ValueError(
            f"SharedAttention Patch: the model is being called with {x.shape[0]} rows for {chunks} prompts,"
            f" expected the {run.batch} pictures of the batch for each. Tiled and windowed sampling that"
            " stacks its parts on the batch needs a style reference; connect one, or sample in one piece."
        )
    if any(isinstance(w, torch.Tensor) for w in run.weights) and (
        tuple(x.shape[-2:]) != run.size or x.shape[0] != chunks * run.batch
    ):
        raise ValueError(
            f"SharedAttention Patch: the model is being called on a part of the picture ({x.shape[3] * 8} x "
            f"{x.shape[2] * 8} of {run.size[1] * 8} x {run.size[0] * 8} pixels: an area prompt, a tile or a"
            " window), expected the whole, because a reference has a mask. Use masks on the prompts in place"
            " of areas (Conditioning (Set Mask)), or leave the reference's mask out."
        )


def record(
    executor: Any,
    run: Run,
    bank: dict,
    missing: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    transformer_options: dict,
) -> None:
    """Fill ``bank`` with the ``missing`` (name, reference's number) at the noise level ``t``.

    References of one size share a call, up to the size of the host's own call ``x``.
    """
    by_size: dict = {}
    for name, j in missing:
        by_size.setdefault(run.references[j].latent_shape, []).append((name, j))
    for shape, rows in by_size.items():
        drawn = min(run.options.at_once or run.batch, run.batch) * x.numel() // run.batch
        at_once = max(1, drawn // shape.numel())
        for i in range(0, len(rows), at_once):
            piece = rows[i : i + at_once]
            recorded = [Features() for _ in piece]
            call_with_references(executor, run, piece, recorded, t, transformer_options)
            bank.update(zip(piece, recorded, strict=True))


def call_with_references(
    executor: Any, run: Run, rows: Any, recorded: Any, t: torch.Tensor, transformer_options: dict
) -> None:
    """One call of the unpatched model on references of one size, each row with its own prompt."""
    sigma = t.flatten()[:1]
    x = torch.cat([run.references[j].trajectory.at(sigma, run.references[j].offset) for _, j in rows])
    conds = [run.conds[j][name] for name, j in rows]
    context, extra = None, {}
    for key in conds[0]:
        values = [cond[key] for cond in conds]
        if isinstance(values[0], CONDCrossAttn):
            prompts = [CONDCrossAttn(value.cond[:1]) for value in values]
            context = prompts[0].concat(prompts[1:]).to(x.device)
        elif isinstance(values[0].cond, torch.Tensor):
            extra[key] = torch.cat([value.cond[:1] for value in values]).to(x.device)
    c_concat = extra.pop("c_concat", None)
    options = {
        key: value
        for key, value in transformer_options.items()
        if key not in ("patches", "patches_replace", "wrappers", "callbacks", STYLE_IMAGES)
    }
    options |= {
        "patches_replace": {"attn1": run.patches},
        "cond_or_uncond": [0 if name == "positive" else 1 for name, _ in rows],
        "uuids": [("zsamb", name, j) for name, j in rows],
    }
    inputs = (x, sigma.expand(len(x)), c_concat, context, None, options)
    within(Recording(run.options, recorded), executor, inputs, extra)


def uncompiled() -> AbstractContextManager[Any]:
    """Runs a patched model without torch.compile. A compiled model keeps the options of the call that it was
    compiled for, patches and names alike, and other models share it. torch before 2.6 has no switch for it.
    """
    return (
        torch.compiler.set_stance("force_eager") if hasattr(torch.compiler, "set_stance") else nullcontext()
    )
