"""The loaders and savers: folders, names, what comes back, and what goes wrong."""

from pathlib import Path

import pytest
import torch

from ..style_aligned.styling import (
    block_weights,
    context_width,
    make_adapter,
    make_embeds,
    structure_of,
    styled,
)

pytestmark = pytest.mark.host


@pytest.fixture
def folders(pack, tmp_path, monkeypatch):
    """The host's folders, with a models folder and an output folder of this test's own."""
    import folder_paths

    known = {
        name: ([str(tmp_path / "models" / name), str(tmp_path / "output" / name)], {".safetensors", ".bin"})
        for name in ("ipadapter", "style_embeds")
    }
    for name, value in known.items():
        monkeypatch.setitem(folder_paths.folder_names_and_paths, name, value)
        (tmp_path / "models" / name).mkdir(parents=True)
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    return tmp_path


def test_folders_are_added_and_never_replaced(pack, tmp_path, monkeypatch):
    """Beside what another pack or extra_model_paths.yaml named, which stays first."""
    import folder_paths

    register = pack.nodes._host.folders.register
    theirs = ([str(tmp_path / "elsewhere")], {".odd"})
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "ipadapter", theirs)
    register("ipadapter", (".safetensors", ".bin"), saved=True)
    register("ipadapter", (".safetensors", ".bin"), saved=True)
    paths, extensions = folder_paths.folder_names_and_paths["ipadapter"]
    assert paths[0] == str(tmp_path / "elsewhere") and len(paths) == 3 == len(set(paths))
    assert extensions == {".odd", ".safetensors", ".bin"} and theirs[1] == {".odd"}
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "whisper", ([str(tmp_path)], set()))
    register("whisper", ())
    assert folder_paths.folder_names_and_paths["whisper"] == ([str(tmp_path), paths_of("whisper")], set())


def paths_of(name):
    import folder_paths

    return str(Path(folder_paths.models_dir) / name)


def test_extra_model_paths_are_honoured(pack, tmp_path, monkeypatch):
    """The file is read before packs are loaded; what it names is found by the loader."""
    import folder_paths
    from utils.extra_config import load_extra_path_config

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    del folder_paths.folder_names_and_paths["ipadapter"]
    (tmp_path / "shared" / "sdxl").mkdir(parents=True)
    config = tmp_path / "extra_model_paths.yaml"
    config.write_text(f"other:\n  base_path: {tmp_path}\n  ipadapter: shared\n")
    load_extra_path_config(str(config))
    pack.nodes._host.folders.register("ipadapter", (".safetensors",))
    for name in ("a.safetensors", "sdxl/b.safetensors", "readme.txt"):
        (tmp_path / "shared" / name).write_bytes(b"")
    names = [name.replace("\\", "/") for name in folder_paths.get_filename_list("ipadapter")]
    assert {"a.safetensors", "sdxl/b.safetensors"} <= set(names) and "readme.txt" not in names
    path = pack.nodes._host.folders.find("ipadapter", "a.safetensors", "test")
    assert path == tmp_path / "shared" / "a.safetensors"


def test_extra_model_paths_of_the_context_models_are_honoured(pack, tiny, tmp_path, monkeypatch):
    import folder_paths
    from utils.extra_config import load_extra_path_config

    monkeypatch.setattr(folder_paths, "folder_names_and_paths", dict(folder_paths.folder_names_and_paths))
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    config, places = tmp_path / "extra_model_paths.yaml", ("transformers", "whisper", "clap")
    config.write_text(f"other:\n  base_path: {tmp_path}\n" + "".join(f"  {n}: my/{n}\n" for n in places))
    for name in places:
        del folder_paths.folder_names_and_paths[name]
        (tmp_path / "my" / name).mkdir(parents=True)
    load_extra_path_config(str(config))
    for name in places:
        pack.nodes._host.folders.register(name, ())
    (tmp_path / "my" / "transformers" / "t5").symlink_to(tiny["t5"])
    for name in ("whisper", "clap"):
        (tmp_path / "my" / name / "mine.pt").write_bytes(b"")
    for loader, model in (("Summary", "t5"), ("Speech", "mine.pt"), ("Music", "mine.pt")):
        node = getattr(pack.nodes.context_models, f"Load{loader}Model")
        assert model in node.define_schema().inputs[0].options
        assert node.validate_inputs(model) is True
        assert node.SOURCE.path(model, "test").is_relative_to(tmp_path / "my")


@pytest.mark.parametrize("kind, about", [("base", "4 tokens of 192"), ("plus", "16 tokens of 192")])
def test_the_loader_says_what_a_file_is(pack, demo, folders, kind, about):
    make_adapter(
        pack, demo.model, folders / "models" / "ipadapter" / "misleading-sd15-plus.safetensors", kind
    )
    adapter, message = pack.nodes.adapter_loaders.LoadIPAdapter.execute(
        "misleading-sd15-plus.safetensors"
    ).result
    assert about in message and f"{kind} adapter" in message
    assert ("48 projected channels" if kind == "base" else "80 hidden channels") in message
    assert adapter.projector.kind == kind and len(adapter.layers) == len(structure_of(pack, demo.model))


def test_missing_and_broken_files(pack, folders):
    load = pack.nodes.adapter_loaders.LoadIPAdapter.execute
    with pytest.raises(
        ValueError, match="Load IP-Adapter: the file 'no.safetensors' was not found.*ipadapter"
    ):
        load("no.safetensors")
    (folders / "models" / "ipadapter" / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match="Load IP-Adapter: cut.safetensors cannot be read"):
        load("cut.safetensors")
    (folders / "models" / "style_embeds" / "x.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match="Load Style Embeds: x.safetensors is not a file of encoded"):
        pack.nodes.style_embeds.LoadStyleEmbeds.execute("x.safetensors")


def test_embeds_come_back_as_they_went(pack, demo, folders, four):
    nodes, adapter = pack.nodes.style_embeds, make_adapter(pack, demo.model, folders / "a.safetensors")
    embeds = make_embeds(pack, count=2, weights=(1.0, 0.5))
    names = [nodes.SaveStyleEmbeds.execute(embeds, "kept/my.style").result[0] for _ in range(2)]
    assert names == ["kept/my.style_00001_.safetensors", "kept/my.style_00002_.safetensors"]
    back = nodes.LoadStyleEmbeds.execute(names[1]).result[0]
    assert back.weights == embeds.weights and torch.equal(back.hidden, embeds.hidden)
    a, b = (demo.sample(styled(pack, demo.model, adapter, e)[0], four) for e in (embeds, back))
    assert torch.equal(a, b)


# Prefixes, and what their files are called.
PREFIXES = {
    "style": "style", "kept/": "kept", "": "plain", "  ": "plain", "ink/brush": "ink/brush",
    "ink/brush/": "ink/brush", "ink//brush//": "ink/brush", "./x": "x", "a+(b)_c": "a+(b)_c", "x_1_": "x_1_",
}  # fmt: skip


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_saved_file_is_never_replaced(pack, demo, folders, prefix):
    """Not behind a prefix that the host's counter stays at 1 for, either."""
    adapter = make_adapter(pack, demo.model, folders / "a.safetensors")

    def save_embeds(i):
        return pack.nodes.style_embeds.SaveStyleEmbeds.execute(make_embeds(pack, count=i), prefix).result[0]

    def save_adapter(i):
        weights = block_weights(pack, "middle 0.0 = -0.5" if i > 1 else "output 1 = 1")
        return save(pack, adapter, demo.model, prefix=prefix, block_weights=weights)

    for again, folder, plain in (
        (save_embeds, "style_embeds", "style"),
        (save_adapter, "ipadapter", "style_adapter"),
    ):
        contents, stem = {}, PREFIXES[prefix].replace("plain", plain)
        for i in (1, 2, 3):
            name = again(i)
            assert name == f"{stem}_0000{i}_.safetensors"
            contents[name] = (folders / "output" / folder / name).read_bytes()
            assert all((folders / "output" / folder / n).read_bytes() == c for n, c in contents.items())
        # A lower number is not given again, and what is no number of ours is none.
        (folders / "output" / folder / f"{stem}_00001_.safetensors").unlink()
        (folders / "output" / folder / f"{stem}_9999999999_.safetensors").touch()
        assert again(4) == f"{stem}_00004_.safetensors"


@pytest.mark.parametrize(
    "prefix",
    ["../x", "a/../../x", "/etc/x", ".", "./", "a/..", "a\0b", "x" * 5000 + "/y", "x" * 240],
)
def test_a_prefix_that_is_no_place_is_named(pack, folders, prefix):
    message = "^Save Style Embeds: filename_prefix is .*expected a name such as style"
    with pytest.raises(ValueError, match=message) as error:
        pack.nodes.style_embeds.SaveStyleEmbeds.execute(make_embeds(pack), prefix)
    assert len(str(error.value)) < 1000
    assert not [p for p in folders.rglob("*") if p.is_file()]


def save(pack, adapter, model, preset="style", padded=False, prefix="slim", **weights):
    return pack.nodes.adapter_export.SaveStyleAdapter.execute(
        adapter, model, preset, padded, prefix, **weights
    ).result[0]


def test_a_part_of_an_adapter_is_saved_and_found(pack, demo, folders):
    adapter = make_adapter(pack, demo.model, folders / "a.safetensors")
    load = pack.nodes.adapter_loaders.LoadIPAdapter.execute
    name = save(pack, adapter, demo.model, "style and layout")
    slim = load(name).result[0]
    structure = structure_of(pack, demo.model)
    keys = pack.zsamb_core.instantstyle.blocks.adapter_keys(structure)
    wanted = [n for layer, n in keys.items() if layer[:2] in (("output", 1), ("input", 8))]
    assert sorted(slim.layers) == sorted(wanted)
    for (a, x), (b, y) in zip(slim.read(sorted(slim.shapes)), adapter.read(sorted(slim.shapes)), strict=True):
        assert a == b and torch.equal(x, y) and x.dtype == y.dtype
    one = save(pack, adapter, demo.model, block_weights=block_weights(pack, "middle 0.0 = -0.5"))
    assert list(load(one).result[0].layers) == [keys["middle", 0, 0]]
    with pytest.raises(ValueError, match="Save Style Adapter: no layer has a weight"):
        save(pack, adapter, demo.model, block_weights=block_weights(pack))
    with pytest.raises(ValueError, match="Save Style Adapter: the adapter slim.* has nothing for input 4"):
        save(pack, slim, demo.model, "all")
    assert not list(folders.rglob("*.part"))


def test_a_file_that_cannot_be_written_leaves_nothing(pack, demo, folders, monkeypatch):
    adapter = make_adapter(pack, demo.model, folders / "a.safetensors")
    export = pack.zsamb_core.instantstyle.export

    def fail(tensors, path, about):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(export, "save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        save(pack, adapter, demo.model)
    assert not list((folders / "output").rglob("*.*"))


def test_adapters_for_other_models_are_refused(pack, demo, folders):
    from ..adapters import adapter_state, saved

    opened, embeds = pack.zsamb_core.instantstyle.adapter_file.open_adapter, make_embeds(pack)
    structure, width = structure_of(pack, demo.model), context_width(demo.model)

    def refused(state, message):
        adapter = opened(saved(state, folders / "x.safetensors"))
        for preset in ("style", "all"):
            with pytest.raises(ValueError, match=f"StyleBlockIPAdapter: .*{message}"):
                styled(pack, demo.model, adapter, embeds, preset=preset)

    refused(adapter_state(structure, 768), r"tokens of 768 channels \(SD1.5\)")
    more = {("output", 0, i): 128 for i in range(30)}
    refused(adapter_state(more, width), "has a layer 59, and the model has 12 cross-attention layers")
    wider = dict.fromkeys(structure, 256)
    refused(adapter_state(wider, width), "layer 1 is 256 wide, and the model's")
    with pytest.raises(ValueError, match="the model has no output 9; its blocks are input 4"):
        styled(
            pack, demo.model, make_adapter(pack, demo.model, folders / "y.safetensors"), embeds,
            block_weights=block_weights(pack, "output 9 = 1"),
        )  # fmt: skip
    with pytest.raises(ValueError, match="Block Weights: layers: 'nonsense' is not a weight"):
        block_weights(pack, "nonsense")
