"""The pack in a real server: it loads quietly, its pages are served, its errors arrive."""

import json
import re
import subprocess
import sys
import urllib.request

import numpy as np
import pytest

from tools.derive.titles import title_of
from tools.hosting import workflows
from tools.hosting.server import ServerError

pytestmark = pytest.mark.live

IN_WORKFLOWS = {
    "ZSAMB_LoadDemoModel",
    "ZSAMB_BlockWeights",
    "ZSAMB_SharedAttention",
    "ZSAMB_DDIMInvert",
    "ZSAMB_StyleReference",
    "ZSAMB_PromptSet",
    "ZSAMB_MultiRefBlend",
    "ZSAMB_LoadVisionModel",
    "ZSAMB_DINOStyleScore",
    "ZSAMB_CLIPScore",
    "ZSAMB_LoadCaptionModel",
    "ZSAMB_LoadSpeechModel",
    "ZSAMB_LoadMusicModel",
    "ZSAMB_CaptionImage",
    "ZSAMB_TranscribeSpeech",
    "ZSAMB_DescribeMusic",
    "ZSAMB_DescribeWeather",
    "ZSAMB_ContextToPrompt",
    "ZSAMB_LoadIPAdapter",
    "ZSAMB_StyleBlockIPAdapter",
    "ZSAMB_SaveStyleReference",
    "ZSAMB_LoadStyleReference",
    "ZSAMB_ConditioningSet",
    "ZSAMB_LoadIPAdapterAndEncoder",
    "ZSAMB_ContactSheet",
    "ZSAMB_RecordAttention",
    "ZSAMB_AttentionPicture",
}
# AdaIN Queries refines what SharedAttention does, the next two make references in place of DDIM Invert, T5 is
# the other fusion, the next refine InstantStyle, and the last is for parts of a batch on a stock model.
BESIDE_THEM = {
    "ZSAMB_AdaINQueries",
    "ZSAMB_NoiseReference",
    "ZSAMB_RecordReference",
    "ZSAMB_LoadSummaryModel",
    "ZSAMB_EncodeStyleImages",
    "ZSAMB_SubtractContent",
    "ZSAMB_SaveStyleEmbeds",
    "ZSAMB_LoadStyleEmbeds",
    "ZSAMB_SaveStyleAdapter",
    "ZSAMB_PromptSetPart",
}
NODES = IN_WORKFLOWS | BESIDE_THEM
WORKFLOWS = sorted(p.stem for p in workflows.FOLDER.glob("*.json"))


@pytest.fixture(scope="module")
def object_info(server):
    return server.get("/object_info")


@pytest.fixture
def reference(stand_ins):
    """The pictures that the workflows load."""


def quick(name):
    """A shipped workflow on the demo model, with few steps."""
    return workflows.with_steps(workflows.demo_twin(workflows.load(name)), 3)


def test_the_pack_loads_without_a_word(server):
    log, started, _ = server.log.read_text().partition("Starting server")
    assert started and "Import times for custom nodes" in log
    assert [
        line
        for line in log.splitlines()
        if re.search("zsamb", line, re.I) and not re.search(r"seconds: .*custom_nodes.zsamb$", line.strip())
    ] == []


def test_every_node_is_there_with_texts(object_info):
    assert {n for n in object_info if n.startswith("ZSAMB_")} == NODES
    for name in NODES:
        info = object_info[name]
        assert info["display_name"] and info["description"] and info["search_aliases"], name
        for group in ("required", "optional"):
            for key, (_, options) in info["input"].get(group, {}).items():
                assert options.get("tooltip"), f"{name}.{key}"


def test_every_node_is_in_a_workflow_or_is_its_alternative():
    used = {node["class_type"] for name in WORKFLOWS for node in workflows.load(name).values()}
    assert used & NODES == IN_WORKFLOWS and not IN_WORKFLOWS & BESIDE_THEM


@pytest.mark.parametrize("maker", ["ZSAMB_NoiseReference", "ZSAMB_RecordReference"])
def test_other_ways_to_a_reference_run(server, reference, maker):
    """In place of DDIM Invert, and another size than the pictures'."""
    workflow = quick("style_aligned_reference")
    inputs = workflow["13"]["inputs"]
    settings = {key: inputs[key] for key in ("model", "positive", "negative")}
    if maker == "ZSAMB_NoiseReference":
        settings |= {"latent": inputs["latent"], "seed": 1}
    else:
        sampler = {"steps": 3, "cfg": 4.0, "sampler_name": "dpmpp_2m", "scheduler": "karras", "denoise": 1.0}
        settings |= {"latent_image": ["99", 0], "seed": 1, **sampler}
    workflow["13"] = {"class_type": maker, "inputs": settings, "_meta": {"title": "Reference"}}
    workflow["99"] = {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 192, "height": 96, "batch_size": 1},
        "_meta": {"title": "Its size"},
    }
    pictures = server.run(workflow)
    assert len(pictures) == 4 and all(p.std() > 0.01 for p in pictures)


def test_a_reference_by_way_of_a_file_draws_the_same_pictures(server, reference):
    """Saved in one run, loaded in the next, where nothing is inverted; its small picture comes out too."""
    workflow = quick("style_aligned_reference")
    (loader,) = [key for key, node in workflow.items() if node["class_type"] == "LoadImage"]
    saving = {"reference": ["13", 0], "filename_prefix": "live/star", "picture": [loader, 0]}
    title = {"_meta": {"title": "Kept"}}
    workflow["90"] = {"class_type": "ZSAMB_SaveStyleReference", "inputs": saving, **title}
    direct = server.run(workflow)
    listed = server.get("/object_info/ZSAMB_LoadStyleReference")["ZSAMB_LoadStyleReference"]["input"]
    kind, options = listed["required"]["file"]
    names = options["options"] if kind == "COMBO" else kind
    (name,) = [name for name in names if name.replace("\\", "/").startswith("live/")]
    assert name.endswith("star_00001_.safetensors")
    del workflow["90"]
    workflow["13"] = {"class_type": "ZSAMB_LoadStyleReference", "inputs": {"file": name}, **title}
    again = server.run(workflow)
    assert len(direct) == len(again) == 4
    assert all(np.array_equal(a, b) for a, b in zip(direct, again, strict=True))
    (save,) = [node for node in workflow.values() if node["class_type"] == "SaveImage"]
    save["inputs"]["images"] = ["13", 1]
    (picture,) = server.run(workflow)
    assert picture.shape[-1] == 3 and max(picture.shape) <= 256 and picture.std() > 0.05
    workflow["13"]["inputs"]["file"] = "nothing.safetensors"
    with pytest.raises(ServerError, match="(?s)file: 'nothing.safetensors' not in .*live.star_00001_"):
        server.run(workflow)


def test_a_blend_of_two_pictures_is_a_reference(server, reference):
    """Multi-Ref Blend with its growing inputs as the API has them, between the pictures and DDIM Invert."""
    workflow = quick("style_aligned_reference")
    (invert,) = [n for n in workflow.values() if n["class_type"] == "ZSAMB_DDIMInvert"]
    (loader,) = [k for k, n in workflow.items() if n["class_type"] == "LoadImage"]
    vae = next(n for n in workflow.values() if n["class_type"] == "VAEEncode")["inputs"]["vae"]
    workflow["90"] = {
        **workflow[loader],
        "inputs": {**workflow[loader]["inputs"], "image": "reference_2.png"},
    }

    def blended(weights):
        workflow["91"] = {
            "class_type": "ZSAMB_MultiRefBlend",
            "inputs": {
                "references.reference0": [loader, 0], "references.reference1": ["90", 0],
                "weights": weights, "method": "karcher", "fit": "crop", "vae": vae,
            },
            "_meta": {"title": "Multi-Ref Blend"},
        }  # fmt: skip
        invert["inputs"]["latent"] = ["91", 0]
        return server.run(workflow)

    half, one = blended("0.5, 0.5"), blended("1, 0")
    assert len(half) == 4 and np.abs(half[1] - one[1]).mean() > 1 / 255
    stock = server.run(quick("style_aligned_reference"))
    assert max(np.abs(a - b).max() for a, b in zip(one, stock, strict=True)) <= 2 / 255
    with pytest.raises(ServerError, match="Multi-Ref Blend: there are 3 weights for 2 references"):
        blended("1, 2, 3")


def test_conditionings_of_other_nodes_draw_what_a_prompt_set_draws(server):
    """Conditioning Set with its growing inputs as the API has them, in place of Prompt Set."""
    workflow = quick("style_aligned_prompts")
    drawn = server.run(workflow)
    prompts = workflow.pop("2")["inputs"]
    for i, line in enumerate(prompts["prompts"].splitlines()):
        inputs = {"clip": prompts["clip"], "text": f"{line} {prompts['style']}"}
        workflow[f"9{i}"] = {"class_type": "CLIPTextEncode", "inputs": inputs, "_meta": {"title": line}}
    workflow["2"] = {
        "class_type": "ZSAMB_ConditioningSet",
        "inputs": {f"conditionings.conditioning{i}": [f"9{i}", 0] for i in range(4)},
        "_meta": {"title": "Conditioning Set"},
    }
    again = server.run(workflow)
    assert len(drawn) == len(again) == 4
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_one_loader_draws_what_two_draw(server, reference):
    workflow = quick("instantstyle")
    drawn = server.run(workflow)
    workflow["8"]["class_type"] = "ZSAMB_LoadIPAdapterAndEncoder"
    workflow["11"]["inputs"]["clip_vision"] = ["8", 1]
    again = server.run(workflow)
    assert len(drawn) == len(again) == 4
    assert all(np.array_equal(a, b) for a, b in zip(drawn, again, strict=True))


def test_a_set_is_scored(server, reference):
    """The score nodes behind a sampler, with the demo's judges; their pictures are saved."""
    workflow = quick("style_aligned_reference")
    (decode,) = [k for k, n in workflow.items() if n["class_type"] == "VAEDecode"]
    (save,) = [n for n in workflow.values() if n["class_type"] == "SaveImage"]
    (loader,) = [k for k, n in workflow.items() if n["class_type"] == "LoadImage"]
    how = {"preprocessing": "published (squash)"}
    for key, name in (("92", "demo DINO"), ("93", "demo CLIP")):
        workflow[key] = {
            "class_type": "ZSAMB_LoadVisionModel", "inputs": {"name": name}, "_meta": {"title": name}
        }  # fmt: skip
    workflow["94"] = {
        "class_type": "ZSAMB_DINOStyleScore",
        "inputs": {
            "vision_model": ["92", 0], "images": [decode, 0], "references.reference0": [loader, 0],
            "weights": "1", "baseline": [decode, 0], **how,
        },
        "_meta": {"title": "DINO"},
    }  # fmt: skip
    workflow["95"] = {
        "class_type": "ZSAMB_CLIPScore",
        "inputs": {"vision_model": ["93", 0], "images": [decode, 0], "prompts": "a cat", **how},
        "_meta": {"title": "CLIP"},
    }
    for key, slot in (("94", 3), ("95", 2)):
        save["inputs"]["images"] = [key, slot]
        (picture,) = server.run(workflow)
        assert picture.shape[-1] == 3 and picture.std() > 0.05
    workflow["96"] = {
        "class_type": "ZSAMB_ContactSheet",
        "inputs": {
            "images.row0": [loader, 0], "images.row1": [decode, 0], "scores.score1": ["95", 1],
            "row_labels": "reference\naligned", "column_labels": "", "size": 0, "gap": 8,
        },
        "_meta": {"title": "Contact Sheet"},
    }  # fmt: skip
    save["inputs"]["images"] = [decode, 0]
    drawn = server.run(workflow)[:4]
    save["inputs"]["images"] = ["96", 0]
    sheet = server.run(workflow)[0]
    assert sheet.shape[1] > 4 * (drawn[0].shape[1] + 8)
    assert any(
        np.array_equal(sheet[y : y + drawn[0].shape[0], -drawn[3].shape[1] - 8 : -8], drawn[3])
        for y in range(sheet.shape[0] - drawn[3].shape[0])
    )


def test_strength_changes_the_pictures_and_0_does_not_touch_the_first(server):
    aligned, stock = (
        server.run(workflows.fill(quick("style_aligned_prompts"), style="", strength=s)) for s in (1.0, 0.0)
    )
    assert np.abs(aligned[0] - stock[0]).max() <= 2 / 255
    assert max(np.abs(a - b).mean() for a, b in zip(aligned[1:], stock[1:], strict=True)) > 0.003


def test_errors_reach_the_caller(server, reference):
    with pytest.raises(ServerError, match="blocks: 'output 9' names no block of this model"):
        server.run(workflows.fill(quick("style_aligned_prompts"), blocks="output 9"))
    nothing = workflows.fill(quick("style_aligned_two_references"), weight=0.0)
    with pytest.raises(ServerError, match="2 references all have weight 0"):
        server.run(nothing)
    with pytest.raises(ServerError, match="prompts input is empty"):
        server.run(workflows.fill(quick("style_aligned_prompts"), prompts="  "))
    with pytest.raises(ServerError, match="bigger than max of 1.0 strength"):
        server.run(workflows.fill(quick("style_aligned_prompts"), strength=7))


def test_the_template_browser_lists_the_workflows(server):
    listed = server.get("/workflow_templates")
    assert sorted(listed["zsamb"]) == sorted(map(title_of, WORKFLOWS))


def test_the_model_files_are_offered(server):
    """Every file that a loader names stands in properties.models, with a folder that the host has."""
    folders = {entry["name"] for entry in server.get("/experiment/models")} | {"geometry_estimation"}
    named = set()
    for name in WORKFLOWS:
        for node in json.loads((workflows.FOLDER.parent / f"{title_of(name)}.json").read_text())["nodes"]:
            files = [
                v for v in node.get("widgets_values", []) if isinstance(v, str) and v.endswith(".safetensors")
            ]
            offered = {model["name"]: model for model in node["properties"].get("models", [])}
            assert set(offered) == set(files), (name, node["type"])
            for file, model in offered.items():
                assert model["directory"] in folders and model["url"].endswith(f"/{file}")
                named.add(file)
    assert "sd_xl_base_1.0.safetensors" in named


def fetch(server, path):
    """(body, content type) of what is served."""
    with urllib.request.urlopen(f"{server.url}{path}", timeout=30) as answer:
        return answer.read(), answer.headers["Content-Type"]


def test_help_pages_are_served(server, object_info):
    """For every node the page that the front end asks for, with its inputs named."""
    for kind in NODES:
        info = object_info[kind]
        text = fetch(server, f"/extensions/zsamb/docs/{kind}.md")[0].decode()
        assert text.startswith(f"# {info['display_name']}\n"), kind
        assert f"(pictures/{kind}.png)" in text, kind
        assert fetch(server, f"/extensions/zsamb/docs/pictures/{kind}.png")[1] == "image/png", kind
        for group in ("required", "optional"):
            for name in info["input"].get(group, {}):
                assert name in text, f"{kind}: {name}"


def test_a_copy_of_the_pack_passes_the_host_s_own_check(tmp_path, monkeypatch):
    """Not a link but a copy in custom_nodes, and the host's import check for CI."""
    import os

    from tools.hosting import server as server_module
    from tools.hosting.host import find_host

    def refuse(*_, **__):
        raise OSError("no links here")

    (tmp_path / "custom_nodes").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(os, "symlink", refuse)
        server_module.link_pack(tmp_path / "custom_nodes")
    assert not (tmp_path / "custom_nodes" / "zsamb").is_symlink()
    command = [
        sys.executable,
        str(find_host() / "main.py"),
        "--quick-test-for-ci",
        "--base-directory",
        str(tmp_path),
        "--database-url",
        "sqlite:///:memory:",
        "--disable-api-nodes",
        *server_module.device_args(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0
    assert re.search(r"seconds: .*custom_nodes.zsamb", output)
    assert "IMPORT FAILED" not in output and "Traceback" not in output


def test_importing_the_pack_adds_nothing_heavy():
    """After the host's own imports, only the pack's own modules are new."""
    from tools.hosting.host import find_host

    root = workflows.FOLDER.parents[1]
    code = f"""
import importlib.util, sys
sys.path.insert(0, {str(find_host())!r})
from comfy.cli_args import args
args.cpu = True
import nodes, comfy.samplers, comfy_api.latest, comfy.sd
before = set(sys.modules)
spec = importlib.util.spec_from_file_location(
    'pack', {str(root / "__init__.py")!r}, submodule_search_locations=[{str(root)!r}])
sys.modules['pack'] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
print(sorted(m for m in set(sys.modules) - before if m.split('.')[0] != 'pack'))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
