"""Load IP-Adapter and Encoder: the encoder that fits, told by its numbers, and what is missing."""

import logging

import pytest
import torch
from safetensors.torch import save_file

from ..style_aligned.styling import make_adapter, styled

pytestmark = pytest.mark.host


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """The host's, with models of this test's own."""
    import folder_paths

    for name in ("ipadapter", "clip_vision"):
        (tmp_path / name).mkdir()
        known = ([str(tmp_path / name)], {".safetensors", ".bin"})
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, known)
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


@pytest.fixture
def load(pack):
    return lambda *args: pack.nodes.adapter_loaders.LoadIPAdapterAndEncoder.execute(*args).result


def encoder_file(path, hidden, projection):
    """As much of an encoder as tells which one it is."""
    save_file(
        {
            "vision_model.embeddings.class_embedding": torch.zeros(hidden),
            "visual_projection.weight": torch.zeros(projection, hidden),
        },
        path,
    )


def test_with_the_demo_s_adapter_comes_the_demo_s_encoder(pack, demo, folders, load, four, star):
    """And what they draw is what the two loaders' draw."""
    encoder_file(folders / "clip_vision" / "ip-adapter-demo.safetensors", 1280, 1024)
    nodes = pack.nodes
    adapter, clip_vision, about = load("demo IP-Adapter", "auto")
    apart = nodes.adapter_loaders.LoadIPAdapter.execute("demo IP-Adapter").result
    theirs = nodes.demo_model.LoadDemoModel.execute().result[3]
    assert about.startswith(apart[1]) and "Image encoder: demo image encoder, an encoder of" in about
    drawn = [
        demo.sample(styled(pack, demo.model, a, star, preset="all", clip_vision=c)[0], four, steps=2)
        for a, c in ((adapter, clip_vision), (apart[0], theirs))
    ]
    assert torch.equal(*drawn) and not torch.equal(drawn[0], demo.sample(demo.model, four, steps=2))
    assert load("demo IP-Adapter", "demo image encoder")[2] == about


def test_where_none_fits_all_is_said(pack, demo, folders, load):
    """Before anything is loaded, with what was found and where the missing one is."""
    make_adapter(pack, demo.model, folders / "ipadapter" / "bigG.safetensors", "plus")
    with pytest.raises(ValueError) as error:
        load("bigG.safetensors", "auto")
    start = "Load IP-Adapter and Encoder: bigG.safetensors is made for an encoder of 80 hidden channels"
    assert str(error.value).startswith(start)
    assert f"no image encoder in {folders / 'clip_vision'} is one. Found no file." in str(error.value)
    encoder_file(folders / "clip_vision" / "80.safetensors", 96, 128)
    torch.save({}, folders / "clip_vision" / "old.bin")
    with pytest.raises(ValueError) as error:
        load("bigG.safetensors", "auto")
    assert "80.safetensors (an encoder of 96 hidden, 128 projected channels)" in str(error.value)
    assert "old.bin (no safetensors, not looked into)" in str(error.value)
    assert "demo" not in str(error.value)


def test_of_several_that_fit_one_is_taken_and_said(pack, demo, folders, caplog):
    caplog.set_level(logging.INFO)
    path = folders / "ipadapter" / "a.safetensors"
    adapter = make_adapter(pack, demo.model, path, "base")  # of 48 projected channels
    for name in ("b", "a"):
        encoder_file(folders / "clip_vision" / f"{name}.safetensors", 64, 48)
    chosen = pack.nodes.adapter_loaders.chosen_encoder(adapter)
    assert chosen == "a.safetensors"
    assert "a.safetensors, b.safetensors fit, and a.safetensors is taken" in caplog.text


def test_a_chosen_encoder_that_does_not_fit_is_refused(pack, demo, folders, load):
    make_adapter(pack, demo.model, folders / "ipadapter" / "a.safetensors", "plus")
    with pytest.raises(
        ValueError, match="Load IP-Adapter and Encoder: the adapter is made for an encoder of 80"
    ):
        load("a.safetensors", "demo image encoder")
    encoder_file(folders / "clip_vision" / "few.safetensors", 80, 48)
    for name in ("few.safetensors", "auto"):  # it has the numbers, and no layers
        with pytest.raises(ValueError, match="few.safetensors holds no image encoder that ComfyUI knows"):
            load("a.safetensors", name)
    with pytest.raises(
        ValueError, match="Load IP-Adapter and Encoder: the file 'no.safetensors' was not found"
    ):
        load("a.safetensors", "no.safetensors")
    with pytest.raises(ValueError, match="Load IP-Adapter and Encoder: the file 'no.bin' was not found"):
        load("no.bin", "auto")


def test_a_file_that_comes_or_changes_is_looked_at_again(pack, folders):
    node = pack.nodes.adapter_loaders.LoadIPAdapterAndEncoder
    seen = [node.fingerprint_inputs("demo IP-Adapter", "auto")]
    encoder_file(folders / "clip_vision" / "a.safetensors", 64, 48)
    import folder_paths

    folder_paths.filename_list_cache.clear()
    seen.append(node.fingerprint_inputs("demo IP-Adapter", "auto"))
    encoder_file(folders / "clip_vision" / "a.safetensors", 64, 49)
    seen.append(node.fingerprint_inputs("demo IP-Adapter", "auto"))
    assert len(set(map(repr, seen))) == 3
    assert seen[2] == node.fingerprint_inputs("demo IP-Adapter", "auto")
