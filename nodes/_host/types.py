"""The host's values by the names of its sockets, for annotations."""

from typing import Any, TypeAlias

import torch
from comfy.clip_vision import ClipVisionModel
from comfy.model_patcher import ModelPatcher
from comfy.sd import CLIP, VAE

Model: TypeAlias = ModelPatcher
Clip: TypeAlias = CLIP
Vae: TypeAlias = VAE
ClipVision: TypeAlias = ClipVisionModel
Image: TypeAlias = torch.Tensor  # (n, H, W, 3) in 0..1
Mask: TypeAlias = torch.Tensor  # (n, H, W)
Latent: TypeAlias = dict[str, Any]  # "samples" (n, C, h, w), and perhaps "noise_mask" and "batch_index"
Conditioning: TypeAlias = list[Any]  # of [tokens (rows, T, C), details]
Audio: TypeAlias = dict[str, Any]  # "waveform" (n, channels, samples) and "sample_rate"
