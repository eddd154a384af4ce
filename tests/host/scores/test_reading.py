"""A prompt's words, and picture files, against the host's own reading."""

import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from zsamb_core.pictures import read_picture
from zsamb_core.prompts import plain_words

pytestmark = pytest.mark.host


@settings(max_examples=500, deadline=None)
@given(st.text("(())\\:ab 1.", max_size=16))
@example("(a moon:1.3), \\(a star\\), ((b:.5) c:2)")
@example(" ( a\\:1))")
def test_the_words_are_those_that_the_host_encodes(prompt):
    from comfy.sd1_clip import escape_important, token_weights, unescape_important

    parts = token_weights(escape_important(prompt), 1.0)
    assert plain_words(prompt) == " ".join("".join(unescape_important(part) for part, _ in parts).split())


def test_words():
    assert plain_words("(a moon:1.3)") == plain_words("((a) moon)") == plain_words("a moon") == "a moon"
    assert plain_words("a \\(blue\\) moon") == "a (blue) moon"
    assert plain_words("a moon, embedding:bad hands embedding:x.pt:1.2") == "a moon, hands"
    assert plain_words("a ratio of 2:1") == "a ratio of 2:1"
    assert plain_words("(embedding:x:1.1)") == ""


@pytest.mark.parametrize(
    ("name", "mode"),
    [("a.png", m) for m in ("RGB", "RGBA", "L", "LA", "P", "1", "I;16")]
    + [("a.jpg", "RGB"), ("a.jpg", "L"), ("turned.png", "RGB"), ("turned.jpg", "RGB"), ("a.webp", "RGB")],
)
def test_a_file_is_read_as_load_image_reads_it(pack, tmp_path, monkeypatch, name, mode):
    import folder_paths

    import nodes

    monkeypatch.setattr(folder_paths, "get_annotated_filepath", lambda file: str(tmp_path / file))
    rng = np.random.default_rng(1)
    levels = np.kron(rng.integers(0, 256, (4, 6, 4)), np.ones((8, 8, 1))).astype(np.uint8)
    picture = Image.fromarray(levels)
    if mode == "I;16":
        picture = Image.fromarray(levels[..., 0].astype(np.uint16) * 257)
    else:
        picture = picture.convert("RGB").convert(mode) if mode in ("1", "P") else picture.convert(mode)
    exif = Image.Exif()
    exif[274] = 6
    how = {"exif": exif} if name.startswith("turned") else {}
    how |= {"quality": 95, "subsampling": 0} if name.endswith(".jpg") else {}
    picture.save(tmp_path / name, **how, **({"lossless": True} if name.endswith(".webp") else {}))
    theirs = nodes.LoadImage().load_image(name)[0][0].float().numpy()
    ours = np.asarray(read_picture(tmp_path / name), np.float32) / 255
    assert ours.shape == theirs.shape
    # The host's decoder of grey and of WebP goes by floats, up to a level and a half from the file's.
    assert np.abs(ours - theirs).max() * 255 < (1.6 if re.search("L|1|16|webp", mode + name) else 0.01)
