"""ComfyUI outside its server: start its modules, and load what an adapter is trained against.

Checkpoints, image encoders and the demo are loaded by the host's own loaders, so whatever it reads will do,
and what is trained is what draws. Nothing else in this package imports the host.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch
from torch.utils.checkpoint import checkpoint

from zsamb_core.layers import Layer

DEMO = "demo"
PACK = "zsamb_pack"
# The host's own settings of SDXL's UNet.
SDXL_UNET = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 320, "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 2, 2, 10, 10], "transformer_depth_middle": 10,
    "transformer_depth_output": [0, 0, 0, 2, 2, 2, 10, 10, 10], "num_head_channels": 64,
    "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": 2048,
    "adm_in_channels": 2816, "num_classes": "sequential", "legacy": False, "use_temporal_attention": False,
    "num_heads": -1,
}  # fmt: skip
TEXT = 77  # tokens that one call of the text encoders reads, as the published trainer


def import_host() -> None:
    """Put ``COMFYUI_PATH`` on the path and start the host's modules, on CUDA or MPS where there is one, else
    on the CPU. Raises RuntimeError when ``COMFYUI_PATH`` is not a ComfyUI.
    """
    path = Path(os.environ.get("COMFYUI_PATH", ""))
    if not (path / "comfy" / "model_management.py").is_file():
        raise RuntimeError(
            f"COMFYUI_PATH is {str(path)!r}, expected the folder of a ComfyUI, with main.py and comfy/."
            " Set it to yours: export COMFYUI_PATH=/path/to/ComfyUI"
        )
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))
    from comfy.cli_args import args

    args.cpu = not (torch.cuda.is_available() or torch.backends.mps.is_available())
    # The faster kernels that the host may choose have no backward.
    args.use_pytorch_cross_attention = True


def load_pack() -> ModuleType:
    """The node pack, loaded the way the host loads it. Raises RuntimeError where it is not found."""
    if PACK in sys.modules:
        return sys.modules[PACK]
    root = find_pack()
    spec = importlib.util.spec_from_file_location(
        PACK, root / "__init__.py", submodule_search_locations=[str(root)]
    )
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACK] = module
    spec.loader.exec_module(module)
    return module


def find_pack() -> Path:
    """The folder of the nodes: where this package lies, or else among ComfyUI's custom nodes."""
    custom = Path(os.environ.get("COMFYUI_PATH", "")) / "custom_nodes"
    beside = Path(__file__).resolve().parents[1]
    roots: list[Path] = [beside, *(sorted(custom.iterdir()) if custom.is_dir() else ())]
    for root in roots:
        if (root / "nodes" / "_host" / "sdxl.py").is_file() and (root / "zsamb_core").is_dir():
            return root
    raise RuntimeError(
        f"the Z-SAMB nodes were found neither in {beside} nor in {custom}, expected the pack's folder with"
        " nodes/. Put the pack into ComfyUI's custom_nodes, or run this from a clone of it."
    )


@dataclass
class Host:
    """What is trained against. ``sigmas`` (1000,) of the schedule's steps, ``velocity`` whether the model
    predicts v instead of the noise; ``widths`` of the cross-attention layers, in execution order.
    """

    pack: ModuleType
    model: Any
    clip: Any
    vae: Any
    clip_vision: Any
    device: torch.device
    sigmas: torch.Tensor
    velocity: bool
    widths: Mapping[Layer, int]

    @property
    def unet(self) -> torch.nn.Module:
        unet: torch.nn.Module = self.model.model.diffusion_model
        return unet

    @property
    def context_width(self) -> int:
        width: int = self.pack.nodes._host.sdxl.context_width(self.model)
        return width

    def to_key_and_value(self) -> dict[Layer, tuple[torch.Tensor, torch.Tensor]]:
        """Weights of each cross-attention's own projections, in fp32 on the CPU."""
        blocks = self.pack.nodes._host.sdxl._transformer_blocks(self.model)
        return {
            Layer(*layer): (block.attn2.to_k.weight.float().cpu(), block.attn2.to_v.weight.float().cpu())
            for layer, block in blocks
        }

    def alphas(self) -> torch.Tensor:
        """The product of alphas up to each step, (1000,)."""
        return 1 / (1 + self.sigmas.double().square()).float()

    @torch.no_grad()
    def read_texts(self, texts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Context (n, 77, C) and the pooled text (n, P) of the host's text encoders. Weights in brackets are
        text, as training captions have none; what is behind 75 tokens is left out.
        """
        self.clip.load_model()
        towers, both = (
            self.clip.cond_stage_model,
            [self.clip.tokenize(t, disable_weights=True) for t in texts],
        )
        states = []
        for name in ("l", "g"):
            rows = [[token for token, *_ in tokens[name][0]] for tokens in both]
            states.append(getattr(towers, f"clip_{name}")(rows))
        (left, _), (right, pooled) = ((s[0], s[1]) for s in states)
        context = torch.cat([left[:, :TEXT], right[:, :TEXT]], -1)
        return context.to(self.device), pooled.to(self.device)

    @torch.no_grad()
    def encode_latents(self, pictures: torch.Tensor) -> torch.Tensor:
        """(n, 3, H, W) in -1..1 to latents (n, 4, H / 8, W / 8) in the model's space, on the CPU."""
        latents = self.vae.encode((pictures.movedim(1, -1) + 1) / 2)
        scaled: torch.Tensor = self.model.model.process_latent_in(latents)
        return scaled.float().cpu()

    @torch.no_grad()
    def look_at(self, pictures: Sequence[torch.Tensor], kind: str) -> torch.Tensor:
        """The image encoder's output for pictures (H, W, 3) in 0..1, of any sizes: pooled (n, D) for a "base"
        adapter, hidden states (n, L, H) for a "plus" one; on the CPU. Each is cut to its middle square.
        """
        vision, out = self.pack.nodes._host.instantstyle.vision, []
        for picture in pictures:
            embeds = vision.encode_images(self.clip_vision, picture[None], "centre", "zsamb train")
            out.append(embeds.pooled if kind == "base" else embeds.hidden)
        return torch.cat(out)

    @torch.no_grad()
    def no_image(self, kind: str, features: int) -> torch.Tensor:
        """What stands for no image: zeros (1, D) for a "base" adapter; for a "plus" one the hidden states
        (1, L, H) of zero pixels, as in the published trainers.
        """
        if kind == "base":
            return torch.zeros(1, features)
        blank: torch.Tensor = self.pack.nodes._host.instantstyle.vision.blank(self.clip_vision)
        return blank[None]

    def describe_sizes(
        self, pooled: torch.Tensor, sizes: Sequence[tuple[int, int]], crops: Sequence[tuple[int, int]],
        targets: Sequence[tuple[int, int]],
    ) -> torch.Tensor:  # fmt: skip
        """SDXL's vector of each picture: the pooled text, then its original size, crop and target; ``sizes``
        and ``targets`` (width, height), ``crops`` (top, left).
        """
        rows = [
            self.model.model.encode_adm(
                pooled_output=one[None], width=size[0], height=size[1], crop_h=crop[0], crop_w=crop[1],
                target_width=target[0], target_height=target[1], device=pooled.device,
            )
            for one, size, crop, target in zip(pooled.cpu(), sizes, crops, targets, strict=True)
        ]  # fmt: skip
        return torch.cat(rows).to(self.device)

    @torch.no_grad()
    def draw(
        self, model: Any, prompt: str, seed: int, size: tuple[int, int], steps: int, cfg: float
    ) -> torch.Tensor:
        """A picture (H, W, 3) of ``size`` (width, height), by the host's own sampler: ddim, simple."""
        import comfy.utils

        from nodes import common_ksampler  # the host's

        comfy.utils.PROGRESS_BAR_ENABLED = False  # a bar for each picture is no news
        positive, empty = (
            self.clip.encode_from_tokens_scheduled(self.clip.tokenize(t)) for t in (prompt, "")
        )
        latent = {"samples": torch.zeros(1, 4, size[1] // 8, size[0] // 8)}
        out = common_ksampler(model, seed, steps, cfg, "ddim", "simple", positive, empty, latent)[0]
        picture: torch.Tensor = self.vae.decode(out["samples"])[0].clamp(0, 1).cpu()
        return picture

    def predict(
        self,
        x: torch.Tensor,
        t: torch.Tensor,
        context: torch.Tensor,
        y: torch.Tensor,
        options: dict[str, Any],
    ) -> torch.Tensor:
        """The UNet's output for noised latents ``x`` of variance 1, at the schedule's steps ``t`` (n,)."""
        kind = self.model.model.get_dtype_inference()
        out: torch.Tensor = self.unet(
            x.to(kind), t.float(), context=context.to(kind), y=y.to(kind), transformer_options=options
        )
        return out.float()


def load_host(checkpoint: str, clip_vision: Path | None, half: bool) -> Host:
    """``checkpoint``: a file, or ``demo``; ``clip_vision``: an image encoder's file, not needed for the demo,
    or where embeddings are cached. ``half``: the UNet in bf16. Raises ValueError for other models than SDXL.
    """
    import_host()
    pack = load_pack()
    import comfy.model_management as management

    if checkpoint == DEMO:
        model, clip, vae = pack.nodes._host.demo_model.load_demo_model()
        encoder = pack.nodes._host.demo_model.load_demo_clip_vision()
    else:
        model, clip, vae, encoder = _from_files(pack, Path(checkpoint), clip_vision, half)
    sdxl = pack.nodes._host.sdxl
    sdxl.require_sdxl(model, "zsamb train")
    sampling, velocity = _prediction(model)
    model.model.requires_grad_(False)
    management.load_models_gpu([model], force_full_load=True)
    unet = model.model.diffusion_model.eval()
    width = next(unet.parameters())
    widths = sdxl.cross_attention(model, sdxl.context_width(model), "zsamb train")
    return Host(
        pack, model, clip, vae, encoder, width.device, sampling.sigmas.float().cpu(), velocity,
        {Layer(*layer): width for layer, width in widths.items()},
    )  # fmt: skip


def _from_files(
    pack: ModuleType, checkpoint: Path, clip_vision: Path | None, half: bool
) -> tuple[Any, Any, Any, Any]:
    import comfy.sd

    for name, path in (("checkpoint", checkpoint), ("clip-vision", clip_vision)):
        if path is not None and not path.is_file():
            raise ValueError(f"--{name}: there is no file {path}, expected a .safetensors file of yours.")
    options: dict[str, Any] = {"dtype": torch.bfloat16} if half else {"dtype": torch.float32}
    loaded = comfy.sd.load_checkpoint_guess_config(str(checkpoint), model_options=options)
    model, clip, vae = loaded[:3]
    if model is None or clip is None or vae is None:
        lacking = [n for n, part in (("UNet", model), ("text encoders", clip), ("VAE", vae)) if part is None]
        raise ValueError(
            f"--checkpoint: {checkpoint.name} has no {' and no '.join(lacking)}, expected a whole SDXL"
            " checkpoint such as sd_xl_base_1.0.safetensors."
        )
    vision = pack.nodes._host.instantstyle.vision
    return model, clip, vae, vision.load_encoder(clip_vision) if clip_vision else None


def _prediction(model: Any) -> tuple[Any, bool]:
    """The model's sampling, and whether it predicts v. Raises ValueError for other kinds."""
    import comfy.model_sampling as kinds

    sampling = model.get_model_object("model_sampling")
    others = (kinds.EDM,)
    if not isinstance(sampling, kinds.EPS) or isinstance(sampling, others) or len(sampling.sigmas) != 1000:
        raise ValueError(
            f"the checkpoint samples as {type(sampling).__mro__[1].__name__}, expected a model of 1000 steps"
            " that predicts the noise or v, as SDXL and its fine-tunes do."
        )
    return sampling, isinstance(sampling, kinds.V_PREDICTION)


def attend(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, extra: dict[str, Any]) -> torch.Tensor:
    """The host's attention of a layer with ``extra`` options, (n, N, C)."""
    from comfy.ldm.modules.attention import optimized_attention

    return optimized_attention(
        q, k, v, extra["n_heads"], attn_precision=extra["attn_precision"], transformer_options=extra
    )


def attention(device: torch.device) -> Any:
    """The host's attention function to train with, as its ``optimized_attention_override``."""
    import comfy.ldm.modules.attention as kernels

    # On a CPU the fused kernel's backward is far slower than two plain matrix products.
    kernel = kernels.attention_basic if device.type == "cpu" else kernels.attention_pytorch
    return lambda _, *args, **kwargs: kernel(*args, **kwargs)


def compute_again(unet: torch.nn.Module) -> None:
    """Let the UNet's blocks keep their input alone and compute the rest again for the gradients. The options
    change while a call runs, so each block keeps those that it was called with.
    """
    from comfy.ldm.modules.attention import BasicTransformerBlock
    from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock

    for module in unet.modules():
        if isinstance(module, (BasicTransformerBlock, ResBlock)):
            module.forward = partial(_checkpointed, module.forward)


def _checkpointed(forward: Any, *args: Any, **kwargs: Any) -> Any:
    if "transformer_options" in kwargs:
        kwargs["transformer_options"] = dict(kwargs["transformer_options"])
    # Without reentrance: the first block's input needs no gradient, and still there are some inside.
    return checkpoint(forward, *args, use_reentrant=False, **kwargs)


def empty_unet(demo: bool, kind: torch.dtype) -> tuple[torch.nn.Module, dict[Layer, int], int]:
    """SDXL's UNet, or the demo's, without weights, the widths of its cross-attention layers, and of its
    context.
    """
    import_host()
    pack = load_pack()
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    config: dict[str, Any] = pack.demo.unet.UNET_CONFIG if demo else SDXL_UNET
    unet = UNetModel(**{**config, "dtype": kind, "device": torch.device("meta")}).requires_grad_(False)
    base = SimpleNamespace(model=SimpleNamespace(diffusion_model=unet))
    widths = pack.nodes._host.sdxl.cross_attention(base, config["context_dim"], "zsamb train")
    return unet, {Layer(*layer): width for layer, width in widths.items()}, config["context_dim"]
