"""Shapes of the demo UNet and its text encoders: SDXL's wiring with fewer and narrower layers.

The eleven attention blocks sit at SDXL's host coordinates: input 4, 5, 7, 8, middle 0, output 0..5.
"""

UNET_CONFIG = {
    "image_size": 16, "in_channels": 4, "out_channels": 4, "model_channels": 64, "num_res_blocks": [2, 2, 2],
    "channel_mult": [1, 2, 2], "transformer_depth": [0, 0, 1, 1, 1, 2], "transformer_depth_middle": 1,
    "transformer_depth_output": [0, 0, 0, 1, 1, 1, 1, 1, 1], "num_head_channels": 32, "num_heads": -1,
    "use_spatial_transformer": True, "use_linear_in_transformer": True, "context_dim": 192,
    "adm_in_channels": 1664, "num_classes": "sequential", "legacy": False, "use_temporal_attention": False,
}  # fmt: skip
SAMPLING = {
    "beta_schedule": "linear",
    "linear_start": 0.00085,
    "linear_end": 0.012,
    "timesteps": 1000,
    "zsnr": True,
}


def _text(width: int, activation: str) -> dict:
    return {
        "hidden_size": width,
        "intermediate_size": 4 * width,
        "num_attention_heads": width // 32,
        "num_hidden_layers": 3,
        "hidden_act": activation,
        "max_position_embeddings": 77,
        "projection_dim": width,
        "eos_token_id": 49407,
        "vocab_size": 49408,
    }


TEXT_L_CONFIG = _text(64, "quick_gelu")
TEXT_G_CONFIG = _text(128, "gelu")
