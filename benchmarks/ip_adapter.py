"""What an IP-Adapter costs: bytes read, bytes held while sampling, and time per step, side by side in one run
with a stand-in that works as ports do: ``nox -s benchmarks``.

The UNet is SDXL's at full size, the adapter file has the format and size of ip-adapter_sdxl.safetensors, both
with random weights; a step is one call of the model on a positive and a negative row. The stand-in patches
all 70 layers, holds all weights, and projects the image's keys and values in each of them at every step.
Times are medians of rounds of one call of each, and ratios are to stock.
"""

import argparse
import gc
import os
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from demo.training.hosting import import_host
from demo.training.measure import load_pack
from zsamb_train.host import SDXL_UNET as CONFIG

FEATURES, HIDDEN = 1280, 1664  # of ViT-bigG


def sdxl(device, dtype=None, shape=CONFIG):
    """MODEL of SDXL's size with random weights; in fp16 on CUDA, else in fp32."""
    import comfy.model_patcher
    import comfy.supported_models

    config = comfy.supported_models.SDXL(shape)
    dtype = dtype or (torch.float16 if device.type == "cuda" else torch.float32)
    config.set_inference_dtype(dtype, None)
    base = config.get_model({}, device=device)
    for name, parameter in base.diffusion_model.named_parameters():
        if parameter.ndim > 1:  # by the inputs of one output, so that half precision does not overflow
            bound = parameter[0].numel() ** -0.5
            parameter.data.uniform_(-bound, bound)
        else:
            parameter.data.fill_(float(name.endswith("weight")))
    return comfy.model_patcher.ModelPatcher(base, load_device=device, offload_device=device)


def adapter_file(path: Path, widths: list[int]) -> None:
    """A file of the published one's tensors, in fp16; ``widths`` of the layers in its order."""
    from safetensors.torch import save_file

    state = {
        "image_proj.proj.weight": torch.randn(4 * 2048, FEATURES).half() * 0.02,
        "image_proj.proj.bias": torch.zeros(4 * 2048).half(),
        "image_proj.norm.weight": torch.ones(2048).half(),
        "image_proj.norm.bias": torch.zeros(2048).half(),
    }
    for i, width in enumerate(widths):
        for p in "kv":
            weight = torch.empty(width, 2048, dtype=torch.float16).uniform_(-0.02, 0.02)
            state[f"ip_adapter.{2 * i + 1}.to_{p}_ip.weight"] = weight
    save_file(state, path)


def read_from_disk() -> int | None:
    """Bytes that this process had fetched from storage, where the system counts them."""
    try:
        lines = Path("/proc/self/io").read_text().splitlines()
    except OSError:
        return None
    return next(int(line.split()[1]) for line in lines if line.startswith("read_bytes"))


def forget(path: Path) -> None:
    """Drop a file from the system's cache."""
    if hasattr(os, "posix_fadvise"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def tensor_bytes() -> int:
    """Bytes of all tensors that are alive, each storage once."""
    gc.collect()
    storages = {}
    for thing in gc.get_objects():
        if isinstance(thing, torch.Tensor):
            storage = thing.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def stand_in(model, adapter, tokens):
    """All layers patched, all weights held, keys and values projected at every call."""
    from comfy.ldm.modules.attention import optimized_attention

    host, blocks = model.pack.nodes._host.sdxl, model.pack.zsamb_core.instantstyle.blocks
    structure = host.cross_attention(model, 2048, "benchmark")
    keys = blocks.adapter_keys(structure)
    clone = model.clone()
    device, dtype = model.load_device, next(model.model.diffusion_model.parameters()).dtype
    for layer, number in keys.items():
        weights = [
            tensor.to(device, dtype)
            for _, tensor in adapter.read(f"ip_adapter.{number}.to_{p}_ip.weight" for p in "kv")
        ]

        def patch(q, k, v, extra, weights=weights):
            def attend(k, v):
                return optimized_attention(q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"])

            image = (F.linear(tokens.to(q), w).expand(len(q), -1, -1) for w in weights)
            return attend(k, v) + attend(*image)

        clone.set_model_attn2_replace(patch, *layer)
    return clone


def call(model, size: int, watch=None):
    """One step: a positive and a negative row. ``watch`` is called in the model's last block."""
    base, device = model.model, model.load_device
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 4, size, size, generator=generator).expand(2, -1, -1, -1).to(device) * 5
    context = torch.randn(2, 77, 2048, generator=generator).to(device)
    y = torch.randn(2, 2816, generator=generator).to(device)
    options = {
        **model.model_options["transformer_options"],
        "wrappers": model.wrappers,
        "cond_or_uncond": [1, 0],
        "uuids": [1, 0],
    }
    handle = base.diffusion_model.out.register_forward_pre_hook(lambda *_: watch()) if watch else None
    try:
        sigma = torch.full((2,), 5.0, device=device)
        base.apply_model(x, sigma, c_crossattn=context, y=y, transformer_options=options)
    finally:
        if handle is not None:
            handle.remove()
    if device.type == "cuda":
        torch.cuda.synchronize()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    import_host()
    pack = load_pack()
    import comfy.model_management

    model = sdxl(comfy.model_management.get_torch_device())
    model.pack = pack
    core = pack.zsamb_core
    structure = pack.nodes._host.sdxl.cross_attention(model, 2048, "benchmark")
    in_order = sorted(core.instantstyle.blocks.adapter_keys(structure).items(), key=lambda item: item[1])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "adapter.safetensors"
        adapter_file(path, [structure[layer] for layer, _ in in_order])
        embeds = core.instantstyle.style_embeds.StyleEmbeds(
            core.instantstyle.style_embeds.Encoder(HIDDEN, FEATURES),
            torch.randn(1, FEATURES),
            torch.zeros(1, 1, HIDDEN),
            torch.zeros(1, HIDDEN),
            (1.0,),
        )
        print(f"file: {path.stat().st_size / 1e6:.1f} MB")
        models, memory = {"stock": model}, {}

        def add(name, make):
            """The model, and the bytes alive in its call beyond stock's, both before any other is made."""
            before = alive_in_call(model, args)
            models[name] = make()
            memory[name] = alive_in_call(models[name], args) - before

        for preset in ("style", "all"):
            add(preset, partial(with_style_images, pack, model, path, embeds, preset))
        adapter = core.instantstyle.adapter_file.open_adapter(path)
        tokens = core.instantstyle.image_tokens.project(adapter.read_projector(), embeds.pooled)[0]
        add("stand-in", partial(stand_in, model, adapter, tokens))
        measure(models, memory, args)


def alive_in_call(model, args) -> int:
    alive: list[int] = []
    call(model, args.pixels // 8, lambda: alive.append(tensor_bytes()))
    return alive[0]


def with_style_images(pack, model, path: Path, embeds, preset: str):
    """The node's work, and what it read."""
    files = pack.zsamb_core.instantstyle.adapter_file
    loaded, load = [], files._Tensor.load

    def counted(tensor):
        weights = load(tensor)
        loaded.append(weights.numel() * weights.element_size())
        return weights

    forget(path)
    files._Tensor.load, before, start = counted, read_from_disk(), time.perf_counter()
    try:
        settings = {
            "weight": 1.0, "preset": preset, "crop": "centre", "start_percent": 0.0, "end_percent": 1.0,
            "weight_curve": "1", "content": "", "content_scale": 0.5,
        }  # fmt: skip
        node = pack.nodes.ip_adapter.StyleBlockIPAdapter
        patched = node.execute(model, files.open_adapter(path), embeds, **settings).result[0]
    finally:
        files._Tensor.load = load
    seconds, after = time.perf_counter() - start, read_from_disk()
    disk = f"{(after - before) / 1e6:.1f} MB" if after and before is not None else "not counted"
    print(f"{preset}: read {sum(loaded) / 1e6:.1f} MB of tensors (storage: {disk}) in {seconds:.2f} s")
    return patched


def measure(models: dict, memory: dict, args) -> None:
    times: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(args.rounds):
        for name, model in models.items():
            start = time.perf_counter()
            call(model, args.pixels // 8)
            times[name].append(time.perf_counter() - start)
    stock = statistics.median(times["stock"])
    print(f"a step at {args.pixels} pixels: stock {stock:.2f} s")
    for name, extra in memory.items():
        ratio = statistics.median(times[name]) / stock
        print(f"{name:10} {ratio:6.3f} of stock's time, {extra / 1e6:8.2f} MB more alive in the call")


if __name__ == "__main__":
    main()
