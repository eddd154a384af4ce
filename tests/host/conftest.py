"""The real ComfyUI in this process, the pack loaded the way it loads packs, and the embedded demo model."""

import os
from dataclasses import dataclass

import pytest
import torch

from demo.training.hosting import import_host
from demo.training.measure import load_pack
from tests.absent import given_back, take_away

if not os.environ.get("COMFYUI_PATH"):
    raise pytest.UsageError("the host tests need COMFYUI_PATH; run them with `python -m nox -s tests`")

import_host()
take_away()
with given_back():  # ComfyUI up to 0.36 imports them itself, and keeps them
    import comfy.sd  # noqa: F401
    import comfy_extras.nodes_audio  # noqa: F401


@pytest.fixture(scope="session")
def pack():
    return load_pack()


@pytest.fixture(autouse=True)
def inference():
    """The host runs every node so."""
    with torch.inference_mode():
        yield


@pytest.fixture(scope="session")
def context_models(pack, tiny):
    """A tiny model of each kind: caption, speech, music, summary."""
    host = pack.nodes._host.context.models
    kinds = {"caption": "blip", "speech": "whisper", "music": "clap", "summary": "t5"}
    with torch.inference_mode():
        loaded = {name: getattr(host, name.upper()).load(tiny[kind]) for name, kind in kinds.items()}
        return {
            name: host.ContextModel(name, model, pack.nodes._host.memory.managed(model.model))
            for name, model in loaded.items()
        }


@pytest.fixture
def two_temperatures(pack, monkeypatch):
    """A random Whisper is never sure of itself, and would go through all six at every window."""
    monkeypatch.setattr(pack.zsamb_core.context.speech, "TEMPERATURES", (0.0, 0.4))


# Of a test's latents, where nothing hangs on what is in the picture: 64 px in place of the model's 128,
# which is a quarter of the work. Layers have 4 x 4 and 2 x 2 tokens then. And the fewest steps of which one
# is neither the first nor the last.
SIDE = 8
STEPS = 3


@dataclass
class Demo:
    """The demo model and the stock nodes' work on it."""

    model: object
    clip: object
    vae: object
    pack: object

    def encode(self, text):
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    steps = STEPS

    def empty(self, batch=4, size=SIDE):
        """The latent that `sample` starts from."""
        return {"samples": torch.zeros(batch, 4, size, size)}

    def prompts(self, *lines):
        return self.pack.nodes.prompts.PromptSet.execute(self.clip, "\n".join(lines), "").result[0]

    def patched(self, model=None, strength=1.0, shift=0.0, scale=1.0, reference=None, **settings):
        values = {
            "preset": "custom", "score_shift": shift, "score_scale": scale, "share": "reference",
            "blocks": "all", "only_self_level": 0.0, "start_percent": 0.0, "end_percent": 1.0,
            "share_group_norm": False, **settings,
        }  # fmt: skip
        node = self.pack.nodes.style_aligned.SharedAttention
        return node.execute(model or self.model, strength, reference=reference, **values).result[0]

    def adain(self, model=None, queries=True, keys=True, values=False, strength=1.0):
        node = self.pack.nodes.style_aligned.AdaINQueries
        return node.execute(model or self.model, queries, keys, values, strength).result[0]

    def invert(
        self,
        picture,
        prompt="a star",
        steps=4,
        cfg=1.0,
        model=None,
        scheduler="simple",
        refinements=0,
        latent=None,
    ):
        """STYLE_REFERENCE and the noised LATENT of a (1, H, W, 3) picture."""
        latent = {"samples": self.vae.encode(picture)} if latent is None else latent
        node = self.pack.nodes.references.DDIMInvert
        encoded = self.encode(prompt), self.encode("")
        return node.execute(model or self.model, latent, *encoded, steps, cfg, refinements, scheduler).result

    def weigh(self, reference, weight=1.0, others=None, mask=None, offset=0, shift=None, scale=None):
        """A reference's options; shift and scale both or none."""
        node = self.pack.nodes.references.WeighReference
        preset = "as the patch" if shift is None else "custom"
        values = {"weight": weight, "preset": preset, "score_shift": shift or 0.0, "offset": offset}
        values["score_scale"] = 1.0 if scale is None else scale
        return node.execute(**values, reference=reference, others=others, mask=mask).result[0]

    def sample(
        self,
        model,
        positive,
        negative=None,
        batch=4,
        seed=5,
        steps=STEPS,
        cfg=4.0,
        sampler="ddim",
        size=SIDE,
        scheduler="simple",
        latent=None,
        **settings,
    ):
        """Latents from the stock KSampler, (batch, 4, size, size)."""
        import nodes

        latent = self.empty(batch, size) if latent is None else latent
        negative = self.encode("") if negative is None else negative
        return nodes.common_ksampler(
            model, seed, steps, cfg, sampler, scheduler, positive, negative, latent, **settings
        )[0]["samples"]


@pytest.fixture(scope="session")
def demo(pack):
    return Demo(*pack.nodes.demo_model.LoadDemoModel.execute().result[:3], pack)


@pytest.fixture(scope="session")
def star(demo):
    """A reference: a star in a style that the model was never trained on, (1, 128, 128, 3)."""
    import numpy as np

    from demo.pictures import draw
    from demo.styles import HELD_OUT

    return torch.from_numpy(draw("star", HELD_OUT["lava"], np.random.default_rng(1)))[None].float()


@pytest.fixture(scope="session")
def reference(demo, star):
    with torch.inference_mode():
        return demo.invert(star)[0]


@pytest.fixture(scope="session")
def moon():
    """Another picture in another such style."""
    import numpy as np

    from demo.pictures import draw
    from demo.styles import HELD_OUT

    return torch.from_numpy(draw("moon", HELD_OUT["arctic"], np.random.default_rng(2)))[None].float()


@pytest.fixture(scope="session")
def other(demo, moon):
    with torch.inference_mode():
        return demo.invert(moon, "a moon")[0]


PROMPTS = ("a cat", "a house", "a boat", "a flower")


@pytest.fixture(scope="session")
def four(demo):
    with torch.inference_mode():
        return demo.prompts(*PROMPTS)


@pytest.fixture(scope="session")
def stock(demo, four):
    """The set of four as the model draws it without the pack, drawn once, before what it is compared with."""
    with torch.inference_mode():
        return demo.sample(demo.model, four)
