"""The demo family's judges: a DINO vision transformer and a CLIP pair, shapes and loading.

Both are transformers' own classes at a small size. Weights are fp16 safetensors under ``weights/``; the CLIP
pair's text tower keeps the rows of the captions' words alone, and one for all others.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file

WEIGHTS = Path(__file__).parent / "weights"
SIZE, CLIP_SIZE = 128, 64
DINO = {
    "hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 512,
    "image_size": SIZE, "patch_size": 16, "qkv_bias": True, "layer_norm_eps": 1e-6,
}  # fmt: skip
DINO_MEAN, DINO_STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP_VISION = {
    "hidden_size": 128, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 512,
    "image_size": CLIP_SIZE, "patch_size": 8, "projection_dim": 128, "hidden_act": "gelu",
}  # fmt: skip
CLIP_TEXT = {
    "hidden_size": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 512,
    "max_position_embeddings": 77, "projection_dim": 128, "hidden_act": "gelu", "vocab_size": 49408,
    "eos_token_id": 49407, "bos_token_id": 49406,
}  # fmt: skip


def make_dino(eager: bool = False):
    """transformers' ViTModel, untrained. Training on a CPU is faster with ``eager`` attention."""
    from transformers import ViTConfig, ViTModel

    settings = {"attn_implementation": "eager"} if eager else {}
    return ViTModel(ViTConfig(**DINO, **settings), add_pooling_layer=False)


def make_clip(vocabulary: int | None = None, eager: bool = False):
    """transformers' CLIPModel, untrained, over the whole vocabulary or one of so many rows, whose last two
    are the start and the end of a text.
    """
    from transformers import CLIPConfig, CLIPModel

    text = dict(CLIP_TEXT)
    if vocabulary is not None:
        text |= {
            "vocab_size": vocabulary, "bos_token_id": vocabulary - 2, "eos_token_id": vocabulary - 1
        }  # fmt: skip
    settings = {"attn_implementation": "eager"} if eager else {}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=CLIP_VISION, projection_dim=128, **settings))


def load_dino():
    """The trained DINO, in fp32, for evaluation."""
    return _loaded(make_dino(), load_file(WEIGHTS / "dino.safetensors"))


def load_clip():
    """The trained CLIP pair over CLIP's own vocabulary, in fp32, for evaluation."""
    state = load_file(WEIGHTS / "clip.safetensors")
    ids, name = state.pop("token_ids").long(), "text_model.embeddings.token_embedding.weight"
    rows = state[name]
    table = rows[0].repeat(CLIP_TEXT["vocab_size"], 1)
    table[ids] = rows[1:]
    return _loaded(make_clip(), {**state, name: table})


def _loaded(model, state: dict[str, torch.Tensor]):
    missing, extra = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not extra and all("position_ids" in name for name in missing), (missing, extra)
    return model.eval()


def normalise(pictures: torch.Tensor, mean, std) -> torch.Tensor:
    """(B, 3, H, W) in 0..1 to what a judge was trained on."""
    return (pictures - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
