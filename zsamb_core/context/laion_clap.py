"""LAION's own CLAP checkpoints (``630k-audioset-best.pt`` and so on), by way of the laion-clap package, an
extra.

The package fetches three tokenizers by name when it is imported, and a text encoder when it is built. Here it
gets the tokenizer of a local folder and an empty encoder instead: the checkpoint has all its weights.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..files import torch_file
from ..files.folder_limits import refuse_files
from ..messages import short
from ..transformers_folder import LOCAL, loading, of_transformers
from .music import MusicModel
from .optional_packages import wanted

WIDTHS = {96: "HTSAT-tiny", 128: "HTSAT-base", 256: "HTSAT-large"}
FETCHED = ("roberta-base", "bert-base-uncased", "facebook/bart-base")


class LaionClap(NamedTuple):
    """``model``: the package's CLAP_Module."""

    model: Any
    rate: int = 48_000
    window: int = 480_000

    @property
    def scale(self) -> float:
        return float(self.model.model.logit_scale_a.detach().exp())

    @torch.no_grad()
    def embed_sound(self, track: Tensor) -> Tensor:
        embeds = self.model.get_audio_embedding_from_data(track[None], use_tensor=True)
        return torch.as_tensor(embeds)[0].float().cpu()

    @torch.no_grad()
    def embed_texts(self, texts: list[str]) -> Tensor:
        return torch.as_tensor(self.model.get_text_embedding(texts, use_tensor=True)).float().cpu()


def load_laion_clap(file: str | Path, tokenizer: Path) -> MusicModel:
    """``file``: a ``.pt`` of LAION's; ``tokenizer``: a folder with roberta-base's ``vocab.json`` and
    ``merges.txt``. Raises ValueError for another file, and when the package is not installed.
    """
    file = Path(file)
    state = read_state(file)
    width = _size(file, state, "audio_branch.patch_embed.proj.weight")[0]
    if width not in WIDTHS:
        raise ValueError(
            f"{file.name}: its audio encoder has {width} channels, expected one of"
            f" {', '.join(f'{k} ({v})' for k, v in WIDTHS.items())}."
        )
    fused = any(name.startswith("audio_branch.patch_embed.fusion_model") for name in state)
    wanted_by = f"{file.name} is a checkpoint of LAION's"
    refuse_files(tokenizer)
    roberta = of_transformers("RobertaTokenizer")
    with loading(tokenizer, "tokenizer of roberta-base"):
        words = roberta.from_pretrained(tokenizer, **LOCAL)
    config = of_transformers("RobertaConfig")(**roberta_shape(file, state))
    with _local(words, config):
        before = list(sys.path)
        try:
            package = wanted("laion_clap", "laion-clap", wanted_by, "laion/clap-htsat-unfused")
        finally:
            sys.path[:] = before  # the package puts its folder there, for its own import alone
        try:
            module = package.CLAP_Module(enable_fusion=fused, device="cpu", amodel=WIDTHS[width])
            module.model.load_state_dict(state)
        except Exception as error:
            raise ValueError(f"{file.name} cannot be loaded by laion-clap ({short(error)}).") from error
    return LaionClap(module.float().eval())


def read_state(file: Path) -> dict[str, Tensor]:
    """The weights by the names that the package's model has, read by torch's restricted unpickler. Raises
    ValueError for another file.
    """
    # The published files hold the training's numbers beside the weights, as numpy scalars.
    scalar: Any = np.float64(0).__reduce__()[0]
    names = [f"numpy.{core}.multiarray.scalar" for core in ("core", "_core")]
    harmless: list[Any] = [
        np.dtype,
        *{type(np.dtype(x)) for x in "fdilbB?"},
        *((scalar, name) for name in names),
    ]
    try:
        with torch.serialization.safe_globals(harmless):
            content = torch_file.load(file)
        state = torch_file.weights_in(
            content.get("state_dict", content) if isinstance(content, dict) else content
        )
    except (torch_file.Unreadable, TypeError) as error:
        why = error.why if isinstance(error, torch_file.Unreadable) else f"{error}."
        raise ValueError(
            f"{file.name} is no CLAP checkpoint of LAION's: {why} Expected a .pt such as"
            " 630k-audioset-best.pt or music_audioset_epoch_15_esc_90.14.pt."
        ) from error
    state = {name.removeprefix("module."): value for name, value in state.items()}
    # Older transformers kept this count among the weights.
    return {name: value for name, value in state.items() if not name.endswith("position_ids")}


def roberta_shape(file: Path, state: dict[str, Tensor]) -> dict[str, Any]:
    """RobertaConfig's settings for the text encoder in a checkpoint."""
    base = "text_branch."
    vocabulary, width = _size(file, state, f"{base}embeddings.word_embeddings.weight")
    inner = _size(file, state, f"{base}encoder.layer.0.intermediate.dense.weight")
    layers = 1
    while (weight := state.get(f"{base}encoder.layer.{layers}.intermediate.dense.weight")) is not None:
        if tuple(weight.shape) != inner:  # so that each has the numbers that it is built for
            break
        layers += 1
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "num_hidden_layers": layers,
        "num_attention_heads": width // 64,
        "intermediate_size": inner[0],
        "max_position_embeddings": _size(file, state, f"{base}embeddings.position_embeddings.weight")[0],
        "type_vocab_size": 1,
        "layer_norm_eps": 1e-5,  # roberta-base's own
    }


def _size(file: Path, state: dict[str, Tensor], name: str) -> tuple[int, ...]:
    if name not in state or not state[name].ndim:
        raise ValueError(
            f"{file.name} has no {name}, expected a CLAP of LAION's with HTSAT for sound and RoBERTa for"
            " text."
        )
    return tuple(state[name].shape)


@contextmanager
def _local(tokenizer: Any, config: Any) -> Iterator[None]:
    """transformers gives these in place of the three models that laion-clap asks for by name; all other
    names go their usual way.
    """
    from unittest.mock import patch

    makers: dict[Any, Any] = {
        of_transformers("BertTokenizer"): lambda: tokenizer,
        of_transformers("RobertaTokenizer"): lambda: tokenizer,
        of_transformers("BartTokenizer"): lambda: tokenizer,
        of_transformers("RobertaModel"): lambda: of_transformers("RobertaModel")(config),
    }
    with ExitStack() as stack:
        for cls, make in makers.items():

            def here(
                name: Any, *args: Any, _make: Any = make, _from: Any = cls.from_pretrained, **more: Any
            ) -> Any:
                return _make() if name in FETCHED else _from(name, *args, **more)

            stack.enter_context(patch.object(cls, "from_pretrained", here))
        yield
