"""``zsamb prepare`` and ``zsamb adapter``, as commands in this process, on the demo model."""

import numpy as np
import pytest
import torch
from PIL import Image

from tests.core.train.data_sets import pixels
from zsamb_core.cli import main
from zsamb_core.instantstyle.adapter_file import open_adapter
from zsamb_train.data.buckets import fit
from zsamb_train.data.source import open_source
from zsamb_train.host import load_host

DEMO = ("--checkpoint", "demo", "--resolution", "64")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Eight pictures of two shapes in two styles, and a ninth that is broken behind its header."""
    root = tmp_path_factory.mktemp("pictures")
    for i in range(9):
        place = root / f"style {i % 2}"
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels(i, (80, 60) if i % 3 else (64, 64))).save(place / f"{i}.png")
        (place / f"{i}.txt").write_text(f"picture {i}")
    broken = root / "style 0" / "8.png"
    broken.write_bytes(broken.read_bytes()[:200])
    return root


@pytest.fixture(scope="module")
def prepared(pictures, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    assert main(["prepare", str(pictures), str(folder), *DEMO, "--per-shard", "3", "--batch", "2"]) == 0
    return folder


def test_caches_are_what_the_encoders_give(pictures, prepared):
    """In half precision; sizes, crops, captions and groups go with them."""
    source, cached = open_source(pictures), open_source(prepared)
    host = load_host("demo", None, half=False)
    assert cached.cached and not cached.pictured and len(cached) == 8
    assert sorted(cached.group_names) == ["style 0", "style 1"]
    by_caption = {cached.read(i).caption: i for i in range(8)}
    for i in range(len(source)):
        try:
            sample = source.read(i)
        except ValueError:
            continue
        kept = cached.read(by_caption[sample.caption])
        width, height = map(int, cached.latent_sizes[by_caption[sample.caption]])
        cut, crop = fit(sample.picture, (width, height))
        latent = host.encode_latents(cut[None])[0]
        shown = torch.from_numpy(np.array(sample.picture, np.float32) / 255)
        torch.testing.assert_close(kept.latent.float(), latent, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(kept.embed.float(), host.look_at([shown], "base")[0], atol=4e-3, rtol=4e-3)
        assert kept.size == sample.size and kept.crop == crop
        group = cached.group_names[cached.groups[by_caption[sample.caption]]]
        assert group == source.group_names[source.groups[i]]


def test_it_goes_on_where_it_stopped_and_refuses_other_settings(pictures, prepared, capsys):
    tars = sorted(prepared.glob("*.tar"))
    kept = tars[0].read_bytes()
    for tar in tars[1:]:  # as a run that was stopped leaves it
        tar.unlink()
    arguments = ["prepare", str(pictures), str(prepared)]
    assert main([*arguments, *DEMO, "--per-shard", "3", "--batch", "2"]) == 0
    said = capsys.readouterr().err
    assert "5 pictures encoded" in said and "left out:" in said and "8.png" in said
    assert tars[0].read_bytes() == kept and len(open_source(prepared)) == 8
    assert main([*arguments, "--checkpoint", "demo", "--resolution", "128"]) == 2
    assert "made with other settings" in capsys.readouterr().err


def test_a_set_without_pictures_is_refused(prepared, tmp_path, capsys):
    assert main(["prepare", str(prepared), str(tmp_path / "again"), *DEMO]) == 2
    assert "has no pictures, only what was prepared from them" in capsys.readouterr().err


def test_the_probe_tells_style_from_content(pictures, capsys):
    """Of the demo's own adapter, in all blocks and in one; on noise there is nothing to win."""
    assert main(["adapter", "probe", "demo", str(pictures), *DEMO, "--pictures", "8"]) == 0
    said = capsys.readouterr().out
    assert said.startswith("style ") and "content " in said and said.count("+-") == 2
    assert main(["adapter", "probe", "demo:output 5", str(pictures), *DEMO, "--pictures", "8"]) == 0
    assert capsys.readouterr().out != said
    assert main(["adapter", "probe", "nowhere.safetensors", str(pictures), *DEMO]) == 2
    assert "there is no adapter nowhere.safetensors" in capsys.readouterr().err


def test_pad_adds_zeros_for_the_other_blocks(pack, tmp_path, capsys):
    whole = pack.nodes._host.demo_model.demo_adapter("Test")
    assert main(["adapter", "pad", str(whole), str(tmp_path / "a.safetensors"), "--model", "demo"]) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "a.safetensors")
    assert set(open_adapter(tmp_path / "a.safetensors").layers) == set(open_adapter(whole).layers)
    assert main(["adapter", "pad", str(whole), str(tmp_path / "a.safetensors"), "--model", "demo"]) == 1
    assert "no file is replaced" in capsys.readouterr().err
    assert main(["adapter", "pad", str(whole), str(tmp_path / "b.safetensors")]) == 2  # SDXL's has more
    assert not (tmp_path / "b.safetensors").exists()
