"""Image encoders told by the shapes in their files, and the one that an adapter needs."""

import pytest
import torch
from safetensors.torch import save_file

from zsamb_core.instantstyle.adapter_file import Projector
from zsamb_core.instantstyle.encoder_file import encoder_in, nothing_fits, that_fit
from zsamb_core.instantstyle.style_embeds import Encoder

H, G, L = Encoder(1280, 1024), Encoder(1664, 1280), Encoder(1024, 768)


def tensors(hidden, projection, openclip=False):
    empty = torch.zeros
    if openclip:
        return {"visual.class_embedding": empty(hidden), "visual.proj": empty(hidden, projection)}
    return {
        "vision_model.embeddings.class_embedding": empty(hidden),
        "visual_projection.weight": empty(projection, hidden),
    }


def saved(path, state):
    save_file({name: value.half() for name, value in state.items()}, path)
    return path


@pytest.mark.parametrize("openclip", [False, True])
@pytest.mark.parametrize("encoder", [H, G, L, Encoder(96, 128), Encoder(64, 64)])
def test_an_encoder_is_told_by_its_shapes(tmp_path, encoder, openclip):
    state = tensors(encoder.hidden, encoder.projection, openclip)
    assert encoder_in(saved(tmp_path / "sd15-plus-bigG.safetensors", state)) == encoder


def test_the_text_tower_beside_it_does_not_matter(tmp_path):
    state = {**tensors(1280, 1024), "text_model.embeddings.token_embedding.weight": torch.zeros(7, 1024)}
    assert encoder_in(saved(tmp_path / "clip.safetensors", state)) == H


OTHERS = {
    "no CLIP image encoder with a projection": {"vision_model.embeddings.class_embedding": torch.zeros(8)},
    "no CLIP image encoder with": {"encoder.layer.39.layer_scale2.lambda1": torch.zeros(8)},
    "its visual_projection.weight is 8 by 6 for 4 hidden channels": {
        **tensors(4, 8), "visual_projection.weight": torch.zeros(8, 6)
    },
    "its visual.proj is 4 for 4 hidden channels": {**tensors(4, 8, True), "visual.proj": torch.zeros(4)},
}  # fmt: skip


@pytest.mark.parametrize("message", OTHERS)
def test_another_file_says_what_it_is(tmp_path, message):
    with pytest.raises(ValueError, match=message):
        encoder_in(saved(tmp_path / "other.safetensors", OTHERS[message]))


def test_files_that_are_not_looked_into(tmp_path):
    torch.save(tensors(1280, 1024), tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match="no safetensors, not looked into"):
        encoder_in(tmp_path / "pytorch_model.bin")
    (tmp_path / "cut.safetensors").write_bytes(b"\x10\0\0\0")
    with pytest.raises(ValueError, match=r"cut.safetensors cannot be read as safetensors"):
        encoder_in(tmp_path / "cut.safetensors")


# kind, features: that encoder's hidden or projected channels.
BASE_H, PLUS_H = Projector("base", 4, 2048, 1024), Projector("plus", 16, 2048, 1280)
BASE_G = Projector("base", 4, 2048, 1280)


@pytest.mark.parametrize("projector, fitting", [(BASE_H, ["h"]), (PLUS_H, ["h"]), (BASE_G, ["g"])])
def test_the_one_that_fits_is_found(projector, fitting):
    """ViT-H's hidden states have as many channels as bigG's embedding."""
    assert that_fit(projector, {"l": L, "g": G, "x": "no safetensors", "h": H}) == fitting


def test_a_well_known_encoder_comes_first():
    odd = Encoder(640, 1024)
    assert that_fit(BASE_H, {"a": odd, "b": H, "c": odd}) == ["b", "a", "c"]
    assert that_fit(BASE_H, {"l": L}) == []


def test_what_is_missing_is_said():
    found = {"g.safetensors": G, "x.bin": "no safetensors, not looked into"}
    line = nothing_fits("a.safetensors", PLUS_H, found, "/models/clip_vision")
    assert "a.safetensors is made for CLIP ViT-H/14 (1280 hidden channels)" in line
    assert "no image encoder in /models/clip_vision is one" in line
    assert "g.safetensors (CLIP ViT-bigG/14 (1664 hidden, 1280 projected channels))" in line
    assert "x.bin (no safetensors, not looked into)" in line
    assert "Get clip_vision_h.safetensors from https://huggingface.co/Comfy-Org/" in line
    assert "Found no file. Get clip_vision_g.safetensors from" in nothing_fits("a", BASE_G, {}, "/m")
    assert "Get that encoder, put it there" in nothing_fits("a", Projector("base", 4, 64, 55), {}, "/m")
    many = {f"{i}.safetensors": L for i in range(40)}
    assert len(line := nothing_fits("a", BASE_H, many, "/m")) < 2000 and "and 28 more" in line
