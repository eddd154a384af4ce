"""The judges, and what they have embedded, kept in files: each picture and text once, by its content."""

import hashlib
import importlib
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..files.whole_file import write_over
from .plan import Set

if TYPE_CHECKING:
    from torch import Tensor

KINDS = {"dino": ("vit", "dinov2"), "clip": ("clip",)}
SAVED_EVERY = 10.0  # seconds
READING = 3  # counted up when pictures or texts are read in another way, so that what was kept is done anew


@dataclass(frozen=True)
class Judge:
    """``digest``: of all files that its embeddings depend on; ``load`` gives a `VisionModel`."""

    role: str
    name: str
    digest: str
    load: Callable[[], Any]


def find_judge(role: str, name: str) -> Judge:
    """Looks at the files, and loads nothing. Raises ValueError for what is no such judge."""
    if name == "demo":
        return _demo_judge(role)
    from ..files.folder_limits import weight_files
    from ..files.json_file import read_settings
    from . import judge as vision_model

    folder = Path(name)
    if not folder.is_dir():
        raise ValueError(f"--{role}: there is no folder {folder}, expected a transformers folder, or demo.")
    kind = read_settings(folder, "config.json").get("model_type")
    if kind not in KINDS[role]:
        raise ValueError(
            f"--{role}: {folder.name} is a model of type {kind!r}, expected {' or '.join(KINDS[role])}"
            f"{': give it as --clip' if kind == 'clip' else ''}."
        )
    read_settings(folder, "preprocessor_config.json")
    try:
        weights, _ = weight_files(folder)
    except ValueError as error:
        raise ValueError(f"--{role}: {error}") from error
    others = [p for p in folder.iterdir() if p.suffix in (".json", ".txt", ".safetensors")]
    files = sorted({*others, *weights})
    return Judge(role, folder.resolve().name, digest(files), lambda: vision_model.load_vision_model(folder))


def _demo_judge(role: str) -> Judge:
    judges = _demo_judges(role)
    files = [judges.WEIGHTS / f"{role}.safetensors"]
    if role == "clip":
        files += [judges.clip_tokenizer_folder() / name for name in ("vocab.json", "merges.txt")]
    if not files[0].is_file():
        raise ValueError(
            f"The demo has no {role}.safetensors: train it with python -m demo.training.train_{role}."
        )
    return Judge(role, "demo", digest(files), lambda: judges.demo_judge(role))


def _demo_judges(role: str) -> Any:
    """The module demo.judges, which lies beside this package in the repository and is installed nowhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "demo" / "judges.py").is_file():
        raise ValueError(
            f"--{role} demo: the demo's models are not installed, they come with the repository. Run"
            " python -m zsamb_core in the repository's folder, or give the folder of a model."
        )
    # First, so that it is no other demo that the folder at hand may have.
    sys.path.insert(0, str(root))
    try:
        return importlib.import_module("demo.judges")
    finally:
        sys.path.remove(str(root))


def digest(files: list[Path]) -> str:
    sha256 = hashlib.sha256()
    for path in files:
        sha256.update(f"{path.name} {path.stat().st_size} ".encode())
        with path.open("rb") as stream:
            while part := stream.read(1 << 22):
                sha256.update(part)
    return sha256.hexdigest()


def identify(sets: list[Set]) -> None:
    """Fill in the keys. Raises ValueError for a file that does not begin as a picture."""
    from ..pictures import check_picture

    digests: dict[Path, str] = {}
    for item in sets:
        for path in [*item.images, *item.references]:
            if path not in digests:
                try:
                    check_picture(path)
                except ValueError as error:
                    raise ValueError(f"{item.name}: {error}") from error
                digests[path] = digest_of(path.read_bytes())
            item.keys[path] = digests[path]


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Embeddings:
    """One judge's, by key, kept in a file. It is replaced whole, so whenever a run ends it can be read."""

    def __init__(self, judge: Judge, preprocessing: str, out: Path):
        from safetensors.torch import load_file

        self.judge, self.preprocessing = judge, preprocessing
        name = f"{judge.role}-{judge.name}-{preprocessing}-{judge.digest[:16]}-{READING}.safetensors"
        self.path = out / "embeddings" / name
        try:
            self.rows = load_file(self.path) if self.path.exists() else {}
        except Exception as error:  # safetensors raises an exception of its own
            raise ValueError(f"{self.path} cannot be read ({error}). Delete it.") from error

    def save(self) -> None:
        from safetensors.torch import save_file

        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = {key: row.clone() for key, row in self.rows.items()}
        write_over(self.path, lambda part: save_file(rows, part))

    def add(self, pictures: dict[str, Path], texts: dict[str, str]) -> None:
        """Embed what is not there yet. The model is loaded if there is such a thing."""
        new = [key for key in pictures if key not in self.rows]
        new_texts = [key for key in texts if key not in self.rows]
        if not new and not new_texts:
            return
        import torch

        from ..pictures import read_picture
        from .judge import AT_ONCE, OWN, PUBLISHED, embed_all

        model = self.judge.load()
        # This is the command's alone: inside ComfyUI the nodes leave the choice of a device to the host.
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.allow_tf32 = False  # the same numbers as on the CPU
        model.model.to(device)
        # The evaluations squash for DINO alone; CLIP's published numbers were made with its own preparation.
        squashed = self.preprocessing == "published" and self.judge.role == "dino"
        way = PUBLISHED if squashed else OWN
        saved = time.monotonic()
        try:
            for i in range(0, len(new), AT_ONCE):
                keys = new[i : i + AT_ONCE]
                (rows,) = embed_all(model, [read_picture(pictures[key]) for key in keys], way)
                self.rows |= zip(keys, rows, strict=True)
                print(f"\r{self.judge.role}: {i + len(keys)} of {len(new)} new pictures", end="", flush=True)
                if time.monotonic() - saved > SAVED_EVERY:
                    self.save()
                    saved = time.monotonic()
            for i in range(0, len(new_texts), AT_ONCE):
                keys = new_texts[i : i + AT_ONCE]
                self.rows |= zip(keys, model.embed_text([texts[key] for key in keys]), strict=True)
                for key in keys:
                    self.rows[f"tokens of {key}"] = torch.tensor(model.read(texts[key]))
        finally:
            self.save()
            print()

    def of(self, keys: list[str]) -> "Tensor":
        import torch

        return torch.stack([self.rows[key] for key in keys])

    def read(self, text: str) -> tuple[int, int]:
        """(tokens that the judge read of the text, tokens that it has)."""
        read, count = self.rows[f"tokens of {text_key(text)}"].tolist()
        return read, count


def text_key(text: str) -> str:
    """By the words, since these are embedded."""
    from ..prompts import plain_words

    return f"text {digest_of(plain_words(text).encode())}"


def embed_sets(sets: list[Set], judge: Judge, preprocessing: str, out: Path) -> Embeddings:
    """All that the judge is asked about: CLIP of the pictures with prompts alone."""
    store = Embeddings(judge, preprocessing, out)
    pictures: dict[str, Path] = {}
    texts: dict[str, str] = {}
    for item in sets:
        if judge.role == "dino":
            pictures |= {key: path for path, key in item.keys.items()}
        elif item.prompts:
            pictures |= {item.keys[path]: path for path in item.images}
            texts |= {text_key(text): text for text in item.prompts}
    store.add(pictures, texts)
    return store
