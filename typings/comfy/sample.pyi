import torch

def prepare_noise(
    latent_image: torch.Tensor, seed: int, noise_inds: list[int] | None = None
) -> torch.Tensor: ...
