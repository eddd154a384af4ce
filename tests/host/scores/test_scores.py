"""The score nodes on the demo's judges and on folders that transformers saved."""

import json
import re

import pytest
import torch

pytestmark = pytest.mark.host


@pytest.fixture(scope="module")
def dino(pack):
    return pack.nodes.scores.LoadVisionModel.execute("demo DINO").result[0]


@pytest.fixture(scope="module")
def clip(pack):
    return pack.nodes.scores.LoadVisionModel.execute("demo CLIP").result[0]


@pytest.fixture(scope="module")
def drawn():
    """(objects, 128, 128, 3) in one style, by its name."""
    import numpy as np

    from demo.objects import OBJECTS
    from demo.pictures import draw
    from demo.styles import HELD_OUT, STYLES

    styles = {**STYLES, **HELD_OUT}

    def drawn(style, count=4, seed=1):
        rng = np.random.default_rng(seed)
        pictures = [draw(obj, styles[style], rng) for obj in list(OBJECTS)[:count]]
        return torch.from_numpy(np.stack(pictures)).float()

    return drawn


def dino_score(pack, model, images, *references, weights="1", baseline=None, preprocessing=None):
    """(consistency, weighted, report, picture); references in falling order of their names."""
    inputs = {f"reference{i}": value for i, value in enumerate(references)}
    result = pack.nodes.scores.DINOStyleScore.execute(
        model, images, weights, preprocessing or pack.zsamb_core.scores.judge.PUBLISHED,
        dict(reversed(inputs.items())), baseline,
    ).result  # fmt: skip
    return result[0], result[1], json.loads(result[2]), result[3]


def by_hand(model, images):
    """CLS features of pictures squashed to the model's side, as unit rows."""
    pictures = torch.nn.functional.interpolate(images.movedim(-1, 1), (128, 128))
    levels = (pictures * 255).round() / 255
    module = model.vision.model
    with torch.no_grad():
        cls = module(pixel_values=(levels - 0.5) / 0.5).last_hidden_state[:, 0]
    return torch.nn.functional.normalize(cls.double(), dim=1)


def test_scores_are_the_cosines_written_out(pack, dino, drawn):
    images, a, b, plain = drawn("lava"), drawn("lava", 1, 9), drawn("arctic", 1, 9), drawn("plum")
    consistency, weighted, report, picture = dino_score(
        pack, dino, images, a, b, weights="3, 1", baseline=plain
    )
    f, r, p = by_hand(dino, images), by_hand(dino, torch.cat([a, b])), by_hand(dino, plain)
    pairs = [float(f[i] @ f[j]) for i in range(4) for j in range(i + 1, 4)]
    assert consistency == report["consistency"] == pytest.approx(sum(pairs) / 6, abs=1e-5)
    likeness, base = (f @ r.T).mean(0).tolist(), (p @ r.T).mean(0).tolist()
    assert report["similarities"] == pytest.approx(likeness, abs=1e-5)
    assert weighted == pytest.approx(0.75 * likeness[0] + 0.25 * likeness[1], abs=1e-5)
    gains = [x - y for x, y in zip(likeness, base, strict=True)]
    assert report["gains"] == pytest.approx(gains, abs=1e-5) and report["correlation"] == pytest.approx(1)
    assert picture.ndim == 4 and picture.shape[-1] == 3 and picture.std() > 0.05


def test_one_style_is_consistent_and_many_are_not(pack, dino, drawn):
    one = dino_score(pack, dino, drawn("rust", 8))[0]
    many = torch.cat([drawn(s, 1, i) for i, s in enumerate(("rust", "lava", "arctic", "plum", "comic"))])
    assert one > 0.9 > 0.5 > dino_score(pack, dino, many)[0]
    same = drawn("rust", 1).repeat(3, 1, 1, 1)
    assert dino_score(pack, dino, same)[0] == pytest.approx(1)


def test_large_sets_are_embedded_once_each_and_in_parts(pack, dino, drawn, monkeypatch):
    sizes = []
    vision = pack.zsamb_core.scores.judge
    original = vision.VisionModel.embed
    monkeypatch.setattr(
        vision.VisionModel, "embed", lambda self, pixels: sizes.append(len(pixels)) or original(self, pixels)
    )
    images = drawn("rust", 10).repeat(4, 1, 1, 1)
    dino_score(pack, dino, images, drawn("lava", 2))
    assert sizes == [16, 16, 10]


def test_the_own_preprocessing_is_another(pack, dino, drawn):
    wide = torch.nn.functional.interpolate(drawn("mint").movedim(-1, 1), (96, 192)).movedim(1, -1)
    vision = pack.zsamb_core.scores.judge
    reports = [dino_score(pack, dino, wide, preprocessing=p)[2] for p in (vision.PUBLISHED, vision.OWN)]
    assert [r["preprocessing"] for r in reports] == [vision.PUBLISHED, vision.OWN]


def clip_score(pack, model, images, prompts):
    result = pack.nodes.scores.CLIPScore.execute(
        model, images, prompts, pack.zsamb_core.scores.judge.PUBLISHED
    ).result
    return result[0], json.loads(result[1]), result[2]


def test_clip_finds_the_right_prompt(pack, clip, drawn):
    from demo.objects import OBJECTS

    objects, images = list(OBJECTS), drawn("rust", 12)
    right = clip_score(pack, clip, images, "\n".join(f"a {o}" for o in objects))
    wrong = clip_score(pack, clip, images, "\n".join(f"a {o}" for o in objects[1:] + objects[:1]))
    assert right[0] > wrong[0] + 0.3
    assert right[0] == pytest.approx(sum(right[1]["cosines"]) / 12)
    one = clip_score(pack, clip, images, "a star")
    assert one[1]["prompts"] == ["a star"] * 12 and one[2].shape[-1] == 3


def test_weights_and_escaped_brackets_are_not_scored(pack, clip, drawn):
    images = drawn("rust", 3)
    plain = clip_score(pack, clip, images, "a moon\na star\na boat")[1]["cosines"]
    written = clip_score(pack, clip, images, "(a moon:1.3)\n((a) [blue:.5)\na \\(boat\\), embedding:bad")[1]
    assert written["cosines"][0] == pytest.approx(plain[0], abs=1e-7) and written["cut"] == []
    assert written["prompts"][0] == "(a moon:1.3)"
    for i, read in ((1, "a [blue"), (2, "a (boat),")):  # an escaped bracket is one that the host encodes
        ids = clip.vision.tokenizer([read])
        with torch.no_grad():
            text = clip.vision.model.text_projection(clip.vision.model.text_model(ids).pooler_output)
        embeds = clip.vision.embed(clip.vision.prepared(pack.zsamb_core.scores.judge.as_pictures(images), ""))
        expected = float(torch.cosine_similarity(text, embeds[i : i + 1]))
        assert written["cosines"][i] == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match=r"CLIP Score: the prompt '\(embedding:bad:1.2\)' has no words"):
        clip_score(pack, clip, images, "(embedding:bad:1.2)")


def test_what_the_encoder_does_not_read_is_said(pack, clip, drawn, caplog):
    long = "a moon" + ", a blue star" * 40
    report = clip_score(pack, clip, drawn("rust", 2), f"a moon\n{long}")[1]
    assert report["cut"] == [{"prompt": 2, "tokens": 164, "read": 77}]
    (message,) = [r.getMessage() for r in caplog.records if "tokens" in r.getMessage()]
    assert message.startswith("CLIP Score: prompt 2 has 164 tokens, and demo CLIP reads 77")


def test_what_is_no_picture_is_refused_by_name(pack, dino, clip, drawn):
    images = drawn("rust")
    broken, endless = images.clone(), images.clone()
    broken[2, 5, 5, 1], endless[0, 0, 0, 0] = torch.nan, torch.inf
    cases = [
        (lambda: dino_score(pack, dino, broken), "DINO Style Score: images, picture 3 of 4, has"),
        (lambda: dino_score(pack, dino, images, images[:1], endless[:1]), "reference1, picture 1 of 1, has"),
        (lambda: dino_score(pack, dino, images, images[:1], baseline=broken), "baseline, picture 3"),
        (lambda: clip_score(pack, clip, broken, "a cat"), "CLIP Score: images, picture 3 of 4, has 1 of"),
        (lambda: dino_score(pack, dino, images[..., :1]), r"images has shape \(4, 128, 128, 1\), expected"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    clear = torch.cat([images, torch.full_like(images[..., :1], torch.nan)], -1)  # transparency is not seen
    assert dino_score(pack, dino, clear)[0] == dino_score(pack, dino, images)[0]


def test_judges_are_the_memory_manager_s(pack, dino, drawn):
    import comfy.model_management as mm

    dino_score(pack, dino, drawn("rust"))
    assert any(loaded.model is dino.patcher for loaded in mm.current_loaded_models)
    mm.unload_all_models()
    assert not any(loaded.model is dino.patcher for loaded in mm.current_loaded_models)
    assert dino_score(pack, dino, drawn("rust"))[0] > 0.5


@pytest.fixture
def folder(tmp_path, monkeypatch):
    import folder_paths

    monkeypatch.setitem(folder_paths.folder_names_and_paths, "transformers", ([str(tmp_path)], set()))
    return tmp_path


def save_vit(path):
    from transformers import ViTConfig, ViTImageProcessor, ViTModel

    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=32, patch_size=8,
    )  # fmt: skip
    ViTModel(config, add_pooling_layer=False).save_pretrained(path)
    ViTImageProcessor(size={"height": 32, "width": 32}).save_pretrained(path)


def test_a_folder_of_transformers_is_listed_and_loaded(pack, folder, drawn):
    save_vit(folder / "facebook" / "tiny-vit")
    recommended, demo = "facebook/dino-vitb8", ["demo DINO", "demo CLIP"]
    assert pack.nodes._host.scores.judges.listed() == [recommended, *demo, "facebook/tiny-vit"]
    (model,) = pack.nodes.scores.LoadVisionModel.execute("facebook/tiny-vit").result
    consistency, _, report, _ = dino_score(pack, model, drawn("rust"))
    assert report["model"] == "facebook/tiny-vit" and -1 <= consistency <= 1
    before = pack.nodes.scores.LoadVisionModel.fingerprint_inputs("facebook/tiny-vit")
    assert before == pack.nodes.scores.LoadVisionModel.fingerprint_inputs("facebook/tiny-vit")


def test_a_loader_runs_again_when_a_file_of_its_model_is_another(pack, folder):
    """Replaced, though it is older or as old, added or taken away; and not otherwise."""
    import os

    home = folder / "facebook" / "tiny-vit"
    save_vit(home)
    stamp = pack.nodes.scores.LoadVisionModel.fingerprint_inputs

    def changed(change):
        before = stamp("facebook/tiny-vit")
        assert before == stamp("facebook/tiny-vit")
        change()
        return before != stamp("facebook/tiny-vit")

    weights, new = home / "model.safetensors", home.parent / "new"

    def replace(content, seconds):
        new.write_bytes(content)
        os.utime(new, ns=(seconds, seconds))
        new.replace(weights)

    same, now = weights.read_bytes(), weights.stat().st_mtime_ns
    assert changed(lambda: replace(same, now - 10**9))  # a copy that kept its time, older than the config
    assert not changed(lambda: replace(same, now - 10**9))
    assert changed(lambda: replace(same + b" ", now - 10**9))
    assert changed((home / "preprocessor_config.json").unlink)
    assert changed((home / "another.json").touch)
    (home / "gone").symlink_to(home / "nowhere")
    assert stamp("facebook/tiny-vit")


def test_configs_that_cannot_be_read_do_not_hide_the_others(pack, folder):
    """The host asks for the list at every start: nothing raises, hangs or takes long."""
    import os

    save_vit(folder / "author" / "vit")
    before = pack.nodes._host.scores.judges.listed()
    configs = {
        "deep": b"[" * 200_000, "large": b" " * 9_000_000, "list": b"[]", "odd": b'{"model_type": ["vit"]}',
        "long": b'{"model_type": ' + b"9" * 5000 + b"}", "bytes": b"\xff",
        "author/vit/below": b'{"model_type": "vit"}',
    }  # fmt: skip
    for name, content in configs.items():
        (folder / name).mkdir()
        (folder / name / "config.json").write_bytes(content)
    (folder / "pipe").mkdir()
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe" / "config.json")
    assert pack.nodes._host.scores.judges.listed() == before and "author/vit" in before
    with pytest.raises(ValueError, match="Load Vision Model: the folder 'x.* with a config.json") as error:
        pack.nodes.scores.LoadVisionModel.execute("x" * 200)
    assert len(str(error.value)) < 1000


def test_errors_name_the_input(pack, dino, drawn, folder):
    images = drawn("rust")
    cases = [
        (lambda: dino_score(pack, dino, images[:1]), "DINO Style Score: images holds 1 picture"),
        (
            lambda: dino_score(pack, dino, images, images[:2], weights="1, 2, 3"),
            "DINO Style Score: there are 3 weights for 2 references",
        ),
        (
            lambda: dino_score(pack, dino, images, images[:1], weights="1\n2"),
            "DINO Style Score: weights has 2 lines",
        ),
        (lambda: clip_score(pack, dino, images, "a cat"), "CLIP Score: the model is a ViT"),
        (lambda: clip_score(pack, dino, images, "a\nb"), "CLIP Score: prompts has 2 lines for 4 images"),
        (
            lambda: pack.nodes.scores.LoadVisionModel.execute("absent"),
            "Load Vision Model: the folder 'absent' with a config.json was not found",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
    (folder / "odd").mkdir()
    (folder / "odd" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="Load Vision Model: odd: config.json names a model of type 'bert'"):
        pack.nodes.scores.LoadVisionModel.execute("odd")


def test_names_are_checked_before_anything_runs(pack, folder):
    check = pack.nodes.scores.LoadVisionModel.validate_inputs
    assert check("demo DINO") is True
    assert re.match(
        "Load Vision Model: the folder 'facebook/dino-vitb8' with a config.json was not found, expected it in"
        " one of .* Get facebook/dino-vitb8 from huggingface.co",
        check(pack.nodes._host.scores.judges.SOURCE.kind.example),
    )
    save_vit(folder / "facebook" / "dino-vitb8")
    assert check("facebook/dino-vitb8") is True
