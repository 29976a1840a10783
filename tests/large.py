"""A few pictures of three WordNet classes, in each form that ImageNet-21K comes in."""

import io
import json
import tarfile
from pathlib import Path

import PIL.Image

from datamodules.imagenet21k import ImageNet21K

IDS = ["n00005787", "n00015388", "n00021939"]
NAMES = ["benthos", "animal", "artifact"]  # WordNet's first lemmas
COUNTS = {"imagenet21k_train": 5, "imagenet21k_val": 2}
FORMATS = ("folder", "webdataset", "parquet")


def png(split: str, label: int, number: int) -> bytes:
    content = io.BytesIO()
    colour = (len(split) * 10, 60 * label + 20, 20 * number)
    PIL.Image.new("RGB", (8, 8), colour).save(content, "PNG")
    return content.getvalue()


def pictures(split: str) -> list[tuple[str, int, bytes]]:
    return [(f"{IDS[y]}_{i}", y, png(split, y, i)) for i in range(COUNTS[split]) for y in range(len(IDS))]


def write(root: Path, form: str, size: int = 6) -> Path:
    """The dataset's folder, `size` images per shard."""
    folder = root / "imagenet21k_resized"
    folder.mkdir(parents=True)
    for split in COUNTS:
        drawn = pictures(split)
        shards = [drawn[i : i + size] for i in range(0, len(drawn), size)]
        if form == "folder":
            for key, y, content in drawn:
                path = folder / split / IDS[y] / f"{key}.JPEG"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        for number, shard in enumerate(shards):
            if form == "webdataset":
                write_tar(folder / f"{split}-{number:03d}.tar", [(f"{key}.png", data) for key, _, data in shard])
            if form == "parquet":
                write_parquet(folder / f"{split}-{number:03d}.parquet", shard)
    return folder


def write_tar(path: Path, members: list[tuple[str, bytes]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def write_parquet(path: Path, shard: list[tuple[str, int, bytes]]) -> None:
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=IDS)})
    rows = [{"image": {"bytes": content, "path": key}, "label": y} for key, y, content in shard]
    pq.write_table(pa.Table.from_pylist(rows, schema=features.arrow_schema), path, row_group_size=4)


def as_json(label: object) -> bytes:
    return json.dumps({"label": label}).encode()


def source(root: Path, form: str = "folder", **options: object) -> ImageNet21K:
    return ImageNet21K(str(root), "imagenet21k_resized", form, **options)
