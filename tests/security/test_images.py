"""Images, and data through the hub's library, made by somebody else."""

import json
import os
import zlib

import numpy as np
import PIL.Image
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from refusals import one_sentence, png, refused

from datamodules.disk import open_rgb
from datamodules.hub import HubSource
from datamodules.items import Splits
from datamodules.parquet import Parquet
from datamodules.transforms import eval_transform

SPLITS = {"train": "train", "val": "val"}


def test_a_decompression_bomb_is_one_sentence(tmp_path):
    chunk = b"IHDR" + (100_000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    path = tmp_path / "bomb.jpg"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + (13).to_bytes(4, "big") + chunk + zlib.crc32(chunk).to_bytes(4, "big"))
    assert "bomb" in refused(open_rgb, path)


def test_postscript_is_not_handed_to_ghostscript(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("a program was started"))
    path = tmp_path / "x.jpg"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n")
    assert "cannot be decoded" in refused(open_rgb, path)


# ---- through the hub's library


@pytest.fixture
def hub(tmp_path, monkeypatch):
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()

    def make(labels, images=None) -> HubSource:
        (tmp_path / "repo").mkdir()
        images = images or [{"bytes": png(), "path": None}] * len(labels)
        table = pa.table({"image": images, "label": labels})
        about = {"info": {"features": {"image": {"_type": "Image"}, "label": {"_type": "Value", "dtype": str(labels.type)}}}}
        if not pa.types.is_nested(labels.type):
            table = table.replace_schema_metadata({"huggingface": json.dumps(about)})
        pq.write_table(table, tmp_path / "repo/test.parquet")
        return HubSource(str(tmp_path / "repo"), train=None, test="test")

    return make


@pytest.mark.parametrize(
    "labels",
    [
        pa.array([0.7, 1.0]),
        pa.array([True, False]),
        pa.array([None, 1]),
        pa.array([1, None]),
        pa.array(["a", None]),
        pa.array([[1], [2]]),
        pa.array(["a", "b\x1b[2J"]),
        pa.array(["a", "  "]),
    ],
)
def test_labels_of_hub_data_are_numbers_or_text(hub, labels):
    refused(hub(labels).splits, 1)


def test_images_of_hub_data_are_the_datasets_own(hub, tmp_path):
    (tmp_path / "private.png").write_bytes(png())
    os.mkfifo(tmp_path / "repo-pipe")
    wrong = [str(tmp_path / "private.png"), "http://127.0.0.1:9/x.png", str(tmp_path / "repo/../private.png")]
    good = {"bytes": png(), "path": "/etc/passwd"}  # the path is a remark where there are bytes
    source = hub(pa.array(["a"] * 4), pa.array([{"bytes": None, "path": path} for path in wrong] + [good]))
    items = source.splits(1).test
    for item in items[:3]:
        assert "is not the dataset's own" in refused(source.open, item)
    assert source.open(items[3]).size == (4, 3)
    assert isinstance(source.splits(1), Splits)


@pytest.mark.parametrize("size", [(200_000, 1), (1, 200_000)])
def test_an_image_that_is_a_line(size):
    """Resized whole, a kilobyte would take 30 GB."""
    image = PIL.Image.new("RGB", size, (9, 8, 7))
    image.paste((200, 100, 0), (size[0] // 2 - 40, size[1] // 2 - 40, size[0] // 2 + 40, size[1] // 2 + 40))
    pixels = one_sentence(eval_transform(224, (0, 0, 0), (1, 1, 1)), image)
    assert pixels.shape == (3, 224, 224)
    assert pixels[0].min() > 0.7  # the middle


def test_more_rows_than_bytes(tmp_path):
    """Twelve kilobytes of millions of equal rows take ten seconds and a gigabyte to list."""
    same = np.zeros(100_000, np.int32)
    image = pa.DictionaryArray.from_arrays(pa.array(same), [b"x"])
    pq.write_table(pa.table({"label": same, "image": image}), tmp_path / "train.parquet")
    assert "100,000 rows in" in refused(Parquet(tmp_path, SPLITS).listing, "train")


def test_a_label_that_unpacks_to_much(tmp_path):
    """Forty kilobytes could be a text of a gigabyte, which pyarrow and Python each hold several times."""
    table = pa.table({"label": ["a" * (300 * 2**20)], "image": [b"x" * 100]})
    pq.write_table(table, tmp_path / "train.parquet", compression="zstd")
    assert "unpack to too much" in refused(Parquet(tmp_path, SPLITS).listing, "train")
