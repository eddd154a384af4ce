"""One set of random weights as diffusers' UNet and as the host's MODEL, wired as SDXL is."""

import comfy.model_patcher
import comfy.supported_models
import comfy.utils
import torch
from diffusers import UNet2DConditionModel

CONTEXT, POOLED = 96, 64
# SDXL's wiring and head width, hence its eleven attention blocks, in narrow: 32, 64 and 128 channels.
UNET_CONFIG = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32, "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 4], "transformer_depth": [0, 0, 1, 1, 2, 2], "transformer_depth_middle": 2,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 2, 2, 2], "num_head_channels": 64, "num_heads": -1,
    "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": CONTEXT,
    "adm_in_channels": POOLED + 6 * 256, "num_classes": "sequential", "legacy": False,
    "use_temporal_attention": False,
}  # fmt: skip

# SD1.5's wiring: sixteen blocks of one layer, eight heads whatever the width.
SD15_CONFIG = {
    "image_size": 32, "in_channels": 4, "out_channels": 4, "model_channels": 32,
    "num_res_blocks": [2, 2, 2, 2], "channel_mult": [1, 2, 4, 4],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0], "num_heads": 8,
    "num_head_channels": -1, "use_spatial_transformer": True, "use_linear_in_transformer": False,
    "context_dim": CONTEXT, "adm_in_channels": None, "legacy": False, "use_temporal_attention": False,
}  # fmt: skip


def diffusers_unet():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 128), transformer_layers_per_block=(1, 1, 2),
        attention_head_dim=(1, 1, 2),  # diffusers' name for the number of heads
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=CONTEXT, use_linear_projection=True, addition_embed_type="text_time",
        addition_time_embed_dim=256, projection_class_embeddings_input_dim=POOLED + 6 * 256,
    )  # fmt: skip
    return unet.requires_grad_(False).eval()


def diffusers_sd15():
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        block_out_channels=(32, 64, 128, 128), attention_head_dim=8,
        down_block_types=(*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"),
        up_block_types=("UpBlock2D", *["CrossAttnUpBlock2D"] * 3), cross_attention_dim=CONTEXT,
    )  # fmt: skip
    return unet.requires_grad_(False).eval()


def host_model(network, kind=comfy.supported_models.SDXL, config=UNET_CONFIG):
    """The same network as the host's MODEL; in fp32 on the CPU, as diffusers' is, whatever the machine."""
    cpu, host_names = torch.device("cpu"), comfy.utils.unet_to_diffusers(config)
    weights = {host_names[name]: value.clone() for name, value in network.state_dict().items()}
    config = kind(config)
    config.set_inference_dtype(torch.float32, None)
    base = config.get_model(weights, device=cpu)
    assert set(weights) == set(base.diffusion_model.state_dict())
    base.load_model_weights(weights)
    return comfy.model_patcher.ModelPatcher(base, load_device=cpu, offload_device=cpu)
