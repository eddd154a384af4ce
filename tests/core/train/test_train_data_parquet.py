"""Sets in Parquet, which need the package datasets; and what is said without it."""

import importlib
import sys
from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from tests.core.train.data_sets import encoded, pixels
from tests.lacking import lacking
from zsamb_core.packages import Lacking
from zsamb_train.data.loader import loader
from zsamb_train.data.source import open_source


@pytest.fixture
def datasets():
    if find_spec("datasets") is None:
        lacking("the extra train is not installed")
    return importlib.import_module("datasets")


def test_without_the_package_the_extra_is_named(tmp_path, monkeypatch):
    (tmp_path / "a.parquet").write_bytes(b"")
    monkeypatch.setattr("zsamb_core.packages.find_spec", lambda name: None)
    with pytest.raises(Lacking, match=r'has no datasets. Install them: pip install "z-samb\[train\]"'):
        open_source(tmp_path)
    assert "pyarrow" not in sys.modules or "datasets" in sys.modules


def test_rows_of_bytes(tmp_path, datasets):
    columns = {
        "image": [encoded(0), b"broken", encoded(2), None, encoded(4)],
        "text": ["picture 0", "x", "picture 2", "y", None], "style": ["oil", "oil", "ink", "ink", None],
    }  # fmt: skip
    datasets.Dataset.from_dict(columns).to_parquet(tmp_path / "set" / "a.parquet")
    source = open_source(tmp_path / "set", cache=tmp_path / "cache")
    assert len(source) == 3 and source.sizes.tolist() == [[48, 40]] * 3
    assert source.group_names == ["oil", "ink"] and source.groups.tolist() == [0, 1, -1]
    assert [line.partition(":")[0] for line in source.skipped] == ["row 1", "row 3"]
    assert source.notes == ["1 of 3 pictures have no caption: theirs is empty"]
    sample = source.read(1)
    assert (sample.name, sample.caption) == ("row 2", "picture 2")
    assert np.array_equal(np.asarray(sample.picture), pixels(2))
    assert open_source(tmp_path / "set" / "a.parquet", cache=tmp_path / "other").digest == source.digest
    rows = next(iter(loader(source, 3, 64, "self", 0, workers=1, step=16)))
    assert sorted(s.name for s in rows.samples) == ["row 0", "row 2", "row 4"]


def test_rows_of_pictures_as_the_package_writes_them(tmp_path, datasets):
    features = datasets.Features(
        {
            "image": datasets.Image(), "caption": datasets.Value("string"),
            "group": datasets.ClassLabel(names=["ink", "oil"]),
        }
    )  # fmt: skip
    images = [Image.fromarray(pixels(i)) for i in range(3)]
    rows = {"image": images, "caption": list("abc"), "group": [1, 0, 1]}
    (tmp_path / "set").mkdir()
    for name in ("0", "1"):
        datasets.Dataset.from_dict(rows, features).to_parquet(tmp_path / "set" / f"{name}.parquet")
    source = open_source(tmp_path / "set", cache=tmp_path / "cache")
    assert len(source) == 6 and source.group_names == ["oil", "ink"]
    assert np.array_equal(np.asarray(source.read(4).picture), pixels(1)) and source.read(4).caption == "b"


def test_columns_and_files_that_will_not_do(tmp_path, datasets):
    (tmp_path / "a.parquet").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="its 1 Parquet files cannot be read"):
        open_source(tmp_path, cache=tmp_path / "cache")
    datasets.Dataset.from_dict({"url": ["x"], "text": ["y"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="have the columns url, text, expected image and text"):
        open_source(tmp_path / "a.parquet", cache=tmp_path / "cache")
    datasets.Dataset.from_dict({"image": [b"x"], "text": ["y"]}).to_parquet(tmp_path / "a.parquet")
    with pytest.raises(ValueError, match="no picture that can be used.*row 0"):
        open_source(tmp_path / "a.parquet", cache=tmp_path / "cache")
