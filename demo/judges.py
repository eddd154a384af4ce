"""The demo family's judges: a DINO vision transformer and a CLIP pair, shapes and loading.

Both are transformers' own classes at a small size. Weights are fp16 safetensors under ``weights/``; the CLIP
pair's text tower keeps the rows of the captions' words alone, and one for all others.
"""

import os
from importlib import import_module
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


# The file has the names of transformers 5; these are of the same parts in transformers 4.
VIT_BEFORE_5 = {
    "layers.": "encoder.layer.", "attention.q_proj": "attention.attention.query",
    "attention.k_proj": "attention.attention.key", "attention.v_proj": "attention.attention.value",
    "attention.o_proj": "attention.output.dense", "mlp.fc1": "intermediate.dense", "mlp.fc2": "output.dense",
}  # fmt: skip


def load_dino():
    """The trained DINO, in fp32, for evaluation."""
    model, state = make_dino(), load_file(WEIGHTS / "dino.safetensors")
    if any(name.startswith("encoder.layer.") for name in model.state_dict()):
        for new, old in VIT_BEFORE_5.items():
            state = {name.replace(new, old): value for name, value in state.items()}
    return _loaded(model, state)


def load_clip():
    """The trained CLIP pair over CLIP's own vocabulary, in fp32, for evaluation."""
    state = load_file(WEIGHTS / "clip.safetensors")
    ids, name = state.pop("token_ids").long(), "text_model.embeddings.token_embedding.weight"
    rows = state[name]
    table = rows[0].repeat(CLIP_TEXT["vocab_size"], 1)
    table[ids] = rows[1:]
    return _loaded(make_clip(), {**state, name: table})


def clip_tokenizer_folder() -> Path:
    """CLIP's vocabulary, which ComfyUI ships. Raises ValueError without a ComfyUI in ``COMFYUI_PATH``."""
    path = os.environ.get("COMFYUI_PATH", "")
    folder = Path(path) / "comfy" / "sd1_tokenizer"
    if not path or not all((folder / name).is_file() for name in ("vocab.json", "merges.txt")):
        raise ValueError(
            f"COMFYUI_PATH is {path!r}, expected a ComfyUI folder with comfy/sd1_tokenizer/vocab.json and"
            " merges.txt: the demo CLIP (--clip demo) reads its texts with them. Set COMFYUI_PATH, or give"
            " the folder of another CLIP."
        )
    return folder


def clip_texts(folder: Path):
    """Texts to token rows (n, 77), padded with the end as OpenAI's CLIP pads; and a text's count of tokens,
    uncut.
    """
    from transformers import CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(folder, local_files_only=True)
    length, end = CLIP_TEXT["max_position_embeddings"], CLIP_TEXT["eos_token_id"]

    def tokens(texts: list[str]) -> torch.Tensor:
        rows = tokenizer(texts, truncation=True, max_length=length)["input_ids"]
        return torch.tensor([row + [end] * (length - len(row)) for row in rows])

    def count(text: str) -> int:
        return len(tokenizer(text, truncation=False, verbose=False)["input_ids"])

    return tokens, count


def demo_judge(name: str, tokenizer: Path | None = None):
    """The trained "dino" or "clip" as a `VisionModel`. Both were trained on squares, so their own
    preprocessing is to squash too. ``tokenizer``: the folder of CLIP's vocabulary, for a caller that knows
    it without ``COMFYUI_PATH``.
    """
    # Inside ComfyUI this package and the core are parts of the pack; for the tools both are on the path.
    pack = (__package__ or "").rpartition(".")[0]
    vision = import_module(f"{pack}.zsamb_core.scores.judge" if pack else "zsamb_core.scores.judge")
    if name == "dino":
        kind, side, mean, std, texts = "vit", SIZE, DINO_MEAN, DINO_STD, ()
    elif name == "clip":
        kind, side, mean, std, texts = (
            "clip",
            CLIP_SIZE,
            CLIP_MEAN,
            CLIP_STD,
            clip_texts(tokenizer or clip_tokenizer_folder()),
        )
    else:
        raise ValueError(f"there is no demo judge {name!r}, expected 'dino' or 'clip'")
    model = load_dino() if name == "dino" else load_clip()
    bicubic = 3  # PIL's number

    def squashed(pictures):
        return judge.prepared(pictures, vision.PUBLISHED)

    judge = vision.VisionModel(kind, model, side, mean, std, bicubic, squashed, *texts)
    return judge


def _loaded(model, state: dict[str, torch.Tensor]):
    missing, extra = model.load_state_dict({k: v.float() for k, v in state.items()}, strict=False)
    assert not extra and all("position_ids" in name for name in missing), (missing, extra)
    return model.eval()


def normalize(pictures: torch.Tensor, mean, std) -> torch.Tensor:
    """(B, 3, H, W) in 0..1 to what a judge was trained on."""
    return (pictures - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]
