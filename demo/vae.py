"""The demo autoencoder's shape: the host's AutoencoderKL, 1/8 size, 4 channels, much narrower than SDXL's."""

VAE_CONFIG = {
    "embed_dim": 4,
    "ddconfig": {
        "double_z": True,
        "z_channels": 4,
        "resolution": 128,
        "in_channels": 3,
        "out_ch": 3,
        "ch": 32,
        "ch_mult": [1, 1, 2, 4],
        "num_res_blocks": 1,
        "attn_resolutions": [],
        "dropout": 0.0,
    },
}
SDXL_SCALE = 0.13025  # the host multiplies SDXL latents by this; the demo latents are scaled to fit
