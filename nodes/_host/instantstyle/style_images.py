"""Style images on a model clone, or on a CONDITIONING by hooks, and what they do in a model call.

An APPLY_MODEL wrapper adds the image's attention for one call, in the layers that have a weight at its noise
level. It keeps the attn2 patches that the call has from anyone. Other layers stay on the host's own path.
The wrapper reads the images from the options: a model's come with the clone, a conditioning's with its hooks.
"""

from collections.abc import Callable
from typing import Any

import comfy.hooks
import torch
import torch.nn.functional as F
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrappersMP

from ....zsamb_core.instantstyle.style_images import Seen, StyleImages
from ....zsamb_core.layers import Layer
from ..batch_part import rows_of
from ..model_parts import PART
from ..outliving import outliving
from ..sampling_run import KEY, SamplingRun, chunk_names, follow_runs, repeats, run_wrappers
from ..style_aligned.call import STYLE_IMAGES as IMAGES
from ..style_aligned.call import uncompiled
from ..types import Model

NODE = "StyleBlockIPAdapter"


def with_images(model: Model, images: StyleImages) -> Model:
    """A clone of ``model`` that draws with ``images`` too; ``model`` itself is left as it was."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    clone.model_options["transformer_options"] = {**options, IMAGES: [*options.get(IMAGES, []), images]}
    follow_runs(clone, NODE)
    if IMAGES not in clone.wrappers.get(WrappersMP.APPLY_MODEL, {}):
        clone.add_wrapper_with_key(WrappersMP.APPLY_MODEL, IMAGES, apply_with_images)
    return clone


def as_hooks(images: StyleImages) -> comfy.hooks.HookGroup:
    """``images`` for the conditioning that the hooks are set on, and no other. The wrappers act on all."""
    hooks = comfy.hooks.HookGroup()
    wrappers = {kind: {KEY: [wrapper]} for kind, wrapper in run_wrappers(NODE).items()}
    wrappers[WrappersMP.APPLY_MODEL] = {IMAGES: [apply_with_images]}
    scopes = comfy.hooks.EnumHookScope
    hooks.add(comfy.hooks.TransformerOptionsHook({"wrappers": wrappers}, scopes.AllConditioning))
    hooks.add(comfy.hooks.TransformerOptionsHook({IMAGES: [images]}, scopes.HookedOnly))
    return hooks


def apply_with_images(executor: Any, *args: Any, **kwargs: Any) -> Any:
    """APPLY_MODEL wrapper. ``x`` (chunks * rows, C, h, w)."""
    with uncompiled():
        return _apply_with_images(executor, *args, **kwargs)


def _apply_with_images(
    executor: Any,
    x: torch.Tensor,
    t: torch.Tensor,
    c_concat: torch.Tensor | None = None,
    c_crossattn: torch.Tensor | None = None,
    control: Any = None,
    transformer_options: dict[str, Any] = {},
    **kwargs: Any,
) -> Any:
    images: list[StyleImages] = transformer_options.get(IMAGES, [])
    # The model and a hook may both have brought this wrapper: the first one takes the images.
    options = {key: value for key, value in transformer_options.items() if key != IMAGES}
    layers: dict[Layer, list[tuple[StyleImages, float]]] = {}
    if images:
        sigma, sampling = float(t.flatten()[0]), executor.class_obj.model_sampling
        for each in images:
            now = each.window.weight(sigma, sampling.percent_to_sigma)
            for layer, weight in each.weights.items():
                if now * weight:
                    layers.setdefault(layer, []).append((each, now * weight))
    if not layers:
        return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)
    call = Call(options, x.shape)
    replacements = options.get("patches_replace", {})
    attn2 = dict(replacements.get("attn2", {}))
    for layer, added in layers.items():
        attn2[layer] = WithImages(call, layer, added, attn2.get(layer, attn2.get(layer.block)))
    options["patches_replace"] = {**replacements, "attn2": attn2}
    return executor(x, t, c_concat, c_crossattn, control, options, **kwargs)


class Call:
    """One model call: what its rows are."""

    def __init__(self, options: dict, shape: torch.Size) -> None:
        self.options, self.shape = options, shape
        self.run: SamplingRun | None = options.get(KEY)
        names, uuids = chunk_names(options), options["uuids"]
        tiles = repeats(shape[0], len(names), self.run.shape[0]) if self.run else 1
        self.names, self.uuids = tiles * tuple(names), tiles * tuple(uuids)

    @property
    def rows(self) -> int:
        return self.shape[0] // len(self.names)

    def placed(self, key: Any, make: Callable[[], Any]) -> Any:
        """What ``make`` gives, kept until the run ends."""
        if self.run is None:
            return make()
        if key not in self.run.placed:
            with outliving():
                self.run.placed[key] = make()
        return self.run.placed[key]

    def sides(self, images: StyleImages, swapped: bool) -> list[Seen]:
        """What each chunk sees."""
        return [images.image if (n == "positive") != swapped else images.blank for n in self.names]

    def keys_and_values(
        self, images: StyleImages, layer: Layer, swapped: bool, q: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """K, V (chunks, T, C) of each chunk's side, as the query is."""

        def make() -> Any:
            sides = self.sides(images, swapped)
            return tuple(
                torch.stack([side.layers[layer][i] for side in sides]).to(q.device, q.dtype) for i in range(2)
            )

        return self.placed((id(images), layer, swapped, self.names, q.device, q.dtype), make)

    def bias(self, images: StyleImages, swapped: bool, q: torch.Tensor) -> torch.Tensor | None:
        """(chunks, 1, 1, T) on the logits, or None."""
        if images.image.bias is None and images.blank.bias is None:
            return None

        def make() -> Any:
            sides = self.sides(images, swapped)
            length = len(next(iter(images.image.layers.values()))[0])
            biases = [torch.zeros(length) if side.bias is None else side.bias for side in sides]
            return torch.stack(biases)[:, None, None].to(q.device, q.dtype)

        return self.placed((id(images), "bias", swapped, self.names, q.device, q.dtype), make)

    def mask(
        self, images: StyleImages, size: tuple[int, int], q: torch.Tensor, drawn: tuple[int, ...] | None
    ) -> torch.Tensor:
        """(rows, h * w, 1) at a layer's ``size`` (h, w); ``drawn``: which pictures of the batch, None for
        all.
        """

        def make() -> Any:
            rows = torch.cat([self.chunk_mask(images, uuid) for uuid in self.uuids])
            return F.interpolate(rows, size, mode="area").flatten(1)[..., None].to(q.device, q.dtype)

        window, within = self.options.get("context_window"), self.options.get(PART)
        part = (window.dim, *window.index_list) if window is not None else None
        key = (id(images), size, self.uuids, self.shape, part, within, q.device, q.dtype)
        mask = self.placed(key, make)
        if drawn is None or within is not None:
            return mask
        # This call was of all pictures; the model's inner call is of some.
        return mask.unflatten(0, (len(self.names), -1))[:, list(drawn)].flatten(0, 1)

    def chunk_mask(self, images: StyleImages, uuid: Any) -> torch.Tensor:
        """(rows, 1, h, w): the part of the picture, and the pictures of the batch, that a chunk is of."""
        assert images.mask is not None
        height, width = (self.run.shape if self.run else self.shape)[-2:]
        mask = F.interpolate(images.mask[:, None].float(), (height, width), mode="area")
        if self.run:
            mask = rows_of(mask, self.run.pictures, self.run.shape[0])
        window = self.options.get("context_window")
        if window is not None:
            first = getattr(window, "causal_anchor_index", None)
            index = ([] if first is None else [first]) + list(window.index_list)
            if window.dim != 0 or len(mask) > 1:
                mask = mask.index_select(window.dim, torch.tensor(index, device=mask.device))
        if len(mask) > 1 and PART in self.options:
            mask = mask[list(self.options[PART])]
        area = self.run.areas.get(uuid) if self.run else None
        if area is not None:
            h, w, top, left = area
            mask = mask[:, :, top : top + h, left : left + w]
        if mask.shape[-2:] != self.shape[-2:] or len(mask) not in (1, self.rows):
            raise ValueError(
                f"{NODE}: the model is being called on {self.rows} pictures of {self.shape[-1]} x"
                f" {self.shape[-2]} latents, and the mask covers {len(mask)} of {mask.shape[-1]} x"
                f" {mask.shape[-2]}, expected one mask or one per picture of the batch, and a whole picture"
                " or the area of a prompt. Tiled sampling that moves parts about cannot be masked: leave the"
                " mask out there."
            )
        return mask.expand(self.rows, -1, -1, -1)


class WithImages:
    """attn2 replacement of one layer in one call: projected queries, keys and values (rows, N, C) to the
    attention's output.
    """

    def __init__(
        self, call: Call, layer: Layer, added: list[tuple[StyleImages, float]], replaced: Any
    ) -> None:
        self.call, self.layer, self.added, self.replaced = call, layer, added, replaced

    def __call__(
        self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]
    ) -> torch.Tensor:
        def attend(
            q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: torch.Tensor | None = None
        ) -> Any:
            return optimized_attention(
                q,
                k,
                v,
                extra["n_heads"],
                mask=mask,
                attn_precision=extra["attn_precision"],
                transformer_options=extra,
            )

        text = attend(q, k, v) if self.replaced is None else self.replaced(q, k, v, extra)
        rows = q.shape[0] // len(self.call.names)
        total = None
        for images, weight in self.added:
            keys, values = (
                x.repeat_interleave(rows, 0)
                for x in self.call.keys_and_values(images, self.layer, weight < 0, q)
            )
            bias = self.call.bias(images, weight < 0, q)
            if bias is not None:
                bias = bias.repeat_interleave(rows, 0).expand(-1, extra["n_heads"], q.shape[1], -1)
            seen = attend(q, keys, values, bias) * abs(weight)
            if images.mask is not None:
                size = tuple(extra["activations_shape"][-2:])
                seen = seen * self.call.mask(images, size, q, extra.get(PART))
            # Images first, then the text: two adapters in either order give the same bits.
            total = seen if total is None else total + seen
        return text + total
