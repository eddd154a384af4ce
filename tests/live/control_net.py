"""A ControlNet file with the demo UNet's shape and random weights, made in a process of its own: the tests of
a server do not import the host.
"""

import subprocess
import sys
from pathlib import Path

from tools.host import find_host

CODE = """
import sys
from comfy.cli_args import args
args.cpu = True
import comfy.cldm.cldm, comfy.ops, torch
from safetensors.torch import save_file
sys.path.append(sys.argv[2])
from demo.unet import UNET_CONFIG
config = {k: v for k, v in UNET_CONFIG.items() if k not in ("out_channels", "transformer_depth_output")}
net = comfy.cldm.cldm.ControlNet(
    **config, hint_channels=3, dtype=torch.float32, operations=comfy.ops.disable_weight_init
)
generator = torch.Generator().manual_seed(1)
state = {n: torch.randn(p.shape, generator=generator) * 0.05 for n, p in net.state_dict().items()}
save_file(state, sys.argv[1])
"""


def save_control_net(path: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    subprocess.run(
        [sys.executable, "-c", CODE, str(path), str(root)], check=True, cwd=find_host(), capture_output=True
    )
