"""`data=shapes21k`: drawn images of 604 classes, on the disk in each format in which ImageNet-21K is distributed.

A class is a colour, a texture and a shape: all of them but the 36 of data=shapes, so that these are new to a prompt pretrained
here. Names use the captions' usual and rare words alike. Splits per class: 20 train, 4 val (which is the test set, too).
`data=shapes21k_search`, on which the settings of pretraining are chosen, has other pictures and leaves out the 36 classes of
data=shapes_search as well.
"""

from __future__ import annotations

import io
import tarfile
import zlib
from collections.abc import Iterator
from functools import cache, cached_property
from itertools import product
from pathlib import Path

from numpy.random import RandomState
from PIL import ImageEnhance

from datamodules.captions import WORDS
from datamodules.drawing import COLOURS, SHAPES, TEXTURES, draw
from datamodules.imagenet21k import CLASSNAMES, ImageNet21K
from datamodules.index import file_lock, make_writable, whole_folder
from datamodules.shapes import CLASSES as FEW
from datamodules.shapes import SEARCH_CLASSES

SIZES = {"train": 20, "val": 4}
SATURATION = 0.45  # as in data=shapes: paler than the images that the tiny CLIP was trained on
STYLES = ("painting", "faded", "blurred", "busy", "photo", "drawing")
SHARD = 1000  # images in a tar shard or a parquet file
Picture = tuple[str, int, bytes]  # key, label, PNG


@cache
def classes(search: bool = False) -> dict[str, tuple[str, str, str, str]]:
    """By class id, in order of label: class name, shape, colour, texture. `search`: those of data=shapes21k_search."""
    left_out = {*FEW.values(), *(SEARCH_CLASSES.values() if search else ())}
    combinations = [kind for kind in product(SHAPES, COLOURS, TEXTURES) if kind not in left_out]
    classes_by_id = {}
    for label, (shape, colour, texture) in enumerate(combinations):
        synonyms = (WORDS.get(key, (key,)) for key in (colour, texture, shape))
        name = " ".join(words[zlib.crc32(f"{label} {words[0]}".encode()) % len(words)] for words in synonyms)
        classes_by_id[f"c{label:05d}"] = (name, shape, colour, texture)
    return classes_by_id


def pictures(split: str, search: bool = False) -> Iterator[Picture]:
    """All pictures of a split, classes mixed, always the same. `search`: those of data=shapes21k_search."""
    of_id = classes(search)
    ids, origin = list(of_id), f"search/{split}" if search else split
    for position in RandomState(zlib.crc32(origin.encode())).permutation(len(ids) * SIZES[split]):
        label, number = divmod(int(position), SIZES[split])
        key = f"{ids[label]}_{number}"
        picture = draw(
            *of_id[ids[label]][1:], STYLES[number % len(STYLES)], RandomState(zlib.crc32(f"{origin}/{key}".encode()))
        )
        content = io.BytesIO()
        ImageEnhance.Color(picture).enhance(SATURATION).save(content, "PNG")
        yield key, label, content.getvalue()


def write_folder(folder: Path, split: str, split_pictures: list[Picture]) -> None:
    """Writes `SPLIT/CLASS ID/KEY.png`."""
    for key, _, content in split_pictures:
        path = folder / split / key.partition("_")[0] / f"{key}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_webdataset(folder: Path, split: str, split_pictures: list[Picture]) -> None:
    """Writes `SPLIT-NUMBER.tar`, in which a picture is `KEY.png` and its label `KEY.cls`."""
    for number, start in enumerate(range(0, len(split_pictures), SHARD)):
        with tarfile.open(folder / f"{split}-{number:05d}.tar", "w") as tar:
            for key, label, content in split_pictures[start : start + SHARD]:
                for extension, data in (("png", content), ("cls", str(label).encode())):
                    member = tarfile.TarInfo(f"{key}.{extension}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))


def write_parquet(folder: Path, split: str, split_pictures: list[Picture]) -> None:
    """Writes `SPLIT-NUMBER.parquet` with columns image and label, as `datasets` does."""
    import datasets
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids = sorted({key.partition("_")[0] for key, _, _ in split_pictures})  # each class has pictures in each split
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=ids)})
    for number, start in enumerate(range(0, len(split_pictures), SHARD)):
        shard = split_pictures[start : start + SHARD]
        rows = [{"image": {"bytes": content, "path": f"{key}.png"}, "label": label} for key, label, content in shard]
        table = pa.Table.from_pylist(rows, schema=features.arrow_schema)
        pq.write_table(table, folder / f"{split}-{number:05d}.parquet", row_group_size=100)


WRITERS = {"folder": write_folder, "webdataset": write_webdataset, "parquet": write_parquet}


class Shapes21K(ImageNet21K):
    """Drawn on first use below `root`, or below the user's cache where that cannot be written; then read as ImageNet-21K is.

    Args:
        search: draw the classes and pictures of data=shapes21k_search; its folder has to be another one.
    """

    def __init__(self, root: str, folder: str, format: str = "folder", index: str | None = None, search: bool = False) -> None:
        super().__init__(root, folder, format, train="train", val="val", index=index)
        self.search = search
        self.needs = {}  # nothing: the pictures are drawn

    @cached_property
    def home(self) -> Path:
        """The folder of the pictures, which are drawn if they are missing. ValueError where they cannot be written."""
        for parent in (self.folder, self.cache / self.folder.name):
            home = parent / self.format
            if home.is_dir():
                return home
            if make_writable(parent):
                with file_lock(parent / f".{self.format}.lock"):
                    if not home.is_dir():
                        with whole_folder(home) as folder:
                            self._draw(folder)
                return home
        raise ValueError(f"neither {self.folder} nor {self.cache} can be written to: set data_root=PATH")

    def _draw(self, folder: Path) -> None:
        (folder / CLASSNAMES).write_text("".join(f"{key} {name}\n" for key, (name, *_) in classes(self.search).items()))
        for split in SIZES:
            WRITERS[self.format](folder, split, list(pictures(split, self.search)))
