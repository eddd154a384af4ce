"""What a patched step asks of a CUDA device, without one: ``python -m benchmarks.operators``.

SDXL at full size, in fp16, at 1024 px, on fake tensors: torch goes through every operator, its shapes and
types, and computes nothing. Counted are floating-point operations, operators that start a kernel, the bytes
that they read and write, and how often the device is waited for. What is said of a card is the choice of
attention kernel (`zsamb_core.style_aligned.kernels`). Times are not known here.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from demo.training.hosting import import_host
from demo.training.measure import load_pack
from zsamb_core.style_aligned import kernels

from .figures import keep, table
from .ip_adapter import CONFIG

DEVICE = torch.device("cuda", 0)
SIGMA = 5.0
LAYERS = 70
# Compute capability, cuDNN's version, whether torch has flash attention.
CARDS = {
    "hopper": ((9, 0), kernels.CUDNN, True),
    "ampere": ((8, 6), kernels.CUDNN, True),
    "turing": ((7, 5), 0, False),
}
# Of one row at 1024 px: the model's, and that of attention to one reference's tokens.
FLOOR_MODEL, FLOOR_REFERENCE = 6.761e12, 0.752e12
# Operators that only make room or change how memory is read.
NO_KERNEL = ("empty", "_unsafe_view", "_reshape_alias", "detach", "lift_fresh", "alias")
WAITS = "_local_scalar_dense"


@dataclass
class Counted:
    """Of one call. ``flops``; operators that start a kernel, by name; bytes that they read and write;
    ``waits`` for the device.
    """

    flops: float = 0.0
    by_name: Counter = field(default_factory=Counter)
    bytes: int = 0
    waits: int = 0

    @property
    def launches(self) -> int:
        return sum(self.by_name.values())

    @property
    def attention(self) -> dict[str, int]:
        """The fused attention operators."""
        return {name: n for name, n in self.by_name.items() if "scaled_dot_product" in name}


class Watch(TorchDispatchMode):
    """Counts, in all and by part (`section`). A wait is answered with ``SIGMA``, the one that the pack asks
    for."""

    def __init__(self):
        super().__init__()
        self.parts = {"all": Counted()}
        self.open = ["all"]

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        self.parts.setdefault(name, Counted())
        self.open.append(name)
        try:
            yield
        finally:
            self.open.pop()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        namespace, _, name = func._schema.name.partition("::")
        counts = [self.parts[part] for part in self.open]
        if name == WAITS:
            for count in counts:
                count.waits += 1
            return SIGMA
        out = func(*args, **(kwargs or {}))
        shared = [r.alias_info for r in func._schema.returns]
        views = any(alias is not None and not alias.is_write for alias in shared)
        if namespace == "prim" or name.startswith(NO_KERNEL) or views:
            return out
        tensors = {id(x): x for x in tree_leaves((args, kwargs, out)) if isinstance(x, torch.Tensor)}
        for count in counts:
            count.by_name[name] += 1
            count.bytes += sum(x.numel() * x.element_size() for x in tensors.values())
            if func._overloadpacket in flop_registry:
                count.flops += flop_registry[func._overloadpacket](*args, **(kwargs or {}), out_val=out)
        return out


class Fused(TorchFunctionMode):
    """torch's attention is one fused kernel on a card; on fake tensors it would be taken apart."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is F.scaled_dot_product_attention:
            q, k, v = args
            return kernels.attention_lse(q, k, v, q.shape[-1] ** -0.5)[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def fake() -> Iterator[None]:
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        yield


def fake_sdxl(dtype: torch.dtype):
    """MODEL of SDXL's size on a fake card; call inside `fake`."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SDXL(CONFIG)
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, device=DEVICE)
    return comfy.model_patcher.ModelPatcher(base, load_device=DEVICE, offload_device=DEVICE)


def style_run(pack, batch: int, side: int, references: int, context: int = 2048, vector: int = 2816):
    """A sampling run with ``references`` pictures of the targets' size, (4, side, side), weighed alike. The
    authors' settings for pictures from outside: score shift ln 2, AdaIN of queries and keys.
    """
    import comfy.conds

    core, host = pack.zsamb_core.style_aligned, pack.nodes._host.style_aligned
    share = core.options.Share(shift=math.log(2) if references else 0.0)
    torch.manual_seed(1)
    path = core.reference.Trajectory(torch.tensor([0.0, 10.0]), torch.randn(2, 4, side, side))
    cond = {
        "c_crossattn": comfy.conds.CONDCrossAttn(torch.randn(1, 77, context)),
        "y": comfy.conds.CONDRegular(torch.randn(1, vector)),
    }
    prompt = [[torch.zeros(1, 77, context), {}]]
    return host.call.Run(
        core.options.StyleOptions(share=share).resolved(),
        batch=batch,
        size=(side, side),
        start=1e9,
        end=0.0,
        patches=dict.fromkeys(pack.zsamb_core.layers.SDXL_BLOCKS, host.layers.attend),
        references=(core.reference.Reference(path, prompt, prompt),) * references,
        weights=(1 / references,) * references if references else (),
        mean_weights=(1 / references,) * references if references else (),
        logits=((None, None),) * references,
        conds=({"positive": cond, "negative": cond},) * references,
    )


def with_patches(pack, run):
    """The run with the patched layers as they are now."""
    attend = pack.nodes._host.style_aligned.layers.attend
    return replace(run, patches=dict.fromkeys(run.patches, attend))


def inputs(
    batch: int,
    side: int,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    context: int = 2048,
    vector: int = 2816,
) -> dict:
    """Of a call on ``batch`` positive and as many negative rows, random but for the noise level. ``context``,
    ``vector``: channels of the model's prompts, and of pooled text and sizes.
    """
    torch.manual_seed(0)
    rows = 2 * batch
    return {
        "x": (torch.randn(rows, 4, side, side) * SIGMA).to(device),
        "t": torch.full((rows,), SIGMA, device=device),
        "c_crossattn": torch.randn(rows, 77, context).to(device, dtype),
        "y": torch.randn(rows, vector).to(device, dtype),
    }


def call(pack, model, run, given: dict, halves: tuple[int, ...] = (1, 0)) -> torch.Tensor:
    """One call of a MODEL on `inputs`, or on a half of them. ``run``: a `Run`, patches of self-attention by
    block, or None for the model as it is.
    """
    from comfy.patcher_extension import WrappersMP

    host = pack.nodes._host.style_aligned
    options = {
        **model.model_options["transformer_options"],
        "wrappers": model.wrappers,
        "cond_or_uncond": list(halves),
        "uuids": [("-", "+")[1 - half] for half in halves],
    }
    if isinstance(run, dict):
        options["patches_replace"] = {"attn1": run}
    elif run is not None:
        wrappers = {WrappersMP.APPLY_MODEL: {"style": [host.call.apply_with_references]}}
        options |= {host.call.RUN: run, "wrappers": wrappers, "patches_replace": {"attn1": run.patches}}
    return model.model.apply_model(**given, transformer_options=options)


def watched(pack, model, run, batch: int, side: int) -> tuple[torch.Tensor, dict[str, Counted]]:
    """What a call gives on fake tensors, and what it asks for: ``all``, and its self-attention layers alone,
    ``recording`` for the reference's, ``layers`` for the targets'. Call inside `fake`.
    """
    host = pack.nodes._host.style_aligned
    watch = Watch()

    def layer(attend, q, k, v, extra):
        recording = isinstance(host.call.CALL.get(), host.call.Recording)
        with watch.section("recording" if recording else "layers"):
            return attend(q, k, v, extra)

    def stock(q, k, v, extra):
        return host.host_attention.host_attention(extra, q, k, v)

    attend = partial(layer, stock if run is None else host.layers.attend)
    patches = dict.fromkeys(pack.zsamb_core.layers.SDXL_BLOCKS, attend)
    given = patches if run is None else replace(run, patches=patches)
    with watch, Fused():
        return call(pack, model, given, inputs(batch, side, DEVICE)), watch.parts


def pretend(pack, name: str, put=setattr) -> None:
    """Let the pack take fake devices for this card; ``put`` sets an attribute, as `setattr` does."""
    chosen = kernels.Card("cuda", False, *CARDS[name])
    rooms = pack.zsamb_core.style_aligned.kernels, pack.nodes._host.style_aligned.host_attention, kernels
    for module in rooms:
        put(module, "card", lambda _: chosen)


def row(name: str, parts: dict[str, Counted]) -> dict:
    """Of a step in all, and of one layer: the targets', and in the references' own call."""
    found = {
        "a step at a new noise level": name,
        "TFLOP": f"{parts['all'].flops / 1e12:.2f}",
        "kernels": parts["all"].launches,
        "GB": round(parts["all"].bytes / 1e9),
        "waits": parts["all"].waits,
    }
    for part, title in (("layers", "a layer"), ("recording", "a layer of the references'")):
        if part in parts:
            found[f"kernels, {title}"] = f"{parts[part].launches / LAYERS:.1f}"
            found[f"GB, {title}"] = f"{parts[part].bytes / LAYERS / 1e9:.2f}"
    return found


def bank_rows(pack) -> list[dict]:
    """What a reference keeps for the targets, by its size. Call inside `fake`."""
    host, options = pack.nodes._host, pack.zsamb_core.style_aligned.options
    widths = host.sdxl.self_attention(fake_sdxl(torch.float16))
    style = options.StyleOptions(options.Share()).resolved()
    rows = []
    for pixels in (512, 1024, 1536):
        size = (pixels // 8, pixels // 8)
        of_one = host.style_aligned.bank_size.bytes_of_features(widths, style, size, 2)
        both = host.style_aligned.bank_size.PROMPTS * of_one
        rows.append(
            {
                "pixels a side": pixels,
                "MB, one prompt": round(of_one / 1e6),
                "MB, a reference with both": round(both / 1e6),
                "MB, two references": round(2 * both / 1e6),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--card", choices=CARDS, default="hopper")
    parser.add_argument("--pictures", type=int, default=4)
    parser.add_argument("--pixels", type=int, default=1024)
    parser.add_argument("--docs", action="store_true", help="write the tables to docs/measured.md")
    args = parser.parse_args()
    import_host()
    pack = load_pack()
    pretend(pack, args.card)
    side = args.pixels // 8
    runs = {"stock": None, "from prompts alone": 0, "one reference": 1, "two references": 2}
    print(f"fake {args.card}, fp16, {args.pictures} pictures at {args.pixels} px, positive and negative")
    made = {n: r if r is None else style_run(pack, args.pictures, side, r) for n, r in runs.items()}
    rows = []
    with fake():
        model = fake_sdxl(torch.float16)
        for name, run in made.items():
            _, parts = watched(pack, model, run, args.pictures, side)
            rows.append(row(name, parts))
            attention = {part: count.attention for part, count in parts.items() if part != "all"}
            print(name, attention, flush=True)
        bank = bank_rows(pack)
    print(table(rows), table(bank), sep="\n\n")
    if args.docs:
        keep("operators", rows)
        keep("bank", bank)


if __name__ == "__main__":
    main()
