"""Stand-ins for the files that the shipped workflows name: the demo model's shape or a tiny one, and random
weights. What is the host's own class is made in a process of its own: the tests of a server do not import it.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.host.adapters import base_projector, flat, rand
from tests.sounds import music, sound_file, write_wav
from tools.hosting.host import find_host

MAKE = """
import sys
from comfy.cli_args import args
args.cpu = True
import comfy.cldm.cldm, comfy.ldm.depth_anything_3.model as da3, comfy.ops, torch
from safetensors.torch import save_file
control, depth, root = sys.argv[1:]
sys.path.append(root)
from demo.unet import UNET_CONFIG

def randoms(net):
    generator = torch.Generator().manual_seed(1)
    return {n: torch.randn(p.shape, generator=generator) * 0.05 for n, p in net.state_dict().items()}

made = {"dtype": torch.float32, "operations": comfy.ops.disable_weight_init}
config = {k: v for k, v in UNET_CONFIG.items() if k not in ("out_channels", "transformer_depth_output")}
save_file(randoms(comfy.cldm.cldm.ControlNet(**config, hint_channels=3, **made)), control)
net = da3.DepthAnything3Net(
    "vits", out_layers=(5, 7, 9, 11), head_dim_in=384, head_features=32, head_out_channels=(32, 32, 32, 32),
    device="cpu", **made
)
save_file({n: t.half() for n, t in randoms(net).items()}, depth)
"""
CONTEXT, WIDTH, FEATURES = 192, 128, 128
MODELS = {
    "Salesforce/blip-image-captioning-base": "blip",
    "openai/whisper-small": "whisper",
    "laion/clap-htsat-unfused": "clap",
    "google-t5/t5-small": "t5",
}


def save_host_models(control: Path, depth: Path) -> None:
    """A ControlNet for the demo model, and a Depth Anything."""
    root = Path(__file__).resolve().parents[2]
    for path in (control, depth):
        path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", MAKE, str(control), str(depth), str(root)]
    subprocess.run(command, check=True, cwd=find_host(), capture_output=True)


def save_adapter(path: Path) -> None:
    """An IP-Adapter for the demo model and its image encoder."""
    generator = torch.Generator().manual_seed(1)
    state = {
        "image_proj": base_projector(generator, 4, CONTEXT, FEATURES),
        "ip_adapter": {
            f"{n}.to_{p}_ip.weight": rand(generator, WIDTH, CONTEXT) for n in range(1, 24, 2) for p in "kv"
        },
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(flat(state), path)


def save_pictures(inputs: Path) -> None:
    """The pictures that the shipped workflows load. Other users of a server may have put theirs in place."""
    from demo.pictures import draw
    from demo.styles import HELD_OUT

    shown = {
        "reference": ("star", "lava"), "reference_2": ("moon", "arctic"), "structure": ("house", "plum"),
        "picture": ("boat", "lava"), "style": ("moon", "arctic"), "content": ("house", "lava"),
    }  # fmt: skip
    for name, (what, style) in shown.items():
        picture = draw(what, HELD_OUT[style], np.random.default_rng(1))
        Image.fromarray((picture * 255).astype(np.uint8)).save(inputs / f"{name}.png")


def save_all(base: Path, tiny: dict[str, Path]) -> None:
    """Models, pictures and sounds under a server's base folder, by the names in the workflows."""
    models, inputs = base / "models", base / "input"
    control = models / "controlnet" / "control-lora-canny-rank256.safetensors"
    save_host_models(control, models / "geometry_estimation" / "depth_anything_3_mono_large.safetensors")
    for name in ("control-lora-depth-rank256", "TTPLANET_Controlnet_Tile_realistic_v2_fp16"):
        shutil.copy(control, control.with_name(f"{name}.safetensors"))
    for name in ("ip-adapter_sdxl_vit-h.safetensors", "ip-adapter_sdxl.safetensors"):
        save_adapter(models / "ipadapter" / name)
    for name, kind in MODELS.items():
        shutil.copytree(tiny[kind], models / "transformers" / name)
    save_pictures(inputs)
    sound_file(inputs / "speech.wav")
    write_wav(inputs / "music.wav", music(12, 44_100), 44_100)
