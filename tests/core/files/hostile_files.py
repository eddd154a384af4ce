"""Adapter and model files that ask for much, read in a process of its own with little memory.

``python -m tests.core.files.hostile_files FOLDER`` prints a JSON object: of each case the error it ended in,
and the seconds and megabytes that it took. `CASES` are the cases: the message that each is expected to end
in.
"""

import json
import resource
import shutil
import signal
import struct
import sys
import time
from itertools import pairwise
from pathlib import Path

from tests.core.files.hostile_pickles import PICKLES

ROOM, SECONDS = 700 << 20, 60  # bytes, and the time that a reader may take
# Read by every reader of pickles; the others by that of adapters alone, since they share what refuses them.
EVERYWHERE = ("bytearray", "packed pickle", "the same dicts", "tower of tuples", "older data without bytes")


# safetensors.


def safetensors(entries, about=None) -> bytes:
    """(name, format, shape, bytes)"""
    header, start = {"__metadata__": about} if about else {}, 0
    for name, kind, shape, size in entries:
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [start, start + size]}
        start += size
    data = json.dumps(header).encode()
    return struct.pack("<Q", len(data)) + data + bytes(start)


EMBEDS = {"format": "zsamb_style_embeds", "encoder": "[6, 5]", "weights": "[1.0]", "changed": "false"}
OTHERS = [(name, "F32", [1], 4) for name in ("image_proj.norm.weight", "ip_adapter.1.to_k_ip.weight")]


def embeds(about=EMBEDS, kind="F32", bits=32) -> bytes:
    shapes = {"pooled": [1, 8], "hidden": [1, 4, 6], "blank": [4, 6]}
    return safetensors([(n, kind, s, s[-1] * s[-2] * bits // 8) for n, s in shapes.items()], about)


REFERENCE = {"format": "zsamb_style_reference", "version": "1", "crc32": '{"x": 0}', "structure": "[]"}


def reference(**about) -> bytes:
    return safetensors([("x", "F32", [0], 0)], REFERENCE | about)


def long_list() -> bytes:
    return struct.pack("<Q", 90_000_000) + bytes(90_000_100)


SAFETENSORS = {
    "adapter": {
        "a list of 90 MB": (long_list, "said to have 90,000,000 bytes"),
        "many tensors": (
            lambda: safetensors([(f"{i}", "F32", [0], 0) for i in range(150_000)]), "it has 150,000 tensors",
        ),
        "a long name": (lambda: safetensors([("x" * 3_000_000, "F32", [1], 4)]), "found xx.* and so on"),
        "a long shape": (
            lambda: safetensors([("image_proj.proj.weight", "F32", [1] * 500_000, 4), *OTHERS]),
            "expected tokens",
        ),
    },
    "embeds": {
        "four bits": (lambda: embeds(kind="F4", bits=4), "not implemented"),
        "six bits": (lambda: embeds(kind="F6_E2M3", bits=6), "not a file of encoded style images"),
        "complex": (lambda: embeds(kind="C64", bits=64), "another kind of numbers"),
        "many weights": (lambda: embeds(EMBEDS | {"weights": f"[1{', 1' * 500_000}]"}), "expected images by"),
        "deep weights": (lambda: embeds(EMBEDS | {"weights": "[" * 200_000}), "recursion"),
        "a long encoder": (lambda: embeds(EMBEDS | {"encoder": f"[{'9' * 4000}, 5]"}), "not a file of"),
        "a list of 90 MB": (long_list, "said to have 90,000,000 bytes"),
    },
    "reference": {
        "deep structure": (lambda: reference(structure="[" * 200_000), "nested more than 200 levels"),
        "somewhat deep": (lambda: reference(structure="[" * 90 + "]" * 90), "a damaged style reference"),
        "many references": (lambda: reference(structure=f"[{'1, ' * 4_000_000}1]"), "a damaged style refer"),
        "many fields": (
            lambda: reference(structure=json.dumps([{f"{i}": i for i in range(300_000)}])), "lacks, or has",
        ),
        "many tensors": (lambda: reference(crc32=f"[{'0, ' * 4_000_000}0]"), "not those that it lists"),
        "a long number": (lambda: reference(structure=f"[{'9' * 5_000_000}]"), "a damaged style reference"),
        "a long version": (lambda: reference(version="9" * 5_000_000), "its version is '999"),
        "a long format": (lambda: reference(format="x" * 5_000_000), "another kind of file"),
        "a long picture": (
            lambda: reference(thumbnail="data:image/jpeg;base64," + "A" * 5_000_000), "small picture is no",
        ),
        "a list of 90 MB": (long_list, "said to have 90,000,000 bytes"),
    },
}  # fmt: skip


# Folders as transformers saves them: of which kind, the file, and what is put into it.

CONFIG, PREPARE, GENERATE = "config.json", "preprocessor_config.json", "generation_config.json"
FOLDERS = {
    "20,000 layers": ("whisper", CONFIG, {"encoder_layers": 20_000}, "encoder_layers is 20000, expected"),
    "more layers than weights": ("t5", CONFIG, {"num_layers": 300}, "num_layers is 300, expected 47 at most"),
    "layers of sound": ("clap", CONFIG, {"audio_config": {"depths": [9999] * 4}}, "depths is 9999"),
    "a large vocabulary": ("whisper", CONFIG, {"vocab_size": 10**9}, "vocab_size is 1000000000, expected"),
    "a wide model": ("t5", CONFIG, {"d_model": 50_000, "d_ff": 50_000}, "a model of .* numbers, and"),
    "many labels": ("vit", CONFIG, {"num_labels": 10**9}, "num_labels is 1000000000"),
    "a large picture": ("vit", CONFIG, {"image_size": 10**5}, "image_size is 100000, expected 2,048"),
    "small patches": ("vit", CONFIG, {"image_size": 2048, "patch_size": 1}, "a model of .* numbers"),
    "a number without end": ("vit", CONFIG, {"hidden_size": float("inf")}, "hidden_size is inf"),
    "a number that is none": ("vit", CONFIG, {"hidden_size": float("nan")}, "hidden_size is nan"),
    "somewhat more than the weights": ("vit", CONFIG, {"intermediate_size": 32_768}, "a model of .* numbers"),
    "a kernel of the network's": ("vit", CONFIG, {"attn_implementation": "someone/kernel"}, "that comes"),
    "many at once": ("t5", GENERATE, {"num_return_sequences": 10**6}, "num_return_sequences is 1000000"),
    "long answers": ("t5", GENERATE, {"max_length": 10**9}, "max_length is 1000000000"),
    "a long transform": ("whisper", PREPARE, {"n_fft": 10**9}, "n_fft is 1000000000, expected 16,384"),
    "a long window": ("whisper", PREPARE, {"chunk_length": 10**6}, "chunk_length is 1000000, expected 60"),
    "small steps": ("whisper", PREPARE, {"hop_length": 1}, "hop_length is 1, expected 20,000 steps"),
    "no steps": ("clap", PREPARE, {"hop_length": 0}, "hop_length is 0"),
    "many samples": ("clap", PREPARE, {"nb_max_samples": 10**10}, "nb_max_samples is 10000000000"),
    "a large picture to prepare": ("blip", PREPARE, {"size": {"height": 10**5}}, "height is 100000"),
    "a large crop": ("vit", PREPARE, {"crop_size": 10**5}, "crop_size is 100000"),
    "no colors": ("vit", PREPARE, {"image_std": [0, 1, 1]}, "expected three numbers"),
    "many colors": ("vit", PREPARE, {"image_mean": [0.5] * 300_000}, "expected three numbers"),
    "an odd filter": ("vit", PREPARE, {"resample": 99}, "99 is not a valid Resampling"),
    "a long kind": ("vit", CONFIG, {"model_type": "x" * 3_000_000}, "names a model of type 'xx"),
    "a kind that is none": ("vit", CONFIG, {"model_type": {"x": ["y"] * 10**6}}, "names a model of type"),
    "a long maker": ("blip", CONFIG, {"architectures": ["x" * 3_000_000]}, "is a xx"),
    "a maker that is none": ("blip", CONFIG, {"architectures": 7}, "is a 7"),
    "long settings": ("blip", CONFIG, b" " * 9_000_000, "no config.json that can be read .ValueError"),
    "deep settings": ("blip", CONFIG, b"[" * 200_000, "no config.json that can be read .ValueError"),
    "a long tokenizer": ("t5", "tokenizer.json", b" " * 70_000_000, "tokenizer.json has 70 MB, expected 64"),
    "parts elsewhere": (
        "t5", "model.safetensors.index.json", {"weight_map": {"a": "../x"}}, "files of this folder",
    ),
}  # fmt: skip

LABELS = "a: {prompt: '{label}', sentence: '{label}', labels: %s}"
YAML = {
    "aliases": (
        "a: &a [xxxxxxxxx, xxxxxxxxx]\n"
        + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]\n" for a, b in pairwise("abcdefghi")),
        "it has an alias",
    ),
    "deep": ("[" * 100_000, "more than 8 levels deep"),
    "deep blocks": ("- " * 50_000 + "a", "more than 8 levels deep"),
    "long": ("a: b\n" * 100_000, "more than 256 KB"),
    "a long label": (LABELS % f"[{'x' * 200_000}]", "too long"),
    "many labels": (LABELS % f"[{', '.join(['x'] * 2001)}]", "2,001 labels, expected 2,000"),
    "labels that are none": (LABELS % ("x" * 200_000), "labels is"),
}


def cases():
    """(case, what reads its file, what it is expected to say): in the order they are run."""
    for name, (_, message) in PICKLES.items():
        for reader in ("adapter", *(("whisper", "laion", "folder") if name in EVERYWHERE else ())):
            yield f"{name}, {reader}", message
    for reader, files in SAFETENSORS.items():
        yield from ((f"{name}, {reader}", message) for name, (_, message) in files.items())
    yield from ((f"{name}, folder", message) for name, (*_, message) in FOLDERS.items())
    yield from ((f"{name}, labels", message) for name, (_, message) in YAML.items())


CASES = dict(cases())


def folders(root: Path) -> dict[str, Path]:
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    from tools.hosting import tiny_models as tiny

    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
    ViTModel(ViTConfig(**sizes, image_size=32, patch_size=8)).save_pretrained(root / "vit")
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(root / "vit")
    for kind in ("blip", "whisper", "clap", "t5"):
        getattr(tiny, f"save_{kind}")(root / kind)
    return {kind: root / kind for kind in ("vit", "blip", "whisper", "clap", "t5")}


def changed(folder: Path, file: str, content) -> None:
    if isinstance(content, dict):
        old = json.loads((folder / file).read_text()) if (folder / file).is_file() else {}
        for key, value in content.items():
            both = isinstance(value, dict) and isinstance(old.get(key), dict)
            old[key] = {**old[key], **value} if both else value
        content = json.dumps(old).encode()
    (folder / file).write_bytes(content)
    if file.endswith(".index.json"):
        (folder / "model.safetensors").rename(folder / "model-1.safetensors")


def readers():
    """By name: what reads a file or a folder."""
    from tests.core.instantstyle.adapter_files import read_all
    from zsamb_core.context.caption import load_caption_model
    from zsamb_core.context.clap import load_clap
    from zsamb_core.context.laion_clap import read_state
    from zsamb_core.context.music import read_label_sets
    from zsamb_core.context.openai_whisper import load_openai_whisper
    from zsamb_core.context.speech import load_whisper
    from zsamb_core.context.summary import load_summary_model
    from zsamb_core.instantstyle.adapter_file import open_adapter
    from zsamb_core.instantstyle.style_embeds import load_embeds
    from zsamb_core.scores.judge import load_vision_model
    from zsamb_core.style_aligned.reference_file import load_reference

    return {
        "adapter": lambda path: read_all(open_adapter(path)), "whisper": load_openai_whisper,
        "laion": read_state, "folder": load_summary_model, "embeds": load_embeds,
        "reference": load_reference, "labels": read_label_sets,
        "vit": load_vision_model, "blip": load_caption_model, "clap": load_clap, "t5": load_summary_model,
        "speech": load_whisper,
    }  # fmt: skip


def prepared(root: Path, kinds: dict[str, Path]):
    """(case, reader, path), the file of each made when it is its turn, and gone after it."""
    old = shutil.copytree(kinds["t5"], root / "old")
    (old / "model.safetensors").unlink()
    for name, (make, _) in PICKLES.items():
        (root / "file.pt").write_bytes(make())
        yield f"{name}, adapter", "adapter", root / "file.pt"
        if name in EVERYWHERE:
            yield f"{name}, whisper", "whisper", root / "file.pt"
            yield f"{name}, laion", "laion", root / "file.pt"
            shutil.copyfile(root / "file.pt", old / "pytorch_model.bin")
            yield f"{name}, folder", "folder", old
    for reader, files in SAFETENSORS.items():
        for name, (make, _) in files.items():
            (root / "file.safetensors").write_bytes(make())
            yield f"{name}, {reader}", reader, root / "file.safetensors"
    for name, (kind, file, content, _) in FOLDERS.items():
        folder = shutil.copytree(kinds[kind], root / "changed")
        changed(folder, file, content)
        yield f"{name}, folder", "speech" if kind == "whisper" else kind, folder
        shutil.rmtree(folder)
    for name, (content, _) in YAML.items():
        (root / "file.yaml").write_text(content)
        yield f"{name}, labels", "labels", root / "file.yaml"


def memory(name: str) -> int:
    """Bytes, of /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))


def too_long(*_):
    raise TimeoutError


def main(root: Path) -> None:
    kinds, read = folders(root), readers()
    read["t5"](kinds["t5"])  # what is imported once is no case's
    signal.signal(signal.SIGALRM, too_long)
    made = prepared(root, kinds)
    errors = {}
    while True:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if (case := next(made, None)) is None:
            break
        name, reader, path = case
        begun, before = time.monotonic(), memory("VmSize")
        resource.setrlimit(resource.RLIMIT_AS, (before + ROOM, resource.RLIM_INFINITY))
        signal.alarm(SECONDS)
        try:
            read[reader](path)
            error = None
        except BaseException as raised:
            error = raised
        signal.alarm(0)
        errors[name] = [type(error).__name__, str(error)[:2000], len(str(error)), time.monotonic() - begun]
    print(json.dumps(errors))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
