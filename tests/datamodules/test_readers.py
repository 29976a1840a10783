from collections import Counter

import pyarrow.parquet as pq
import pytest
from large import COUNTS, FORMATS, IDS, as_json, pictures, png, write, write_tar

from datamodules.imagenet21k import ImageNet21K
from datamodules.parquet import Parquet
from datamodules.tar_shards import TarShards

SPLITS = {"train": "train", "val": "val"}


def tar(tmp_path, *members) -> TarShards:
    write_tar(tmp_path / "train.tar", list(members))
    return TarShards(tmp_path, SPLITS)


@pytest.mark.parametrize("form", FORMATS)
def test_each_form_holds_the_same_pictures_and_labels(tmp_path, form):
    write(tmp_path, form)
    source = ImageNet21K(str(tmp_path), "imagenet21k_resized", form)
    splits = source.splits(1)
    for table, split in ((splits.train, "imagenet21k_train"), (splits.test, "imagenet21k_val")):
        images = Counter((source.reader.read(item.path), item.label) for item in table)
        assert images == Counter((content, label) for _, label, content in pictures(split))
        assert len(table) == 3 * COUNTS[split]
    assert source.open(splits.train[0]).getpixel((0, 0)) == (170, 20, 0)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ([("a/0.x.jpg", b"1"), ("a/0.cls", b"17\n")], [(17, b"1")]),
        ([("0.jpg", b"1"), ("0.json", as_json("n00005787"))], [("n00005787", b"1")]),
        ([("0.cls", b"n1"), ("0.json", as_json(3)), ("0.webp", b"12")], [("n1", b"12")]),  # cls goes before
        ([("n00005787/x.JPEG", b"1"), ("n00015388/x.JPEG", b"22")], [("n00005787", b"1"), ("n00015388", b"22")]),
        ([("notes.txt", b"-"), ("n00005787_3.jpg", b"1")], [("n00005787", b"1")]),
    ],
)
def test_labels_in_tar_shards(tmp_path, members, expected):
    reader = tar(tmp_path, *members)
    listing = reader.listing("train")
    images = [(listing.ids[listing.label[i]], reader.read(reader.path(listing, i))) for i in range(len(listing.label))]
    assert images == expected
    assert not listing.broken


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("0.jpg", b"1")], "image /0 of .*train.tar has no class: neither"),
        ([("0.jpg", b"1"), ("0.json", b"{")], "0.json of .*train.tar is no json object"),
    ],
)
def test_shards_without_labels(tmp_path, members, message):
    with pytest.raises(ValueError, match=message):
        tar(tmp_path, *members).listing("train")


@pytest.mark.parametrize(("cut", "left"), [(1, 9), (512, 9), (1024, 9), (1500, 7), (2000, 8), (10000, 0)])
def test_a_truncated_tar_is_noticed(tmp_path, cut, left):
    """Nine members of 512 + 512 bytes and 1,024 zeros: whatever is cut of more than padding is noticed. The sample before a
    cut member is left out with it, as its own label may be in what is cut."""
    reader = tar(tmp_path, *((f"n00005787_{i}.jpg", bytes(512)) for i in range(9)))
    path = tmp_path / "train.tar"
    content = path.read_bytes()
    assert len(content) == 10240
    path.write_bytes(content[: len(content) - cut])
    listing = reader.listing("train")
    assert len(listing.label) == left
    assert [str(path) in line and "cannot be read to its end" in line for line in listing.broken] == [True] * (cut > 512)


@pytest.mark.parametrize("harm", ["footer", "page"])
def test_bad_parquet(tmp_path, harm):
    folder = write(tmp_path, "parquet")
    path = folder / "imagenet21k_train-001.parquet"
    content = bytearray(path.read_bytes())
    column = pq.ParquetFile(path).metadata.row_group(0).column(0)
    assert column.path_in_schema == "image.bytes"
    where = len(content) - 8 if harm == "footer" else column.dictionary_page_offset or column.data_page_offset
    content[where : where + 8] = bytes(8)
    path.write_bytes(content)
    reader = Parquet(folder, SPLITS)
    listing = reader.listing("train")
    assert [str(path) in line for line in listing.broken] == [True] * (harm == "footer")
    if harm == "footer":
        assert len(listing.label) == 9
    else:
        rows = [i for i in range(15) if "001.parquet#0" in reader.path(listing, i)]
        with pytest.raises(ValueError, match="of row group 0 in .*001.parquet cannot be read"):
            reader.read(reader.path(listing, rows[0]))


def test_a_column_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="no column 'picture', only image, label"):
        Parquet(write(tmp_path, "parquet"), SPLITS, image="picture").listing("train")


def test_split_words(tmp_path):
    for name in ("train/0.tar", "my-train-1.tar", "training.tar", "validation-00.tar", "strain.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_tar(tmp_path / name, [(f"{IDS[0]}.jpg", b"1")])
    reader = TarShards(tmp_path, {"train": "train", "val": "val|validation", "test": "test"})
    assert reader.listing("train").shards == ["my-train-1.tar", "train/0.tar"]
    assert reader.listing("val").shards == ["validation-00.tar"]
    with pytest.raises(ValueError, match=r"no \.tar file with the word test in its name .* \(5 others\)"):
        reader.listing("test")


def test_a_shard_that_shrank_since(tmp_path):
    reader = tar(tmp_path, ("n00005787_0.jpg", png("train", 0, 0)))
    path = reader.path(reader.listing("train"), 0)
    (tmp_path / "train.tar").write_bytes(b"")
    with pytest.raises(ValueError, match="train.tar ends before byte"):
        reader.read(path)
