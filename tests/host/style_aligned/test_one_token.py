"""Pictures so small that a layer sees one token of them: references, targets, areas, tiles and masks. One
token has no spread, and every picture is drawn all the same.
"""

import pytest
import torch

pytestmark = pytest.mark.host
ONE = {"steps": 1, "batch": 2}
SETTINGS = [
    {},
    {"shift": 0.7, "strength": 0.5, "share_group_norm": True},
    {"share": "all pictures"},
]


@pytest.fixture(scope="module")
def pair(demo):
    with torch.inference_mode():
        return demo.prompts("a cat", "a house")


def small_reference(demo, star, h, w):
    """A reference of ``h`` by ``w`` latents, 8 pixels each: up to 4 by 4 the deepest layers see one token."""
    latent = {"samples": demo.vae.encode(star)[..., :h, :w].contiguous()}
    node = demo.pack.nodes.references.NoiseReference
    return node.execute(demo.model, latent, demo.encode("a star"), demo.encode(""), 3).result[0]


def drawn(demo, pair, model, **settings):
    out = demo.sample(model, pair, **{**ONE, **settings})
    assert out.isfinite().all()
    return out


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [(1, 1), (4, 4)])
def test_a_reference_of_one_token(demo, pair, star, size, settings):
    stock = demo.sample(demo.model, pair, **ONE)
    reference = small_reference(demo, star, *size)
    model = demo.adain(demo.patched(reference=reference, **settings), values=True)
    assert not torch.equal(drawn(demo, pair, model), stock)


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("size", [1, 4])
def test_pictures_of_one_token(demo, pair, reference, size, settings):
    for ref in (None, reference):
        model = demo.adain(demo.patched(reference=ref, **settings), values=True)
        drawn(demo, pair, model, size=size)


def test_a_mask_of_one_token(demo, pair, star, reference):
    mask = torch.zeros(1, 16, 16)
    mask[:, :4, :4] = 1
    one = demo.weigh(
        small_reference(demo, star, 4, 4), mask=mask, others=demo.weigh(reference, mask=1 - mask)
    )
    model = demo.adain(demo.patched(reference=one, share_group_norm=True), values=True)
    drawn(demo, pair, model)


@pytest.mark.parametrize("mode", ["prompts only", "reference"])
def test_an_area_and_tiles_of_one_token(demo, reference, pair, mode):
    """An area prompt of 8 pixels, and HyperTile, which cuts queries into tiles."""
    from comfy_extras.nodes_hypertile import HyperTile

    import nodes

    model = demo.adain(demo.patched(reference=reference if mode == "reference" else None), values=True)
    (area,) = nodes.ConditioningSetArea().append(demo.encode("a boat"), 8, 8, 0, 0, 1.0)
    assert demo.sample(model, pair + area, **ONE).isfinite().all()
    (tiled,) = HyperTile().execute(model, 32, 2, 2, True)[:1]
    drawn(demo, pair, tiled)
