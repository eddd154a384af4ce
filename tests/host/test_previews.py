"""The host's previews show the whole set, one for each step, and what is drawn stays as it is."""

import numpy as np
import pytest
import torch
from PIL import Image

pytestmark = pytest.mark.host


@pytest.fixture
def shown(monkeypatch):
    """Sets the host's preview method; the previews that the host then sends, by its own hook."""
    import comfy.utils
    from comfy.cli_args import LatentPreviewMethod, args

    sent = []
    monkeypatch.setattr(
        comfy.utils, "PROGRESS_BAR_HOOK", lambda value, total, preview, node_id=None: sent.append(preview)
    )

    def method(name):
        monkeypatch.setattr(args, "preview_method", LatentPreviewMethod.from_string(name))
        sent.clear()
        return sent

    return method


def level(preview):
    kind, picture, size = preview
    assert kind == "JPEG" and size >= 512
    return np.asarray(picture)


def test_each_step_has_one_preview_of_all_pictures(demo, four, shown):
    """Each place of it is what the host shows of that picture."""
    from latent_preview import get_previewer

    seen = []
    model = demo.patched()
    model.set_model_sampler_post_cfg_function(lambda a: seen.append(a["denoised"].clone()) or a["denoised"])
    sent = shown("latent2rgb")
    demo.sample(model, four)
    assert len(sent) == demo.steps == len(seen)
    previewer = get_previewer(torch.device("cpu"), demo.model.model.latent_format)
    for preview, x0 in zip(sent, seen, strict=True):
        grid = level(preview)
        assert grid.shape == (8 + 1 + 8, 8 + 1 + 8, 3)
        for i in range(4):
            one = np.asarray(previewer.decode_latent_to_preview(x0[i : i + 1]))
            y, x = divmod(i, 2)
            assert np.array_equal(grid[9 * y : 9 * y + 8, 9 * x : 9 * x + 8], one)
    assert not np.array_equal(level(sent[-1])[:8, :8], level(sent[-1])[9:, 9:])


def test_the_drawn_set_is_the_same_with_previews_and_without(demo, four, shown):
    shown("none")
    without = demo.sample(demo.patched(), four)
    for method in ("latent2rgb", "auto"):
        shown(method)
        assert torch.equal(demo.sample(demo.patched(), four), without)


def test_off_means_off(demo, four, shown, pack, monkeypatch):
    def never(*_):
        raise AssertionError("a picture was made for a preview that nobody asked for")

    monkeypatch.setattr(pack.nodes._host.previews, "side_by_side", never)
    sent = shown("none")
    demo.sample(demo.patched(), four)
    assert sent and set(sent) == {None}


def test_a_model_without_the_patch_shows_the_first_picture(demo, four, shown):
    """The patch is on the clone alone: the same model beside it is the host's."""
    demo.patched()
    sent = shown("latent2rgb")
    demo.sample(demo.model, four)
    assert [level(preview).shape for preview in sent] == [(8, 8, 3)] * demo.steps


def test_one_picture_is_shown_as_ever(demo, reference, shown):
    sent = shown("latent2rgb")
    demo.sample(demo.patched(reference=reference), demo.encode("a cat"), batch=1)
    assert [level(preview).shape for preview in sent] == [(8, 8, 3)] * demo.steps


def test_the_denoised_output_of_other_samplers_is_untouched(demo, four, shown):
    """SamplerCustomAdvanced keeps what the callback is given, and shows the set."""
    import comfy.samplers
    from comfy_extras.nodes_custom_sampler import (
        CFGGuider,
        KSamplerSelect,
        RandomNoise,
        SamplerCustomAdvanced,
    )

    def draw(method):
        sent = shown(method)
        model = demo.patched()
        guider = CFGGuider.execute(model, four, demo.encode(""), 4.0)[0]
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 3)
        noise, sampler = RandomNoise.execute(5)[0], KSamplerSelect.execute("euler")[0]
        out = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, demo.empty()).result
        return [x["samples"] for x in out], list(sent)

    (on, denoised), sent = draw("latent2rgb")
    (off, denoised_off), _ = draw("none")
    assert torch.equal(on, off) and torch.equal(denoised, denoised_off) and denoised.shape == on.shape
    assert [level(preview).shape for preview in sent] == [(17, 17, 3)] * 3


def test_the_previewer_is_the_host_s_again_after_an_error(demo, pack):
    import latent_preview
    from comfy.cli_args import LatentPreviewMethod, args

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(args, "preview_method", LatentPreviewMethod.Latent2RGB)
        callback = latent_preview.prepare_callback(demo.model, 3)
    previews = pack.nodes._host.previews
    previewer = previews.previewer_of(callback)
    with pytest.raises(RuntimeError), previews.showing_all(previewer):
        assert "decode_latent_to_preview" in vars(previewer)
        raise RuntimeError
    assert "decode_latent_to_preview" not in vars(previewer)


def test_a_previewer_that_shows_in_its_own_way_is_left_alone(pack):
    """As a pack for videos does, which makes a film of a batch."""
    from latent_preview import LatentPreviewer

    class Film(LatentPreviewer):
        def decode_latent_to_preview_image(self, preview_format, x0):
            return None

    def with_one(previewer):
        def callback():
            return previewer

        return callback

    find = pack.nodes._host.previews.previewer_of
    stock = LatentPreviewer()
    assert find(with_one(Film())) is None and find(with_one(stock)) is stock
    assert find(None) is None and find(print) is None


@pytest.mark.parametrize(
    ("count", "size", "columns"),
    [(1, (8, 8), 1), (2, (8, 8), 2), (4, (8, 8), 2), (5, (8, 8), 3), (6, (16, 8), 2), (3, (8, 24), 3)],
)
def test_the_grid_is_about_square(pack, count, size, columns):
    pictures = [Image.new("RGB", size, (i + 1, 0, 0)) for i in range(count)]
    grid = np.asarray(pack.nodes._host.previews.side_by_side(pictures))
    w, h = size
    rows = -(-count // columns)
    assert grid.shape == (rows * (h + 1) - 1, columns * (w + 1) - 1, 3)
    for i in range(count):
        y, x = divmod(i, columns)
        assert (grid[y * (h + 1) : y * (h + 1) + h, x * (w + 1) : x * (w + 1) + w, 0] == i + 1).all()
