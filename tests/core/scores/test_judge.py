"""Vision models against transformers' own, on tiny random folders."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from zsamb_core.scores.judge import OWN, PUBLISHED, as_pictures, embed_all, load_vision_model

pytestmark = pytest.mark.slow

SIDE = 24
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "cat</w>", "c", "a", "t</w>", "ca", "b</w>", "b", "t"]
NORM = {"image_mean": [0.48, 0.45, 0.4], "image_std": [0.26, 0.27, 0.28]}


def save_vit(folder):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    ViTModel(ViTConfig(**SMALL, image_size=SIDE, patch_size=8)).save_pretrained(folder)
    ViTImageProcessor(size={"height": SIDE, "width": SIDE}, resample=2, **NORM).save_pretrained(folder)


def save_dinov2(folder):
    from transformers import BitImageProcessor, Dinov2Config, Dinov2Model

    small = {k: v for k, v in SMALL.items() if k != "intermediate_size"}
    Dinov2Model(Dinov2Config(**small, mlp_ratio=2, image_size=518, patch_size=14)).save_pretrained(folder)
    crop = {"crop_size": {"height": 224, "width": 224}, "size": {"shortest_edge": 256}}
    BitImageProcessor(**crop, resample=3, **NORM).save_pretrained(folder)


def save_clip(folder):
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel, CLIPTokenizer

    text = SMALL | {"vocab_size": len(WORDS), "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision = SMALL | {"image_size": SIDE, "patch_size": 8, "projection_dim": 8}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)).save_pretrained(folder)
    crop = {"crop_size": {"height": SIDE, "width": SIDE}, "size": {"shortest_edge": SIDE}}
    CLIPImageProcessor(**crop, resample=3, **NORM).save_pretrained(folder)
    written = folder / "words"
    written.mkdir()
    (written / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(WORDS)}))
    (written / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")
    CLIPTokenizer.from_pretrained(written).save_pretrained(folder)


SAVE = {"vit": save_vit, "dinov2": save_dinov2, "clip": save_clip}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    for kind, save in SAVE.items():
        save(root / kind)
    return root


@pytest.fixture(scope="module")
def models(folders):
    return {kind: load_vision_model(folders / kind) for kind in SAVE}


def pictures(n=3, seed=0):
    rng = np.random.default_rng(seed)
    return [Image.fromarray(rng.integers(0, 256, (40 + 7 * i, 61, 3), np.uint8)) for i in range(n)]


def processor(folder, **changed):
    """transformers' own, by PIL: its default, by torchvision, rounds a level differently here and there."""
    from transformers import AutoImageProcessor

    image_processor = AutoImageProcessor.from_pretrained(folder, backend="pil")
    return lambda images: torch.from_numpy(
        np.stack(image_processor(images, return_tensors="np", **changed)["pixel_values"])
    )


@torch.no_grad()
@pytest.mark.parametrize("kind", SAVE)
@pytest.mark.parametrize("preprocessing", [PUBLISHED, OWN])
def test_embeddings_are_transformers(folders, models, kind, preprocessing):
    from transformers import CLIPModel, Dinov2Model, ViTModel

    cls = {"vit": ViTModel, "dinov2": Dinov2Model, "clip": CLIPModel}[kind]
    theirs = cls.from_pretrained(folders / kind).eval()
    pixels = models[kind].prepared(pictures(), preprocessing)
    if kind == "clip":
        features = theirs.get_image_features(pixel_values=pixels)
        expected = features if isinstance(features, torch.Tensor) else features.pooler_output
    else:
        expected = theirs(pixel_values=pixels).last_hidden_state[:, 0]
    got = models[kind].embed(pixels)
    assert models[kind].kind == kind and got.shape == (3, 8 if kind == "clip" else 16)
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(unit(got, dim=1), unit(expected, dim=1), atol=1e-6, rtol=0)
    torch.testing.assert_close(torch.cat(list(embed_all(models[kind], pictures(), preprocessing))), got)


@torch.no_grad()
def test_texts_are_transformers(folders, models):
    from transformers import CLIPModel

    theirs = CLIPModel.from_pretrained(folders / "clip").eval()
    ids = torch.ones(3, 77, dtype=torch.long)  # 1 is the end, and pads
    ids[0, :4], ids[1, :5], ids[2, :76] = (
        torch.tensor(t) for t in ([0, 2, 3, 1], [0, 2, 3, 8, 1], [0] + [3] * 75)
    )
    texts = ["a cat", "A cat  b", "cat " * 90]
    assert torch.equal(models["clip"].tokenizer(texts), ids)
    features = theirs.get_text_features(input_ids=ids)
    expected = features if isinstance(features, torch.Tensor) else features.pooler_output
    unit = torch.nn.functional.normalize
    got = models["clip"].embed_text(texts)
    torch.testing.assert_close(unit(got, dim=1), unit(expected, dim=1), atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="is a DINOv2 without a text encoder, expected a CLIP"):
        models["dinov2"].embed_text(["a cat"])


@pytest.mark.parametrize("kind", SAVE)
def test_published_is_the_processor_with_a_square_and_no_crop(folders, models, kind):
    side = {"vit": SIDE, "dinov2": 224, "clip": SIDE}[kind]
    assert models[kind].side == side
    square = {"size": {"height": side, "width": side}} | ({} if kind == "vit" else {"do_center_crop": False})
    expected = processor(folders / kind, **square)(pictures())
    got = models[kind].prepared(pictures(), PUBLISHED)
    assert got.shape == (3, 3, side, side)
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", SAVE)
def test_own_is_the_processor_up_to_a_level(folders, models, kind):
    expected = processor(folders / kind)(pictures())
    got = models[kind].prepared(pictures(), OWN)
    torch.testing.assert_close(got, expected, atol=2.01 / 255 / 0.26, rtol=0)
    assert float((got - expected).abs().mean()) < 0.2 / 255 / 0.26


def test_tensors_become_pictures():
    levels = torch.arange(2 * 3 * 5 * 4).view(2, 3, 5, 4) % 256
    images = as_pictures(levels / 255)
    assert [p.size for p in images] == [(5, 3)] * 2
    assert np.array_equal(np.stack([np.asarray(p) for p in images]), levels[..., :3].numpy())
    assert np.asarray(as_pictures(torch.tensor([-1.0, 2, 0.5]).view(1, 1, 1, 3))[0]).tolist() == [
        [[0, 255, 128]]
    ]


def broken(tmp_path, folders, name="vit", **changed):
    """A copy of a folder without the files that are None, and with the texts of the others."""
    folder = tmp_path / "model"
    folder.mkdir()
    for path in (folders / name).iterdir():
        if path.is_file():
            (folder / path.name).write_bytes(path.read_bytes())
    for key, text in changed.items():
        path = next(p for p in folder.iterdir() if p.stem == key)
        path.unlink()
        if text is not None:
            path.write_text(text)
    return folder


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            {"config": '{"model_type": "bert"}'},
            "model: config.json names a model of type 'bert', expected one",
        ),
        ({"config": "{}"}, "of type None, expected one of vit, dinov2, clip"),
        ({"config": None}, r"model has no config.json that can be read \(FileNotFoundError\)"),
        ({"config": "{"}, r"model has no config.json that can be read \(JSONDecodeError\)"),
        ({"config": "[]"}, "model: config.json is a list, expected an object"),
        ({"model": None}, "model has no weights, expected model.safetensors"),
        ({"model": "no tensors"}, "model cannot be loaded by transformers"),
        ({"preprocessor_config": None}, "model has no preprocessor_config.json that can be read"),
        ({"preprocessor_config": "{"}, "model has no preprocessor_config.json that can be read"),
    ],
)
def test_folders_that_are_refused(tmp_path, folders, changed, message):
    with pytest.raises(ValueError, match=message):
        load_vision_model(broken(tmp_path, folders, **changed))


def test_weights_that_are_not_there_are_refused(tmp_path):
    """transformers would draw them at random, and the scores would be noise."""
    from safetensors.torch import load_file, save_file

    save_vit(tmp_path / "part")
    file = tmp_path / "part" / "model.safetensors"
    state = load_file(file)
    gone = next(name for name in state if "attention" in name and name.endswith("weight"))
    save_file({name: t for name, t in state.items() if name != gone}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="part: the weights lack 1 tensors .*would be random"):
        load_vision_model(tmp_path / "part")
    save_file({f"other.{name}": t for name, t in state.items()}, file, {"format": "pt"})
    with pytest.raises(ValueError, match="part: the weights lack"):
        load_vision_model(tmp_path / "part")


@pytest.mark.parametrize(
    "file, change",
    [
        ("preprocessor_config.json", {"image_mean": None}),
        ("config.json", {"model_type": ["vit"]}),
        ("config.json", {"image_size": [24, 24]}),
    ],
)
def test_odd_settings_are_refused(tmp_path, file, change):
    save_vit(tmp_path / "odd")
    path = tmp_path / "odd" / file
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match="odd"):
        load_vision_model(tmp_path / "odd")
