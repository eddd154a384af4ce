"""InstantStyle in a real server: the recipe of InstantStyle-Plus (arXiv 2407.00788) from our nodes and stock
ones, on the demo model with small random stand-ins for adapter, encoded pictures and ControlNet.
"""

import copy

import numpy as np
import pytest
import torch

from tools.hosting import workflows
from tools.hosting.server import ServerError
from zsamb_core.instantstyle.style_embeds import Encoder, StyleEmbeds, save_embeds

pytestmark = pytest.mark.live

GRAPH = workflows.load("instantstyle_plus")
ADAPTER = "ip-adapter_sdxl_vit-h.safetensors"
FEATURES, HIDDEN = 128, 80


@pytest.fixture(scope="module")
def files(server, stand_ins):
    """Encoded pictures in files too, where the server looks for them."""
    models = server.base / "models"
    (models / "style_embeds").mkdir(parents=True, exist_ok=True)
    for seed, name in enumerate(("content", "style")):
        generator = torch.Generator().manual_seed(seed)
        embeds = StyleEmbeds(
            Encoder(HIDDEN, FEATURES),
            torch.randn(1, FEATURES, generator=generator),
            torch.randn(1, 5, HIDDEN, generator=generator),
            torch.randn(5, HIDDEN, generator=generator),
            (1.0,),
        )
        save_embeds(embeds, models / "style_embeds" / f"{name}.safetensors")


def twin(steps=3, **settings):
    """The graph on the demo model: encoded pictures from files in place of CLIP Vision, and an adapter of
    random weights, in which every block acts.
    """
    graph = workflows.fill(workflows.demo_twin(GRAPH), steps=steps)
    graph["8"]["inputs"]["file"] = ADAPTER
    del graph["9"]
    for number, (loader, name) in {"10": ("17", "content"), "11": ("18", "style")}.items():
        graph[loader] = {
            "class_type": "ZSAMB_LoadStyleEmbeds",
            "inputs": {"file": f"{name}.safetensors"},
            "_meta": {"title": f"Encoded {name} picture"},
        }
        inputs = graph[number]["inputs"]
        del inputs["clip_vision"]
        inputs["image"] = [loader, 0]
    return workflows.set_titled(graph, "Style in the style block", **settings) if settings else graph


def test_the_graph_names_only_nodes_and_inputs_that_exist(server):
    info = server.get("/object_info")
    for node in GRAPH.values():
        known = info[node["class_type"]]["input"]
        required, optional = (set(known.get(group, {})) for group in ("required", "optional"))
        assert required <= set(node["inputs"]) <= required | optional, node["class_type"]
        for key, value in node["inputs"].items():
            if isinstance(value, list):
                made = info[GRAPH[value[0]]["class_type"]]["output"][value[1]]
                wanted = {**known.get("required", {}), **known.get("optional", {})}[key][0]
                assert made in wanted.split(","), key


def test_the_two_adapter_recipe_draws(server, files):
    """And every part of it counts: style, content image and ControlNet."""
    (picture,) = server.run(twin())
    assert picture.shape == (128, 128, 3) and picture.std() > 0.01
    others = {
        "style": twin(weight=0.0),
        "content": workflows.set_titled(twin(), "Content, weak, in all blocks", weight=0.0),
        "ControlNet": workflows.set_titled(twin(), "Hold the content's structure", strength=0.0),
    }
    for name, graph in others.items():
        (other,) = server.run(graph)
        assert np.abs(other - picture).mean() > 0.5 / 255, name


def test_a_slim_adapter_saved_by_the_node_draws_the_same(server, files):
    """Saved to output/ipadapter, found again under its new name, a fraction of the size."""
    graph = {
        "1": {"class_type": "ZSAMB_LoadDemoModel", "inputs": {}, "_meta": {"title": "Demo"}},
        "8": copy.deepcopy(GRAPH["8"]),
        "9": {
            "class_type": "ZSAMB_SaveStyleAdapter",
            "inputs": {
                "adapter": ["8", 0],
                "model": ["1", 0],
                "preset": "style",
                "padded": False,
                "filename_prefix": "slim",
            },
            "_meta": {"title": "Save"},
        },
    }
    server.run(graph)
    saved = server.base / "output" / "ipadapter" / "slim_00001_.safetensors"
    whole = server.base / "models" / "ipadapter" / ADAPTER
    assert saved.stat().st_size < 0.5 * whole.stat().st_size
    slim = twin()
    slim["19"] = {
        "class_type": "ZSAMB_LoadIPAdapter",
        "inputs": {"file": saved.name},
        "_meta": {"title": "Load the slim one"},
    }
    slim["11"]["inputs"]["adapter"] = ["19", 0]
    (a,), (b,) = server.run(twin()), server.run(slim)
    assert np.array_equal(a, b)
    slim["10"]["inputs"]["adapter"] = ["19", 0]
    with pytest.raises(ServerError, match="slim_00001_.safetensors has nothing for input 4"):
        server.run(slim)


def test_errors_reach_the_caller(server, files):
    (server.base / "models" / "ipadapter" / "broken.safetensors").write_bytes(b"no adapter")
    graph = twin()
    graph["8"]["inputs"]["file"] = "broken.safetensors"
    with pytest.raises(
        ServerError, match="Load IP-Adapter: broken.safetensors cannot be read as safetensors"
    ):
        server.run(graph)
    graph["8"]["inputs"]["file"] = "absent.safetensors"
    with pytest.raises(ServerError, match="absent.safetensors"):
        server.run(graph)
    with pytest.raises(ServerError, match="start_percent is 1 and end_percent 1"):
        server.run(twin(start_percent=1.0))
