from typing import Any

from PIL.Image import Image

class LatentPreviewer:
    def decode_latent_to_preview(self, x0: Any) -> Image: ...
    def decode_latent_to_preview_image(self, preview_format: str, x0: Any) -> Any: ...
