"""LAION's checkpoints by the laion-clap package, against its own embeddings, with no network."""

import json
import sys

import numpy as np
import pytest
import torch
import transformers

from tools.hosting.tiny_models import save_roberta_tokenizer
from zsamb_core.context import laion_clap as laion_checkpoint
from zsamb_core.context.laion_clap import load_laion_clap
from zsamb_core.context.music import SHIPPED, embed_track, matches, read_label_sets


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """roberta-base's two files, with few words."""
    folder = tmp_path_factory.mktemp("words") / "roberta-base"
    save_roberta_tokenizer(folder)
    return folder


def build(words, fused):
    """The package's model as it builds it, with RoBERTa at a small size, and random weights."""
    tokenizer = transformers.RobertaTokenizer.from_pretrained(words)
    config = transformers.RobertaConfig(
        vocab_size=len(tokenizer), hidden_size=768, num_hidden_layers=1, num_attention_heads=12,
        intermediate_size=64, max_position_embeddings=130, type_vocab_size=1, layer_norm_eps=1e-5,
    )  # fmt: skip
    torch.manual_seed(1)
    with laion_checkpoint._local(tokenizer, config):
        import laion_clap

        return laion_clap.CLAP_Module(enable_fusion=fused, device="cpu", amodel="HTSAT-tiny").eval()


@pytest.fixture(scope="module")
def saved(words, tmp_path_factory):
    """(the package's module, its checkpoint as LAION publishes them) for a plain and a fused model."""
    models = {}
    for fused in (False, True):
        module = build(words, fused)
        state = {f"module.{name}": value for name, value in module.model.state_dict().items()}
        state["module.text_branch.embeddings.position_ids"] = torch.arange(130)[None]
        path = tmp_path_factory.mktemp("clap") / ("fused.pt" if fused else "plain.pt")
        # With the numbers of the training beside the weights.
        torch.save({"epoch": np.int64(3), "name": "x", "best": np.float64(0.3), "state_dict": state}, path)
        models[fused] = module, path
    return models


def sound(seconds, seed=0):
    return torch.randn(round(seconds * 48_000), generator=torch.Generator().manual_seed(seed)) * 0.1


@pytest.mark.parametrize("fused", [False, True])
def test_embeddings_are_the_package_s_own(saved, words, fused):
    """Of the module that was saved, and of one that the package itself loads from the file."""
    module, path = saved[fused]
    ours = load_laion_clap(path, words)
    again = build(words, fused)
    again.load_ckpt(str(path), verbose=False)
    texts = ["This music sounds calm.", "A heavy metal track."]
    for other in (module, again):
        for seconds in (3, 10):
            theirs = other.get_audio_embedding_from_data([sound(seconds)], use_tensor=True)
            assert torch.allclose(ours.embed_sound(sound(seconds)), theirs[0], atol=1e-6)
        assert torch.allclose(
            ours.embed_texts(texts), other.get_text_embedding(texts, use_tensor=True), atol=1e-6
        )
    assert ours.scale == pytest.approx(float(module.model.logit_scale_a.exp()))


def test_nothing_stays_behind(saved, words):
    before = list(sys.path)
    methods = [
        getattr(transformers, name).from_pretrained
        for name in ("BertTokenizer", "RobertaTokenizer", "BartTokenizer", "RobertaModel")
    ]
    for name in [n for n in sys.modules if n.split(".")[0] == "laion_clap"]:
        del sys.modules[name]
    load_laion_clap(saved[False][1], words)
    assert sys.path == before
    assert methods == [
        getattr(transformers, name).from_pretrained
        for name in ("BertTokenizer", "RobertaTokenizer", "BartTokenizer", "RobertaModel")
    ]
    with pytest.raises(OSError):  # there is none on this machine: the names are not taken any more
        transformers.RobertaModel.from_pretrained("roberta-base", local_files_only=True)


def test_a_mood_round_trip(saved, words):
    model = load_laion_clap(saved[False][1], words)
    sets = read_label_sets(SHIPPED)
    texts = model.embed_texts([sets["mood"].prompt.replace("{label}", x) for x in sets["mood"].labels])
    for label, text in zip(sets["mood"].labels, texts, strict=True):
        assert matches(model, text[None], sets)["mood"][0].label == label
    assert len(list(embed_track(model, sound(25)))) == 3


def test_through_the_nodes(pack, models_in, saved, words):
    (models_in / "clap" / "plain.pt").symlink_to(saved[False][1])
    loader, node = pack.nodes.context_models.LoadMusicModel, pack.nodes.describe.DescribeMusic
    assert loader.define_schema().inputs[0].options == ["laion/clap-htsat-unfused", "plain.pt"]
    with pytest.raises(ValueError, match="'FacebookAI/roberta-base' with a vocab.json was not found"):
        loader.execute("plain.pt")
    home = models_in / "transformers" / "FacebookAI"
    home.mkdir()
    (home / "roberta-base").symlink_to(words)
    with torch.inference_mode():
        (model,) = loader.execute("plain.pt").result
        audio = {"waveform": sound(4)[None, None], "sample_rate": 48_000}
        text, genre, report = node.execute(model, audio, "mood", 1).result
    (recording,) = json.loads(report)["recordings"]
    assert text == f"The atmosphere is {recording['sets']['mood'][0]['label']}."
    assert genre == recording["sets"]["genre"][0]["label"]


def test_files_that_are_not_what_they_should_be(saved, words, tmp_path):
    checkpoint = torch.load(saved[False][1], weights_only=False)
    state = checkpoint["state_dict"]

    def refused(message, changed, name="odd.pt"):
        torch.save(changed, tmp_path / name)
        with pytest.raises(ValueError, match=message):
            load_laion_clap(tmp_path / name, words)

    refused("odd.pt is no CLAP checkpoint of LAION's", {"state_dict": {"x": 5}})
    refused("odd.pt is no CLAP checkpoint of LAION's", [1, 2])
    panns = {k.replace("patch_embed", "conv_block1"): v for k, v in state.items()}
    refused(
        "odd.pt has no audio_branch.patch_embed.proj.weight, expected a CLAP of LAION's with HTSAT", panns
    )
    bert = {k.replace("text_branch", "words"): v for k, v in state.items()}
    refused("odd.pt has no text_branch.embeddings.word_embeddings.weight", bert)
    wide = {**state, "module.audio_branch.patch_embed.proj.weight": torch.zeros(64, 1, 4, 4)}
    refused(r"its audio encoder has 64 channels, expected one of 96 \(HTSAT-tiny\)", wide)
    gone = dict(state)
    del gone["module.audio_projection.0.weight"]
    refused("odd.pt cannot be loaded by laion-clap", {"state_dict": gone})


def test_code_in_a_checkpoint_is_not_run(words, tmp_path):
    import os

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(ValueError, match="trap.pt is no CLAP"):
        load_laion_clap(tmp_path / "trap.pt", words)
    assert not (tmp_path / "ran").exists()
