"""The helpers: finding the host, filling workflows, the picture source's promises."""

import json
from dataclasses import replace

import numpy as np
import pytest

from demo.objects import OBJECTS
from demo.pictures import draw
from demo.styles import HELD_OUT, STYLES, random_style, too_close
from demo.training.descriptor import consistency, descriptor
from tools.draw import roles
from tools.hosting import host, workflows


def test_comfyui_path_must_be_a_comfyui(monkeypatch, tmp_path):
    monkeypatch.setenv("COMFYUI_PATH", str(tmp_path))
    with pytest.raises(host.HostError, match="is not a ComfyUI: expected main.py"):
        host.find_host()


def test_a_version_without_a_known_hash_is_refused(monkeypatch):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.setenv("ZSAMB_COMFYUI", "0.1.0")
    with pytest.raises(host.HostError, match="ZSAMB_COMFYUI is '0.1.0', expected one of 0.24.1, .*0.30.0"):
        host.find_host()


def test_each_version_has_a_folder_of_its_own(monkeypatch, tmp_path):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("ZSAMB_COMFYUI", raising=False)
    monkeypatch.setattr(host, "CACHE", tmp_path)
    for version in host.RELEASES:
        (tmp_path / version / "comfy").mkdir(parents=True)
        (tmp_path / version / "comfy" / "model_patcher.py").touch()
        (tmp_path / version / "main.py").touch()
    assert host.find_host() == tmp_path / host.USUAL
    monkeypatch.setenv("ZSAMB_COMFYUI", host.OLDEST)
    assert host.find_host() == tmp_path / host.OLDEST


def test_the_oldest_comfyui_is_what_the_pack_asks_for():
    root = host.CACHE.parent
    assert next(iter(host.RELEASES)) == host.OLDEST
    assert f'requires-comfyui = ">={host.OLDEST}"' in (root / "pyproject.toml").read_text()
    assert f'OLDEST = "{host.OLDEST}"' in (root / "noxfile.py").read_text()


def test_a_download_with_another_hash_is_not_unpacked(monkeypatch, tmp_path):
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("ZSAMB_COMFYUI", raising=False)
    monkeypatch.setattr(host, "CACHE", tmp_path)
    monkeypatch.setitem(host.RELEASES, host.USUAL, ("2.6.0", "0" * 64))
    with pytest.raises(host.HostError, match="(?s)with SHA-256 000.*HASH"):
        host.find_host()
    assert list(tmp_path.iterdir()) == []


def test_no_download_is_a_clear_message(monkeypatch, tmp_path):
    def fail(command, **_):
        return host.subprocess.CompletedProcess(command, 1, "", "no network")

    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    monkeypatch.delenv("ZSAMB_COMFYUI", raising=False)
    monkeypatch.setattr(host, "CACHE", tmp_path)
    monkeypatch.setattr(host.subprocess, "run", fail)
    with pytest.raises(host.HostError, match="no network\n.*set COMFYUI_PATH"):
        host.find_host()


def test_the_demo_twin_differs_in_loader_sizes_and_known_styles_alone():
    for path in workflows.FOLDER.glob("*.json"):
        real = workflows.load(path.stem)
        twin = workflows.demo_twin(real)
        assert real == workflows.load(path.stem)
        for key, node in real.items():
            if node["class_type"] in ("CheckpointLoaderSimple", "CLIPVisionLoader"):
                assert twin[key]["class_type"] == "ZSAMB_LoadDemoModel"
            elif node["class_type"] == "ZSAMB_LoadIPAdapter":
                assert twin[key]["inputs"] == {"file": "demo IP-Adapter"}
            elif node["class_type"] == "ZSAMB_LoadVisionModel":
                assert twin[key]["inputs"]["name"] in ("demo DINO", "demo CLIP")
            else:
                changed = {k: v for k, v in node["inputs"].items() if twin[key]["inputs"][k] != v}
                for name, value in changed.items():
                    # The demo loader's fourth output stands in for Load CLIP Vision's first.
                    encoder = isinstance(value, list) and real[value[0]]["class_type"] == "CLIPVisionLoader"
                    known = (name, value, twin[key]["inputs"][name]) == ("style", "in woodcut style", "")
                    assert (
                        name in ("width", "height")
                        or known
                        or (encoder and twin[key]["inputs"][name] == [value[0], 3])
                    )


def test_a_demo_twin_has_no_style_words_that_its_model_knows():
    twins = {
        path.stem: workflows.demo_twin(workflows.load(path.stem)) for path in workflows.FOLDER.glob("*.json")
    }
    words = {
        name: [n["inputs"]["style"] for n in t.values() if "style" in n["inputs"]]
        for name, t in twins.items()
    }
    assert words["style_aligned_prompts"] == [""] and words["context_to_prompt"][-1] == ""
    assert words["style_aligned_famous"] == ["in the style of The Starry Night by Vincent van Gogh"]


def test_a_twin_is_printed(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["tools.hosting.workflows", "instantstyle"])
    workflows.main()
    assert json.loads(capsys.readouterr().out) == workflows.demo_twin(workflows.load("instantstyle"))


PROMPTS_ALONE = (
    "style_aligned_prompts",
    "style_aligned_canny",
    "style_aligned_depth",
    "context_to_prompt",
    "instantstyle_style_aligned",
    "score_sheet",
)


def inputs(workflow, class_type):
    return [node["inputs"] for node in workflow.values() if node["class_type"] == class_type]


def test_workflows_have_the_authors_settings():
    """Of the notebooks style_aligned_sdxl, _w_controlnet and _transfer_sdxl of google/style-aligned.
    Graphs on the demo model have the demo's own.
    """
    drawn_on = {path.stem: workflows.load(path.stem) for path in workflows.FOLDER.glob("*.json")}
    on_sdxl = {name: w for name, w in drawn_on.items() if not inputs(w, "ZSAMB_LoadDemoModel")}
    assert len(on_sdxl) == 15
    for name, workflow in on_sdxl.items():
        for patch in inputs(workflow, "ZSAMB_SharedAttention"):
            assert patch["preset"] == ("famous" if name == "style_aligned_famous" else "auto")
            assert ("reference" in patch) == (name not in PROMPTS_ALONE)
            if name in PROMPTS_ALONE:
                assert not patch["share_group_norm"]
    for name in PROMPTS_ALONE[:3]:
        (sampler,) = inputs(workflows.load(name), "KSampler")
        assert (sampler["steps"], sampler["cfg"]) == (50, 5.0)
    for name in PROMPTS_ALONE[1:3]:
        (control,) = inputs(workflows.load(name), "ControlNetApplyAdvanced")
        assert control["strength"] == 0.8
    for name in ("style_aligned_reference", "style_aligned_famous"):
        workflow = workflows.load(name)
        (sampler,), (invert,) = inputs(workflow, "KSampler"), inputs(workflow, "ZSAMB_DDIMInvert")
        assert (sampler["steps"], sampler["cfg"]) == (50, 10.0)
        assert (invert["steps"], invert["cfg"], invert["refinements"]) == (50, 2.0, 0)
        assert [r["offset"] for r in inputs(workflow, "ZSAMB_StyleReference")] == [5]
        (patch,) = inputs(workflow, "ZSAMB_SharedAttention")
        assert patch["share_group_norm"]
    clip = inputs(workflows.load("score_sheet"), "ZSAMB_CLIPScore")
    assert [judge["preprocessing"] for judge in clip] == 2 * ["the model's own"]


def test_few_steps_leave_no_offset():
    few = workflows.with_steps(workflows.load("style_aligned_reference"), 3)
    assert [r["offset"] for r in inputs(few, "ZSAMB_StyleReference")] == [0]
    assert inputs(few, "KSampler")[0]["steps"] == inputs(few, "ZSAMB_DDIMInvert")[0]["steps"] == 3


def test_filling_an_input_that_no_node_has_is_an_error():
    with pytest.raises(KeyError, match="no node of the workflow has an input 'sede'"):
        workflows.fill(workflows.load("style_aligned_prompts"), sede=1)


def test_there_are_enough_objects_and_styles():
    assert len(OBJECTS) >= 12 and len(STYLES) >= 12 and len(HELD_OUT) >= 4
    assert not set(STYLES) & set(HELD_OUT)


def test_random_styles_keep_away_from_the_held_out_ones():
    rng = np.random.default_rng(0)
    assert all(too_close(s) for s in HELD_OUT.values())
    assert not any(too_close(random_style(rng)) for _ in range(300))


@pytest.mark.parametrize("obj", list(OBJECTS))
def test_a_picture_holds_ground_and_figure(obj):
    style = STYLES["paper"]  # flat and without a line: two colors, and the details
    picture = draw(obj, style, np.random.default_rng(0))
    assert picture.shape == (128, 128, 3) and picture.min() >= 0 and picture.max() <= 1
    ground = np.abs(picture - np.asarray(style.ground)).sum(-1) < 1e-5
    figure = np.abs(picture - np.asarray(style.figure)).sum(-1) < 1e-5
    assert 0.3 < ground.mean() < 0.95 and 0.05 < figure.mean() < 0.6


def test_the_descriptor_sees_style_and_not_the_object():
    rng, same_style, same_object = np.random.default_rng(1), [], []
    for style, other in zip(STYLES.values(), reversed(STYLES.values()), strict=True):
        cat = descriptor(draw("cat", style, rng))
        same_style.append(cat @ descriptor(draw("house", style, rng)))
        same_object.append(cat @ descriptor(draw("cat", other, rng)))
    assert np.mean(same_style) > 0.85
    assert np.mean(same_object) < 0.25


def test_the_descriptor_s_parts_are_palette_and_texture():
    """Styles with the textures and lines of others: one part follows the colors, the other the rest."""
    keep = ("ground_texture", "figure_texture", "line", "line_width")
    styles = list(STYLES.values())
    near = {"palette": [], "texture": []}
    for i, style in enumerate(styles):
        other = styles[(i + 5) % len(styles)]
        both = replace(style, **{name: getattr(other, name) for name in keep})
        cat, *houses = (
            draw(obj, s, np.random.default_rng(i))
            for obj, s in (("cat", both), ("house", style), ("house", other))
        )
        for part, values in near.items():
            values.append([float(descriptor(cat, part) @ descriptor(house, part)) for house in houses])
    colors, texture = (np.mean(near[part], 0) for part in ("palette", "texture"))
    assert colors[0] > 0.95 and colors[1] < 0.1
    assert texture[1] > 0.8 and texture[0] < 0.4


def test_a_table_of_roles_has_means_and_standard_errors():
    values = {"none": [[0.0] * 5, [0.2] * 5], "style": [[1.0] * 5, [1.0] * 5]}
    lines = roles.table("adapter", values)
    assert lines[4].startswith("| none | 0.100 +- 0.100 |") and lines[5].startswith(
        "| style | 1.000 +- 0.000 |"
    )


def test_consistency_is_the_mean_over_pairs():
    rng = np.random.default_rng(2)
    pictures = [draw(o, random_style(rng), rng) for o in ("cat", "star", "car")]
    a, b, c = (descriptor(p) for p in pictures)
    assert consistency(pictures) == pytest.approx((a @ b + a @ c + b @ c) / 3)
