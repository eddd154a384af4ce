"""What can be watched while a set is drawn, and afterwards: on a real server, with its cache."""

import asyncio
import io
import json
import uuid

import aiohttp
import numpy as np
import pytest
from PIL import Image

from tools.hosting.server import Server, ServerError
from zsamb_core.headless.client import Client

pytestmark = pytest.mark.live

STEPS = 3
PREVIEW = 1  # the host's number of the message


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": kind}}


def a_set(seed):
    """Four pictures of 128 px by SharedAttention Patch on the demo model, saved."""
    return {
        "1": node("ZSAMB_LoadDemoModel"),
        "2": node("ZSAMB_PromptSet", clip=["1", 1], prompts="a cat\na house\na boat\na cup", style=""),
        "3": node("CLIPTextEncode", clip=["1", 1], text=""),
        "4": node("EmptyLatentImage", width=128, height=128, batch_size=4),
        "5": node(
            "ZSAMB_SharedAttention", model=["1", 0], strength=1.0, preset="none", score_shift=0.0,
            score_scale=1.0, share="reference", blocks="all", only_self_level=0.0, start_percent=0.0,
            end_percent=1.0, share_group_norm=False,
        ),
        "6": node(
            "KSampler", model=["5", 0], positive=["2", 0], negative=["3", 0], latent_image=["4", 0],
            seed=seed, steps=STEPS, cfg=4.0, sampler_name="ddim", scheduler="simple", denoise=1.0,
        ),
        "7": node("VAEDecode", samples=["6", 0], vae=["1", 2]),
        "8": node("SaveImage", images=["7", 0], filename_prefix="watched"),
    }  # fmt: skip


def with_attention_picture(workflow, blocks):
    """The sheet is saved in place of the set."""
    workflow["9"] = node("ZSAMB_RecordAttention", model=["5", 0])
    workflow["6"]["inputs"]["model"] = ["9", 0]
    workflow["10"] = node(
        "ZSAMB_AttentionPicture", record=["9", 1], latent=["6", 0], images=["7", 0], blocks=blocks, size=64,
        start_percent=0.0, end_percent=1.0,
    )  # fmt: skip
    workflow["8"]["inputs"]["images"] = ["10", 0]
    return workflow


async def watched(server, workflow, method):
    """Runs it as the page does, and returns the previews."""
    client = uuid.uuid4().hex
    body = {"prompt": workflow, "client_id": client, "extra_data": {"preview_method": method}}
    previews = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
    ):
        async with session.post(f"{server.url}/prompt", json=body) as answer:
            prompt = (await answer.json())["prompt_id"]
        async for message in socket:
            if message.type == aiohttp.WSMsgType.BINARY:
                assert int.from_bytes(message.data[:4], "big") == PREVIEW
                previews.append(Image.open(io.BytesIO(message.data[8:])))
            elif message.type == aiohttp.WSMsgType.TEXT:
                event = json.loads(message.data)
                if event["data"].get("prompt_id") == prompt and event["type"].startswith("execution_"):
                    assert event["type"] not in ("execution_error", "execution_interrupted"), event
                    if event["type"] == "execution_success":
                        return previews


def test_the_page_gets_one_preview_of_all_pictures_for_each_step(server):
    previews = asyncio.run(watched(server, a_set(11), "latent2rgb"))
    assert len(previews) == STEPS
    # Two by two of 16 latent pixels and one of gap, as large as the host shows previews.
    assert all(preview.size == (512, 512) for preview in previews)
    last = np.asarray(previews[-1].convert("RGB"), np.float32)
    middle, side = last[:, 254:258], last[:, 100:104]
    assert middle.mean() < 0.4 * side.mean()
    shown = server.run(a_set(11))  # from the cache
    assert asyncio.run(watched(server, a_set(12), "none")) == []
    again = server.run(a_set(12))
    assert len(shown) == len(again) == 4 and not np.array_equal(shown[0], again[0])


def test_a_set_without_the_patch_shows_its_first_picture(server):
    workflow = a_set(13)
    workflow["6"]["inputs"]["model"] = ["1", 0]
    (*_, last) = asyncio.run(watched(server, workflow, "latent2rgb"))
    last = np.asarray(last.convert("RGB"), np.float32)
    assert last[:, 254:258].mean() > 0.5 * last[:, 100:104].mean()


def test_an_inversion_is_shown_and_not_saved(server):
    """The node's picture is a preview; what the run saves is what it saved without."""

    def inverted(**more):
        workflow = a_set(14)
        workflow["20"] = node("VAEEncode", pixels=["1", 4], vae=["1", 2])
        workflow["21"] = node(
            "ZSAMB_DDIMInvert", model=["1", 0], latent=["20", 0], positive=["2", 0], negative=["3", 0],
            steps=STEPS, cfg=1.0, refinements=0, scheduler="simple", **more,
        )  # fmt: skip
        workflow["5"]["inputs"]["reference"] = ["21", 0]
        return workflow

    async def outputs(workflow):
        async with Client(server.url) as client:
            return (await client.run(workflow)).outputs

    plain = server.run(inverted())
    with_vae = inverted(vae=["1", 2])
    files = asyncio.run(outputs(with_vae))
    assert [(f.node, f.kind) for f in files if f.type == "temp"] == [("21", "images")]
    assert [f.node for f in files if f.type == "output"] == ["8"] * 4
    drawn = server.run(with_vae)
    assert len(plain) == len(drawn) == 4
    assert all(np.array_equal(a, b) for a, b in zip(plain, drawn, strict=True))


def sampled(server, workflow):
    """The sheet, and whether the sampler drew: False where its result came from the cache."""
    seen = set()
    (sheet,) = server.run(workflow, lambda kind, done, total: seen.add(kind))
    return sheet, "KSampler" in seen


def test_an_attention_picture_is_of_the_run_that_it_is_shown_for(server):
    """Run twice, with other rows, after a change upstream, and back."""
    first, drew = sampled(server, with_attention_picture(a_set(21), "all"))
    assert drew and first.std() > 0.05
    again, drew = sampled(server, with_attention_picture(a_set(21), "all"))
    assert not drew and np.array_equal(first, again)
    fewer, drew = sampled(server, with_attention_picture(a_set(21), "input 4"))
    assert not drew and fewer.shape[0] < first.shape[0]
    other, drew = sampled(server, with_attention_picture(a_set(22), "all"))
    assert drew and other.shape == first.shape and not np.array_equal(first, other)
    prompts = with_attention_picture(a_set(22), "all")
    prompts["2"]["inputs"]["prompts"] = "a moon\na house\na boat\na cup"
    assert not np.array_equal(sampled(server, prompts)[0], other)
    back, drew = sampled(server, with_attention_picture(a_set(21), "all"))
    assert drew and np.array_equal(first, back)


def test_the_set_is_the_same_with_a_recorder(server):
    workflow = with_attention_picture(a_set(23), "all")
    workflow["8"]["inputs"]["images"] = ["7", 0]
    recorded, plain = server.run(workflow), server.run(a_set(23))
    assert all(np.array_equal(a, b) for a, b in zip(recorded[-4:], plain, strict=True))


def test_a_recorder_that_the_sampler_does_not_use_is_named(server):
    workflow = with_attention_picture(a_set(24), "all")
    workflow["6"]["inputs"]["model"] = ["5", 0]
    with pytest.raises(ServerError, match="Attention Picture: nothing was recorded yet"):
        server.run(workflow)


def test_a_cache_of_many_runs_shows_each_its_own(tmp_path):
    """There the sampler's older results come back, though its model drew others since."""
    from tools.hosting.host import find_host

    with Server(find_host(), tmp_path, options=("--cache-lru", "50")) as server:
        first, _ = sampled(server, with_attention_picture(a_set(31), "input 4"))
        sampled(server, with_attention_picture(a_set(32), "input 4"))
        wider, drew = sampled(server, with_attention_picture(a_set(31), "input 4, output 5"))
        assert not drew and wider.shape[0] > first.shape[0]
        # Pictures and their first row for input 4 are the first run's: the scale's range alone may differ.
        alone = with_attention_picture(a_set(31), "input 4")
        alone["10"]["inputs"]["size"] = 65
        larger, drew = sampled(server, alone)
        assert not drew
        alone["6"]["inputs"]["seed"] = 32
        other, drew = sampled(server, alone)
        assert not drew and not np.array_equal(larger, other)
        alone["10"]["inputs"]["size"] = 64
        alone["6"]["inputs"]["seed"] = 31
        again, drew = sampled(server, alone)
        assert not drew and np.array_equal(first, again)
