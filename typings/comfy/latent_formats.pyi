class SDXL:
    latent_rgb_factors: list[list[float]]
    latent_rgb_factors_bias: list[float]
    taesd_decoder_name: str | None
