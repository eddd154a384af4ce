"""Build the embedded demo model out of the host's own classes, from the weights under demo/."""

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import comfy.latent_formats
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models
import comfy.supported_models_base
import comfy.utils
import numpy as np
import torch

from ...demo.judges import CLIP_MEAN, CLIP_STD, CLIP_VISION
from ...demo.unet import SAMPLING, TEXT_G_CONFIG, TEXT_L_CONFIG, UNET_CONFIG
from ...demo.vae import VAE_CONFIG
from .types import Clip, ClipVision, Image, Model, Vae

WEIGHTS = Path(__file__).resolve().parents[2] / "demo" / "weights"


class DemoLatents(comfy.latent_formats.SDXL):
    """SDXL's scale, and the colors of the demo's own autoencoder for previews."""

    def __init__(self) -> None:
        super().__init__()
        colors = json.loads(_weights("latent_rgb.json").read_text(encoding="utf-8"))
        self.latent_rgb_factors = colors["factors"]
        self.latent_rgb_factors_bias = colors["bias"]
        self.taesd_decoder_name = None  # SDXL's would show other colors


class DemoSDXL(comfy.supported_models.SDXL):
    """SDXL as the host knows it, with the demo UNet's shape, v-prediction and zero terminal SNR."""

    unet_extra_config: dict = {}
    latent_format = DemoLatents

    def __init__(self, unet_config: dict[str, Any]) -> None:
        super().__init__(unet_config)
        self.sampling_settings = dict(SAMPLING)

    def model_type(self, state_dict: dict[str, Any], prefix: str = "") -> Any:
        return comfy.model_base.ModelType.V_PREDICTION


class DemoTextEncoders(comfy.sdxl_clip.SDXLClipModel):
    """SDXL's pair of text encoders, narrow."""

    def __init__(self, device: Any = "cpu", dtype: Any = None, model_options: dict[str, Any] = {}) -> None:
        torch.nn.Module.__init__(self)
        common = {
            "layer": "hidden",
            "layer_idx": -2,
            "device": device,
            "dtype": dtype,
            "layer_norm_hidden_state": False,
        }
        self.clip_l = comfy.sd1_clip.SDClipModel(
            textmodel_json_config=dict(TEXT_L_CONFIG),
            model_options={**model_options, "model_name": "clip_l"},
            **common,
        )
        self.clip_g = comfy.sd1_clip.SDClipModel(
            textmodel_json_config=dict(TEXT_G_CONFIG),
            model_options={**model_options, "model_name": "clip_g"},
            special_tokens={"start": 49406, "end": 49407, "pad": 0},
            **common,
        )
        self.dtypes = {dtype}


def _weights(name: str, node: str = "Load Demo Model") -> Path:
    path = WEIGHTS / name
    if not path.is_file():
        raise FileNotFoundError(
            f"{node}: {name} was not found in {WEIGHTS}, expected the demo weights that come with the pack."
            " Install the pack again."
        )
    return path


def _load(name: str) -> dict[str, torch.Tensor]:
    return comfy.utils.load_torch_file(str(_weights(name)), safe_load=True)


def expand_vocabulary(text: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The stored embedding rows spread over CLIP's 49408 tokens; row 0 stands for every word the model
    never met.
    """
    ids = text.pop("token_ids").long()
    for encoder in ("clip_l", "clip_g"):
        key = f"{encoder}.transformer.text_model.embeddings.token_embedding.weight"
        rows = text[key]
        table = rows[0].repeat(TEXT_L_CONFIG["vocab_size"], 1)
        table[ids] = rows[1:]
        text[key] = table
    return text


def load_demo_model() -> tuple[Model, Clip, Vae]:
    """MODEL, CLIP and VAE. Raises FileNotFoundError, naming file and folder, when weights are missing."""
    unet, text, autoencoder = (_load(f"{name}.safetensors") for name in ("unet", "text", "vae"))
    model, clip, vae = _model(unet), _clip(text), _vae(autoencoder)
    # How the host makes another of each: for another GPU, or where hooks need weights that stay in place.
    model.cached_patcher_init = (_patcher, ("unet",))
    clip.patcher.cached_patcher_init = (_patcher, ("text",))
    vae.patcher.cached_patcher_init = (_patcher, ("vae",))
    return model, clip, vae


def _patcher(name: str, disable_dynamic: bool = False) -> Model:
    """One of the three loaded anew. ``disable_dynamic``: with its weights in place."""
    file = _load(f"{name}.safetensors")
    if name == "unet":
        return _model(file, disable_dynamic)
    return (_clip(file, disable_dynamic) if name == "text" else _vae(file)).patcher


def _model(unet: dict[str, torch.Tensor], disable_dynamic: bool = False) -> Model:
    device = comfy.model_management.get_torch_device()
    config = DemoSDXL(UNET_CONFIG)
    dtype = comfy.model_management.unet_dtype(
        model_params=comfy.utils.calculate_parameters(unet),
        supported_dtypes=config.supported_inference_dtypes,
    )
    config.set_inference_dtype(
        dtype, comfy.model_management.unet_manual_cast(dtype, device, config.supported_inference_dtypes)
    )
    base = config.get_model(unet, device=comfy.model_management.unet_offload_device())
    kind = comfy.model_patcher.ModelPatcher if disable_dynamic else comfy.model_patcher.CoreModelPatcher
    model = kind(base, load_device=device, offload_device=comfy.model_management.unet_offload_device())
    base.load_model_weights(unet, assign=model.is_dynamic())
    return model


def _clip(text: dict[str, torch.Tensor], disable_dynamic: bool = False) -> Clip:
    target = comfy.supported_models_base.ClipTarget(comfy.sdxl_clip.SDXLTokenizer, DemoTextEncoders)
    text = expand_vocabulary(text)
    more = {"disable_dynamic": True} if disable_dynamic else {}
    return comfy.sd.CLIP(target, state_dict=text, parameters=comfy.utils.calculate_parameters(text), **more)


def _vae(vae: dict[str, torch.Tensor]) -> Vae:
    return comfy.sd.VAE(sd=vae, config={"params": VAE_CONFIG})


def demo_adapter(node: str) -> Path:
    """The demo's IP-Adapter. Raises as `load_demo_model`."""
    return _weights("ip_adapter.safetensors", node)


def demo_encoder(node: str) -> Path:
    """The demo's CLIP pair, whose image tower is its image encoder. Raises as `load_demo_model`."""
    return _weights("clip.safetensors", node)


def load_demo_clip_vision() -> ClipVision:
    """CLIP_VISION: the image tower of the demo's CLIP pair. Raises as `load_demo_model`."""
    config = {
        **CLIP_VISION, "num_channels": 3, "layer_norm_eps": 1e-5, "model_type": "clip_vision_model",
        "image_mean": CLIP_MEAN, "image_std": CLIP_STD,
    }  # fmt: skip
    vision = comfy.clip_vision.ClipVisionModel(config)
    towers = ("vision_model.", "visual_projection.")
    state = {name: value for name, value in _load("clip.safetensors").items() if name.startswith(towers)}
    missing, _ = vision.load_sd(state)
    assert not [name for name in missing if "position_ids" not in name], missing
    return vision


def style_picture() -> Image:
    """(1, 128, 128, 3) in 0..1: a star in a style that no part of the demo was trained on."""
    from ...demo.pictures import draw  # with scipy, which is slow to import
    from ...demo.styles import HELD_OUT

    drawn = draw("star", HELD_OUT["lava"], np.random.default_rng(1))
    return torch.from_numpy(drawn).float()[None]
