"""Scores of folders on tiny random models: every number against one computed here from scratch."""

import csv
import io
import json
import math
import shutil
import subprocess
import sys
from contextlib import redirect_stderr
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tools import evaluate
from zsamb_core import cli
from zsamb_core.scores.judge import VisionModel
from zsamb_core.scores.plan import SUFFIXES, natural, paired, read_plan, read_prompts
from zsamb_core.scores.report import short

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[3]
SIDE = 24
SMALL = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
WORDS = ["<|startoftext|>", "<|endoftext|>", "a</w>", "cat</w>", "c", "a", "t</w>", "ca", "b</w>", "b", "t"]
MEAN, STD = [0.48, 0.45, 0.4], [0.26, 0.27, 0.28]
PROMPTS = ["a cat", "b", "cat b a"]


def write_vocabulary(folder, words=None):
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps(words or {word: i for i, word in enumerate(WORDS)}))
    (folder / "merges.txt").write_text("#version: 0.2\nc a\nca t</w>\n")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from transformers import (
        CLIPConfig,
        CLIPImageProcessor,
        CLIPModel,
        CLIPTokenizer,
        ViTConfig,
        ViTImageProcessor,
        ViTModel,
    )

    torch.manual_seed(0)
    root, norm = tmp_path_factory.mktemp("models"), {"image_mean": MEAN, "image_std": STD}
    vision = SMALL | {"image_size": SIDE, "patch_size": 8}
    ViTModel(ViTConfig(**vision)).save_pretrained(root / "vit")
    square = {"height": SIDE, "width": SIDE}
    ViTImageProcessor(size=square, resample=2, **norm).save_pretrained(root / "vit")
    text = SMALL | {"vocab_size": len(WORDS), "projection_dim": 8, "bos_token_id": 0, "eos_token_id": 1}
    vision |= {"projection_dim": 8}
    clip = CLIPConfig(text_config=text, vision_config=vision, projection_dim=8)
    CLIPModel(clip).save_pretrained(root / "clip")
    crop = {"crop_size": square, "size": {"shortest_edge": SIDE}}
    CLIPImageProcessor(**crop, resample=3, **norm).save_pretrained(root / "clip")
    write_vocabulary(root / "words")
    CLIPTokenizer.from_pretrained(root / "words").save_pretrained(root / "clip")
    return root


def picture(path, seed):
    """Noise over a color, so that cosines are not all near one."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(0, 120, (30 + seed % 3 * 9, 41, 3)) + rng.integers(0, 130, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(levels.astype(np.uint8)).save(
        path, **({"lossless": True} if path.suffix == ".webp" else {})
    )
    return path


@pytest.fixture
def work(tmp_path, models):
    """Two sets of three, in an order that plain sorting gets wrong, and two references."""
    for s, name in enumerate(("plain", "aligned")):
        for i, file in enumerate(("1.png", "2.webp", "10.png")):
            picture(tmp_path / name / file, 10 * s + i)
    picture(tmp_path / "a.png", 100), picture(tmp_path / "b.png", 101)
    return tmp_path


def plan(work, *sets):
    (work / "plan.json").write_text(json.dumps({"sets": sets}))
    return str(work / "plan.json")


def score(*arguments):
    """The command's exit code."""
    return cli.main(["score", *map(str, arguments)])


def run(work, models, *arguments, dino="vit", clip="clip", out="out"):
    judges = [f"--{role}={models / name}" for role, name in (("dino", dino), ("clip", clip)) if name]
    assert score(*arguments, *judges, "--out", work / out) == 0
    return json.loads((work / out / "scores.json").read_text())


def refusal(work, models, *arguments, **judges):
    """What is said of a wrong input."""
    stderr = io.StringIO()
    with redirect_stderr(stderr), pytest.raises(AssertionError, match="assert 2 == 0"):
        run(work, models, *arguments, **judges)
    return stderr.getvalue()


def table(path):
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# From scratch: transformers' classes, PIL, and loops.


@torch.no_grad()
def embeds(models, kind, paths):
    from transformers import CLIPModel, ViTModel

    model = {"vit": ViTModel, "clip": CLIPModel}[kind].from_pretrained(models / kind).eval()
    vectors = []
    for path in paths:
        image = Image.open(path).convert("RGB")
        if kind == "clip":  # scaled and cut to the middle
            w, h = (int(side * SIDE / min(image.size)) for side in image.size)
            left, top = (w - SIDE) // 2, (h - SIDE) // 2
            square = image.resize((w, h), 3).crop((left, top, left + SIDE, top + SIDE))
        else:
            square = image.resize((SIDE, SIDE), 2)
        x = (torch.from_numpy(np.array(square)).double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
        x = x.permute(2, 0, 1)[None].float()
        if kind == "clip":
            y = model.visual_projection(model.vision_model(x).pooler_output)[0]
        else:
            y = model(x).last_hidden_state[0, 0]
        vectors.append([float(v) for v in y])
    return vectors


@torch.no_grad()
def text_embeds(models, texts):
    from transformers import CLIPModel

    model = CLIPModel.from_pretrained(models / "clip").eval()
    words = {"a": 2, "cat": 3, "b": 8}
    rows = [[0, *(words[w] for w in text.split()), 1] for text in texts]
    return [
        model.text_projection(model.text_model(torch.tensor([r])).pooler_output)[0].tolist() for r in rows
    ]


def cosine(a, b):
    dot = math.fsum(x * y for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(math.fsum(x * x for x in a) * math.fsum(y * y for y in b))


def mean(values):
    values = list(values)
    return math.fsum(values) / len(values)


FILES = ("1.png", "2.webp", "10.png")


def whole_plan(work):
    both = {"references": ["a.png", "b.png"], "baseline": "none"}
    return plan(
        work,
        {"name": "none", "images": "plain", "prompts": PROMPTS},
        {"name": "lin", "images": "aligned", "weights": [0.3, 0.7], "group": "linear", **both}
        | {"prompts": dict(zip(FILES, PROMPTS, strict=True)), "references": ["a.png", "b.png", "c.png"]}
        | {"weights": [0.2, 0.3, 0.5]},
    )


@pytest.mark.parametrize("from_plan", [True, False])
def test_every_number_is_the_one_from_scratch(work, models, from_plan):
    picture(work / "c.png", 102)
    references = [work / f"{c}.png" for c in "abc"]
    weights = [0.2, 0.3, 0.5]
    if from_plan:
        sets = run(work, models, whole_plan(work))["sets"]
    else:
        (work / "p.txt").write_text("\n".join(PROMPTS) + "\n")
        arguments = ["--images", work / "plain", work / "aligned", "--references", *references]
        sets = run(work, models, *arguments, "--weights", *weights, "--prompts", work / "p.txt")["sets"]
    rows, images = table(work / "out" / "scores.csv"), table(work / "out" / "images.csv")
    refs, texts = embeds(models, "vit", references), text_embeds(models, PROMPTS)
    similarity = {}
    for i, name in enumerate(("plain", "aligned")):
        paths = [work / name / f for f in FILES]
        dino, clip = embeds(models, "vit", paths), embeds(models, "clip", paths)
        similarity[name] = [mean(cosine(x, r) for x in dino) for r in refs]
        pairs = [cosine(dino[a], dino[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
        assert sets[i]["consistency"] == pytest.approx(mean(pairs), abs=1e-6)
        assert float(rows[i]["consistency"]) == sets[i]["consistency"]
        matrix = [[cosine(x, y) for y in dino] for x in dino]
        assert np.allclose(sets[i]["matrix"], matrix, atol=1e-6)
        cosines = [cosine(x, y) for x, y in zip(clip, texts, strict=True)]
        assert sets[i]["clip"] == pytest.approx(mean(cosines), abs=1e-6)
        assert float(rows[i]["clip"]) == sets[i]["clip"]
        here = images[3 * i : 3 * i + 3]
        assert [(x["file"], x["prompt"]) for x in here] == list(zip(FILES, PROMPTS, strict=True))
        assert [float(x["clip"]) for x in here] == pytest.approx(cosines, abs=1e-6)
        if i or not from_plan:
            for j, ref in enumerate(refs):
                near = [float(x[f"similarity {j + 1}"]) for x in here]
                assert near == pytest.approx([cosine(x, ref) for x in dino], abs=1e-6)
                assert float(rows[i][f"similarity {j + 1}"]) == pytest.approx(similarity[name][j], abs=1e-6)
            wms = sum(w * s for w, s in zip(weights, similarity[name], strict=True))
            assert float(rows[i]["wms"]) == pytest.approx(wms, abs=1e-6)
    if from_plan:
        gains = [s - b for s, b in zip(similarity["aligned"], similarity["plain"], strict=True)]
        assert [float(rows[1][f"gain {j}"]) for j in (1, 2, 3)] == pytest.approx(gains, abs=1e-6)
        expected = np.corrcoef(gains, weights)[0, 1]
        assert float(rows[1]["correlation"]) == pytest.approx(expected, abs=1e-4)  # gains differ by little
        expected = np.corrcoef([float(rows[1][f"gain {j}"]) for j in (1, 2, 3)], weights)[0, 1]
        assert float(rows[1]["correlation"]) == pytest.approx(expected, abs=1e-9)
        assert [rows[1][f"reference {j}"] for j in (1, 2, 3)] == ["a.png", "b.png", "c.png"]
        assert [rows[0][c] for c in ("wms", "correlation", "gain 1", "group")] == [""] * 4
        assert rows[1]["group"] == "linear" and rows[1]["baseline"] == "none" and rows[1]["images"] == "3"


def test_own_preprocessing_is_another_judgement(work, models):
    arguments = ["--images", work / "plain", "--prompts", work / "p.txt"]
    (work / "p.txt").write_text("\n".join(PROMPTS))
    shutil.copytree(models / "vit", work / "vit")
    settings = json.loads((work / "vit" / "preprocessor_config.json").read_text())
    (work / "vit" / "preprocessor_config.json").write_text(json.dumps(settings | {"do_normalize": False}))
    published = run(work, models, *arguments, dino=work / "vit")
    own = run(work, models, *arguments, "--preprocessing", "own", dino=work / "vit")
    assert (published["preprocessing"], own["preprocessing"]) == ("published", "own")
    (first,), (second,) = published["sets"], own["sets"]
    assert first["consistency"] != second["consistency"]
    assert first["clip"] == second["clip"]  # CLIP's is published with its own
    again = run(work, models, *arguments, dino=work / "vit")
    assert again == published and again["models"]["dino"]["name"] == "vit"


def test_identical_pictures_are_all_alike(work, models):
    for i in range(4):
        picture(work / "same" / f"{i}.png", 5)
    picture(work / "r.png", 5)
    (alike,) = run(work, models, "--images", work / "same", "--references", work / "r.png", clip=None)["sets"]
    assert alike["consistency"] == pytest.approx(1, abs=1e-9)
    assert alike["similarity"] == pytest.approx([1], abs=1e-6) and alike["clip"] is None


@pytest.fixture
def embedded(monkeypatch):
    """Counts the rows that any model embeds; set ``stop`` to end the run after so many passes."""
    count = {"pictures": 0, "texts": 0, "passes": 0, "stop": None}
    embed, embed_text = VisionModel.embed, VisionModel.embed_text

    def counted(self, pixels):
        if count["passes"] == count["stop"]:
            raise KeyboardInterrupt
        count["passes"] += 1
        count["pictures"] += len(pixels)
        return embed(self, pixels)

    def counted_text(self, texts):
        count["texts"] += len(texts)
        return embed_text(self, texts)

    monkeypatch.setattr(VisionModel, "embed", counted)
    monkeypatch.setattr(VisionModel, "embed_text", counted_text)
    return count


def test_a_second_run_embeds_what_is_new_alone(work, models, embedded, monkeypatch):
    picture(work / "c.png", 102)
    first = run(work, models, whole_plan(work))
    assert (embedded["pictures"], embedded["texts"]) == (6 + 3 + 6, 3)
    with monkeypatch.context() as patch:
        patch.setattr("zsamb_core.scores.judge.load_vision_model", None)  # nor is a model loaded
        assert run(work, models, whole_plan(work)) == first
    (work / "plain" / "1.png").rename(work / "plain" / "0.png")  # the content counts, not the name
    run(work, models, whole_plan(work))
    assert (embedded["pictures"], embedded["texts"]) == (15, 3)
    picture(work / "plain" / "0.png", 55)
    changed = run(work, models, whole_plan(work))
    assert (embedded["pictures"], embedded["texts"]) == (17, 3)
    assert changed["sets"][0]["consistency"] != first["sets"][0]["consistency"]
    # What the earlier runs found is still there, once where two found the same.
    earlier = sorted(path.name for path in (work / "out").glob("scores_*.json"))
    assert earlier == ["scores_00001.json", "scores_00002.json"]
    assert json.loads((work / "out" / earlier[0]).read_text()) == first


def test_another_model_of_the_same_name_is_embedded_anew(work, models, embedded, tmp_path):
    from transformers import ViTModel

    first = run(work, models, "--images", work / "plain", clip=None)
    other = tmp_path / "other" / "vit"
    other.mkdir(parents=True)
    for path in (models / "vit").iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    torch.manual_seed(1)
    ViTModel(ViTModel.from_pretrained(other).config).save_pretrained(other)
    second = run(work, tmp_path / "other", "--images", work / "plain", clip=None)
    assert embedded["pictures"] == 6 and first["models"] != second["models"]
    assert first["sets"][0]["consistency"] != second["sets"][0]["consistency"]


def test_an_interrupted_run_leaves_what_it_had(work, models, embedded):
    for i in range(40):
        picture(work / "many" / f"{i}.png", 200 + i)
    embedded["stop"] = 1
    interrupted = ["--images", work / "many", "--dino", models / "vit", "--out", work / "out"]
    assert score(*interrupted) == 130
    (file,) = (work / "out" / "embeddings").iterdir()
    assert file.name.startswith("dino-vit-published-") and embedded["pictures"] == 16
    file.with_name(".1.part").write_bytes(b"half")  # as a killed run leaves it
    embedded["stop"] = None
    resumed = run(work, models, "--images", work / "many", clip=None)
    assert embedded["pictures"] == 40
    assert run(work, models, "--images", work / "many", clip=None, out="fresh") == resumed
    file.write_bytes(b"broken")
    assert f"{file} cannot be read" in refusal(work, models, "--images", work / "many", clip=None)


def test_natural_order():
    names = [
        "img10.png",
        "img2.png",
        "Img1.png",
        "b.png",
        "a2b10.png",
        "a2b9.png",
        "a.png",
        "7.png",
        "a1.jpg",
    ]
    ordered = [p.name for p in sorted(map(Path, names), key=natural)]
    assert ordered == [
        "7.png", "a.png", "a1.jpg", "a2b9.png", "a2b10.png", "b.png", "Img1.png", "img2.png", "img10.png"
    ]  # fmt: skip


def test_prompts_by_name_and_by_order(tmp_path):
    images, path = [Path(n) for n in FILES], tmp_path / "p.txt"
    for text in ("a\n\nb\nc\n", "10.png\tc\n1.png\ta\n2.webp\tb\nmore.png\td", "\ufeffa\r\nb\r\nc"):
        path.write_text(text, encoding="utf-8")
        assert paired(images, read_prompts(path), "set") == ["a", "b", "c"]
    for value in (["a", "b", "c"], {"10.png": "c", "2.webp": "b", "1.png": "a"}):
        (tmp_path / "p.json").write_text(json.dumps(value))
        assert paired(images, read_prompts(tmp_path / "p.json"), "set") == ["a", "b", "c"]
    for text, problem in (
        ("1.png\ta\nb", "line 'b' has no tab"),
        ("1.png\ta\n1.png\tb", "names that file again"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=problem):
            read_prompts(path)
    for prompts, problem in (
        (["a", "b"], r"set: 2 prompts for 3 pictures \(1.png to 10.png\)"),
        (["a", "b", ""], "not a list of texts"),
        ("abc", "not a list of texts"),
        ({"1.png": "a", "2.webp": "b", "10.PNG": "c"}, "no prompt for 10.png.*prompts for 1.png, 2.webp"),
    ):
        with pytest.raises(ValueError, match=problem):
            paired(images, prompts, "set")
    with pytest.raises(ValueError, match="two files named 1.png"):
        paired([Path("x/1.png"), Path("y/1.png")], {"1.png": "a"}, "set")


def entry(**changed):
    return {"name": "x", "images": "plain", "references": ["a.png", "b.png"], "weights": [0.5, 0.5]} | changed


@pytest.mark.parametrize(
    ("sets", "problem"),
    [
        ([], "no list of sets"),
        ([{"images": "plain"}], "set 1 has no name or no images"),
        (["plain"], "set 1 has no name or no images"),
        ([entry(refs=["a.png"])], r"set 1 \(x\) has refs as"),
        ([entry(group=3)], r"has group as 3, expected name, images"),
        ([entry(weights=["1", 0])], r"has weights \['1', 0\], expected texts or numbers"),
        ([entry(images="nowhere")], "There is no folder .*nowhere"),
        ([entry(images=["plain/1.png", "plain/3.png"])], "x: there is no file .*3.png"),
        ([entry(images=["plain/1.png"])], "x has one picture, 1.png, expected two at least"),
        ([entry(references=["a.png", "z.png"])], "x: there is no file .*z.png"),
        ([entry(references=["a.png", "plan.json"])], "x: plan.json is no picture, expected .png"),
        ([entry(references=["a.png", "plain/1.png"])], "its reference 1.png is one of its pictures too"),
        ([entry(weights=[1])], r"x: the weights are \[1.0\] for 2 references, expected one for each"),
        ([entry(weights=[0.5, 0.6])], "expected none below 0 and a sum of 1"),
        ([entry(weights=[1.5, -0.5])], "expected none below 0 and a sum of 1"),
        ([entry(weights=[math.nan, 1])], "expected none below 0 and a sum of 1"),
        ([entry(), entry()], "two sets are named x"),
        ([entry(baseline="y")], "the baseline of x is 'y', expected the name of another set: there is none"),
        ([entry(baseline="x")], "the baseline of x is 'x'"),
        ([{"name": "x", "images": "plain", "baseline": "y"}], "x has a baseline and no references"),
        ([entry(prompts=["a"])], "x: 1 prompts for 3 pictures"),
    ],
)
def test_plans_that_are_refused(work, sets, problem):
    path = plan(work, *sets)
    with pytest.raises(ValueError, match=problem):
        read_plan(Path(path))


def test_errors_come_before_a_model_is_loaded(work, models, monkeypatch):
    monkeypatch.setattr("zsamb_core.scores.judge.load_vision_model", None)
    images = ["--images", work / "plain"]
    assert "There is no judge" in refusal(work, models, *images, dino=None, clip=None)
    assert "Give either a plan, or --images" in refusal(work, models)
    assert "are in the plan" in refusal(work, models, plan(work, entry()), "--references", work / "a.png")
    assert "no set has any" in refusal(work, models, *images)
    assert "there is no folder" in refusal(work, models, *images, dino="none", clip=None)
    assert "expected vit or dinov2: give it as --clip" in refusal(
        work, models, *images, dino="clip", clip=None
    )
    (work / "p.txt").write_text("\n".join(PROMPTS))
    assert "type 'vit', expected clip" in refusal(
        work, models, *images, "--prompts", work / "p.txt", clip="vit"
    )
    (work / "vit").mkdir()
    assert "vit has no config.json" in refusal(work, work, *images, clip=None)
    (work / "vit" / "config.json").write_text('{"model_type": "vit"}')
    assert "vit has no preprocessor_config.json" in refusal(work, work, *images, clip=None)
    (work / "vit" / "preprocessor_config.json").write_text("{}")
    assert "vit has no weights, expected model.safetensors or pytorch" in refusal(
        work, work, *images, clip=None
    )
    assert "no.txt cannot be read" in refusal(work, models, *images, "--prompts", work / "no.txt")
    assert "no.json cannot be read" in refusal(work, models, work / "no.json")
    (work / "plan.json").write_text("{")
    assert "plan.json is not JSON" in refusal(work, models, work / "plan.json")
    (work / "empty").mkdir()
    (work / "empty" / "notes.txt").write_text("")
    assert f"empty has no pictures (1 other files), expected {', '.join(SUFFIXES)}" in refusal(
        work, models, "--images", work / "empty"
    )
    (work / "plain" / "3.png").write_bytes(b"no picture")
    assert f"{work / 'plain' / '3.png'} cannot be read as a picture" in refusal(
        work, models, *images, clip=None
    )
    assert not (work / "out").exists()


def test_a_picture_that_ends_early_is_named(work, models):
    whole = (work / "plain" / "1.png").read_bytes()
    (work / "plain" / "1.png").write_bytes(whole[: len(whole) // 2])
    assert "1.png cannot be read as a picture" in refusal(work, models, "--images", work / "plain", clip=None)


def test_a_prompt_is_scored_by_its_words_and_a_long_one_in_part(work, models, capsys):
    images = ["plain/1.png", "plain/2.webp", "plain/10.png"]
    plain = {"name": "x", "images": images, "prompts": ["a cat", "b a", "b a"]}
    weighted = {"name": "y", "images": images, "prompts": ["(a:1.3) ((cat))", "b (a:.5)", "b a" + " b" * 90]}
    one, two = run(work, models, plan(work, plain, weighted), dino=None)["sets"]
    assert [p["clip"] for p in two["pictures"][:2]] == [p["clip"] for p in one["pictures"][:2]]
    assert [p["prompt"] for p in two["pictures"]] == weighted["prompts"]
    assert [(p["tokens_read"], p["tokens"]) for p in two["pictures"]] == [(4, 4), (4, 4), (77, 94)]
    told_once = "y: the prompt of 10.png has 94 tokens, and the judge reads 77"
    assert capsys.readouterr().out.count(told_once) == 1
    run(work, models, plan(work, weighted), dino=None)  # from what was kept
    assert capsys.readouterr().out.count(told_once) == 1
    nothing = {"name": "z", "images": images[:1], "prompts": ["(())"]}
    assert "has no words to score" in refusal(work, models, plan(work, nothing), dino=None)


def test_deep_grey_is_judged_as_it_looks(work, models):
    """Sixteen bits of grey and eight are the same picture, and neither is white."""
    grey = np.asarray(Image.open(work / "plain" / "1.png").convert("L"))
    (work / "grey").mkdir()
    Image.fromarray(grey).save(work / "grey" / "1.png")
    Image.fromarray(grey.astype(np.uint16) * 257).save(work / "grey" / "2.png")
    Image.new("L", grey.shape[::-1], 255).save(work / "grey" / "3.png")
    (scores,) = run(work, models, "--images", work / "grey", clip=None)["sets"]
    assert scores["matrix"][0][1] == pytest.approx(1, abs=1e-6)
    assert scores["matrix"][0][2] == pytest.approx(scores["matrix"][1][2], abs=1e-6) and (
        scores["matrix"][0][2] < 0.9999
    )


def test_one_picture_is_enough_for_clip(work, models):
    sets = {"name": "x", "images": ["plain/1.png"], "prompts": ["a cat"]}
    (scores,) = run(work, models, plan(work, sets), dino=None)["sets"]
    assert scores["consistency"] is None and -1 <= scores["clip"] <= 1
    assert Image.open(work / "out" / "scores.png").size[1] > 50


def test_the_table_of_two_groups(work, models, capsys):
    sets = [{"name": n, "images": n, "prompts": PROMPTS, "group": g} for n, g in (("plain", "unaligned"),)]
    sets += [{"name": "1", "images": "aligned", "prompts": PROMPTS, "group": "aligned"}]
    sets += [{"name": "2", "images": "plain", "prompts": PROMPTS[::-1], "group": "aligned"}]
    scores = run(work, models, plan(work, *sets))["sets"]
    lines = capsys.readouterr().out.splitlines()[-2:]
    for line, label, part in zip(lines, ("unaligned", "aligned"), (scores[:1], scores[1:]), strict=True):
        clip, dino = (short(mean(e[key] for e in part)) for key in ("clip", "consistency"))
        assert line.split() == [label, "CLIP", clip, "DINO", dino, "sets", str(len(part))]


def test_the_table_of_weights(work, models, capsys):
    sets = [
        entry(name=f"{g} {w}", images=i, group=g, weights=[w, 1 - w], prompts=PROMPTS)
        for w, g, i in ((0.25, "linear", "plain"), (0.25, "slerp", "aligned"), (0.5, "linear", "aligned"))
    ]
    one, two, three = run(work, models, plan(work, *sets))["sets"]
    head, columns, *rest = [
        [x.split() for x in li.split("|")] for li in capsys.readouterr().out.splitlines()[-4:]
    ]
    assert head == [[], ["linear"], ["slerp"]]
    assert columns == [["weights"], *[["MS", "a", "MS", "b", "WMS", "CLIP"]] * 2]

    def cells(e):
        return [short(x) for x in (*e["similarity"], e["wms"], e["clip"])]

    assert rest == [[["0.25/0.75"], cells(one), cells(two)], [["0.5/0.5"], cells(three), ["-"] * 4]]


def test_short_numbers():
    assert [short(x) for x in (0.34541, -0.5, 1.0, 0.99999, 10.04, None)] == [
        ".3454", "-.5000", "1.0000", "1.0000", "10.0400", "-"
    ]  # fmt: skip


def test_the_sheet_shows_the_matrix_and_bars(work, models):
    picture(work / "same" / "1.png", 5), picture(work / "same" / "2.png", 5)
    run(work, models, plan(work, entry(), entry(name="y", images="same")), clip=None)
    sheet = np.asarray(Image.open(work / "out" / "scores.png").convert("RGB"))
    from zsamb_core.scores.picture import CELL, HIGH

    full = (sheet == HIGH).all(-1)
    # Squares of cosine 1, less their numbers: the diagonal of three, and all four of the set that is alike.
    assert full.sum() > 0.75 * 7 * CELL * CELL
    assert full.any(1).sum() > 5 * CELL


def test_importing_it_is_light():
    code = (
        "import sys; sys.path[:0] = ['.']; import zsamb_core.cli; print([m for m in ('comfy',"
        " 'torch', 'numpy', 'transformers', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_demo_judges(work, monkeypatch, models):
    from demo import judges

    monkeypatch.setattr(judges, "load_dino", lambda: judges.make_dino().eval())
    monkeypatch.setattr(judges, "load_clip", lambda: judges.make_clip().eval())
    shown = [Image.open(work / "a.png"), Image.open(work / "plain" / "1.png")]
    dino = judges.demo_judge("dino")
    assert (dino.kind, dino.side, dino.tokenizer) == ("vit", 128, None)
    expected = np.stack([np.asarray(p.resize((128, 128), 3), np.float32) for p in shown]) / 127.5 - 1
    for way in ("published (squash)", "the model's own"):
        assert np.allclose(dino.prepared(shown, way).permute(0, 2, 3, 1), expected, atol=1e-6)
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    with pytest.raises(ValueError, match="(?s)COMFYUI_PATH is ''.*--clip demo.*Set COMFYUI_PATH"):
        judges.demo_judge("clip")
    words = {w: i for i, w in enumerate(WORDS[2:])} | {WORDS[0]: 49406, WORDS[1]: 49407}
    write_vocabulary(work / "host" / "comfy" / "sd1_tokenizer", words)
    judges.demo_judge("clip", work / "host" / "comfy" / "sd1_tokenizer")
    monkeypatch.setenv("COMFYUI_PATH", str(work / "host"))
    clip = judges.demo_judge("clip")
    ids = [[49406, 0, 1, 49407] + [49407] * 73, [49406] + [1] * 75 + [49407]]
    assert clip.tokenizer(["a cat", "cat " * 90]).tolist() == ids
    assert (clip.kind, clip.side) == ("clip", 64) and clip.embed_text(["a cat"]).shape == (1, 128)
    assert clip.embed(clip.prepared(shown, "the model's own")).shape == (2, 128)
    with pytest.raises(ValueError, match="no demo judge 'vit'"):
        judges.demo_judge("vit")


def test_demo_on_the_command_line(work, models, monkeypatch, capsys):
    from demo import judges

    (work / "weights").mkdir()
    monkeypatch.setattr(judges, "WEIGHTS", work / "weights")
    arguments = ["--images", work / "plain", "--out", work / "out"]
    assert score(*arguments, "--dino", "demo") == 2
    assert "no dino.safetensors: train it with python -m demo.training.train_" in capsys.readouterr().err
    from safetensors.torch import save_file

    state = {k: v.half().contiguous() for k, v in judges.make_dino().state_dict().items()}
    save_file(state, work / "weights" / "dino.safetensors")
    assert score(*arguments, "--dino", "demo") == 0
    scores = json.loads((work / "out" / "scores.json").read_text())
    assert scores["models"]["dino"]["name"] == "demo" and -1 <= scores["sets"][0]["consistency"] <= 1
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    (work / "p.txt").write_text("\n".join(PROMPTS))
    assert score(*arguments, "--dino", "demo", "--clip", "demo", "--prompts", work / "p.txt") == 2
    assert "COMFYUI_PATH is ''" in capsys.readouterr().err


def test_a_set_of_any_name_on_a_console_of_ascii(work, models, monkeypatch):
    (work / "plain").rename(work / "\u9ce5 caf\xe9")
    out = io.TextIOWrapper(io.BytesIO(), "ascii", newline="\n")
    monkeypatch.setattr("sys.stdout", out)
    scores = run(work, models, "--images", work / "\u9ce5 caf\xe9", clip=None)
    assert scores["sets"][0]["name"] == "\u9ce5 caf\xe9"
    out.flush()
    assert b"\\u9ce5 caf\\xe9" in out.buffer.getvalue()


def test_weights_of_torch_s_format_are_judged_as_safetensors_are(work, models):
    """As Load Vision Model takes them: older models have pytorch_model.bin alone."""
    from safetensors.torch import load_file

    images = ["--images", work / "plain", "--prompts", work / "p.txt"]
    (work / "p.txt").write_text("\n".join(PROMPTS))
    for name in ("vit", "clip"):
        shutil.copytree(models / name, work / name)
        torch.save(load_file(work / name / "model.safetensors"), work / name / "pytorch_model.bin")
        (work / name / "model.safetensors").unlink()
    safe, binary = run(work, models, *images, out="safe"), run(work, work, *images, out="bin")
    assert binary["sets"] == safe["sets"] and safe["sets"][0]["clip"] is not None
    # Other weights are another judge, whose embeddings are not taken for this one's.
    state = torch.load(work / "vit" / "pytorch_model.bin", weights_only=True)
    torch.save({key: value * 1.5 for key, value in state.items()}, work / "vit" / "pytorch_model.bin")
    changed = run(work, work, *images, out="bin")
    assert changed["models"]["dino"]["sha256"] != binary["models"]["dino"]["sha256"]
    assert changed["sets"][0]["consistency"] != binary["sets"][0]["consistency"]


def test_a_demo_that_is_not_there_is_said(work, monkeypatch, capsys):
    """As after an installation, which has no demo; one of the folder at hand is another."""
    from zsamb_core.scores import embeddings

    (work / "demo").mkdir()
    (work / "demo" / "judges.py").write_text("raise RuntimeError")
    monkeypatch.chdir(work)
    monkeypatch.setattr(embeddings, "__file__", str(work / "site" / "zsamb_core" / "scores" / "x.py"))
    assert score("--images", work / "plain", "--dino", "demo", "--out", work / "out") == 2
    message = capsys.readouterr().err
    assert "--dino demo: the demo's models are not installed, they come with the repository" in message
    assert not (work / "out").exists()


def test_the_old_name_ends_as_it_did(work, models, capsys):
    """With 1 for a wrong input, and with argparse's 2 for unknown arguments."""
    arguments = ["--images", str(work / "plain"), "--out", str(work / "out")]
    assert evaluate.main(arguments) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("python -m tools.evaluate is now called zsamb score")
    assert lines[1].startswith("zsamb score: There is no judge: give --dino or --clip") and len(lines) == 2
    with pytest.raises(SystemExit) as stop:
        evaluate.main(["--no-such"])
    assert stop.value.code == 2
    assert evaluate.main([*arguments, "--dino", str(models / "vit")]) == 0
    new, old = run(work, models, "--images", work / "plain", clip=None, out="new"), work / "out"
    assert json.loads((old / "scores.json").read_text()) == new


def test_results_that_cannot_be_written_are_said(work, models, capsys):
    assert score("--images", work / "plain", "--dino", models / "vit", "--out", work / "a.png") == 1
    message = capsys.readouterr().err
    assert message.startswith("stopped: ") and "a.png" in message
