"""`source=hub` through the real load_dataset, on local folders."""

import io

import datasets
import PIL.Image
import pytest

from datamodules.few_shot import select
from datamodules.hub import HubSource


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing of one test, and nothing of the user's cache, reaches another; no network is asked."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def encoded(value: int, mode: str = "RGB") -> dict:
    buffer = io.BytesIO()
    PIL.Image.new(mode, (4, 4), value).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def parquet(tmp_path):
    """A repository in parquet with train, validation and test, labels 0..2 with names, odd column names."""

    def make(names=("AnnualCrop", "sea_lake", "Forest"), splits=("train", "validation", "test"), counts=(10, 5, 4)):
        label = datasets.ClassLabel(names=list(names)) if names else datasets.Value("int64")
        features = datasets.Features({"img": datasets.Image(), "fine_label": label})
        for split, count in zip(splits, counts, strict=True):
            rows = {"img": [], "fine_label": []}
            for i in range(count * 3):
                rows["img"].append(encoded(i, "L" if i % 2 else "RGB"))
                rows["fine_label"].append(i % 3)
            (tmp_path / "repo").mkdir(exist_ok=True)
            datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / f"repo/{split}-00000-of-00001.parquet")
        return str(tmp_path / "repo")

    return make


COLUMNS = {"image": "img", "label": "fine_label"}


@pytest.mark.parametrize("builder", [None, "parquet"])
def test_parquet(parquet, builder):
    source = HubSource(
        parquet(), builder=builder, val="validation", test="test", **COLUMNS, rename={"AnnualCrop": "Annual Crop Land"}
    )
    splits = source.splits(seed=1)
    assert splits.classnames == ["Annual Crop Land", "sea_lake", "Forest"]
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [30, 15, 12]
    assert splits.train[4] == ("train/4", 1, "sea_lake")
    image = source.open(splits.train[5])
    assert (image.mode, image.getpixel((0, 0))) == ("RGB", (5, 5, 5))
    assert len(select(splits, 2, 1).train) == 6


def test_imagefolder(tmp_path, put_images):
    put_images(tmp_path / "repo", [f"{s}/{c}/{i}.jpg" for s in ("train", "test") for c in ("cat", "dog") for i in range(10)])
    for builder in (None, "imagefolder"):
        source = HubSource(str(tmp_path / "repo"), builder=builder, test="test")
        splits = source.splits(seed=1)
        assert splits.classnames == ["cat", "dog"]
        assert [len(items) for items in (splits.train, splits.val, splits.test)] == [16, 4, 20]
        assert source.open(splits.test[0]).size == (4, 3)


def test_validation_is_carved_the_same_for_each_seed_and_said(parquet, caplog):
    source = HubSource(parquet(), test="test", **COLUMNS)
    splits = source.splits(seed=1)
    assert "no validation split" in caplog.text
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [24, 6, 12]
    assert splits == source.splits(seed=2)
    assert not {item.path for item in splits.train} & {item.path for item in splits.val}


def test_all_is_carved_where_there_is_no_test_split(parquet, caplog):
    splits = HubSource(parquet(splits=["train"], counts=[10]), **COLUMNS).splits(seed=1)
    assert "no test split" in caplog.text
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [15, 6, 9]
    paths = {item.path for items in (splits.train, splits.val, splits.test) for item in items}
    assert len(paths) == 30


def test_test_only_and_validation_as_test(parquet):
    repo = parquet()
    alone = HubSource(repo, train=None, test="validation", **COLUMNS).splits(1)
    assert (alone.train, alone.val, len(alone.test)) == ([], [], 15)
    same = HubSource(repo, val="validation", test="validation", **COLUMNS).splits(1)
    assert select(same, 1, 1).val == same.test


def test_classes_can_be_named_cleaned_and_dropped(parquet):
    named = HubSource(parquet(names=None), test="test", **COLUMNS, classnames=["a", "b", "c"]).splits(1)
    assert named.classnames == ["a", "b", "c"]


def test_ignored_classes_leave_no_gap(parquet):
    source = HubSource(parquet(), test="test", **COLUMNS, ignore=["sea_lake"], clean=str.upper, rename={"Forest": "wood"})
    splits = source.splits(1)
    assert splits.classnames == ["ANNUALCROP", "wood"]
    assert splits.test[1].path == "test/2"


def test_string_labels_are_sorted(tmp_path):
    (tmp_path / "repo").mkdir()
    rows = {"image": [encoded(i) for i in range(4)], "label": ["n02", "n01", "n02", "n01"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "repo/test.parquet")
    splits = HubSource(str(tmp_path / "repo"), train=None, test="test", rename={"n01": "tench"}).splits(1)
    assert [item.label for item in splits.test] == [1, 0, 1, 0]
    assert splits.classnames == ["tench", "n02"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"test": "testing"}, "has no split testing, only train, validation, test: set train, val and test in"),
        ({"image": "picture"}, "has no column picture, only img, fine_label: set image and label in"),
        ({"label": "y"}, "has no column y, only img, fine_label"),
        ({"classnames": ["a", "b"]}, "has a label 2, but 2 class names"),
    ],
)
def test_wrong_names_are_told_from_what_there_is(parquet, changes, reason):
    with pytest.raises(ValueError, match=reason):
        HubSource(parquet(), **({"test": "test"} | COLUMNS | changes)).splits(1)


def test_numbers_without_names_ask_for_them(parquet):
    with pytest.raises(ValueError, match=r"labels without names: set data.source.hub.classnames"):
        HubSource(parquet(names=None), test="test", **COLUMNS).splits(1)


def test_no_repository_says_so_before_anything_is_asked():
    with pytest.raises(ValueError, match=r"set data.source.hub.repo to a repository id or a local folder"):
        HubSource(None).splits(1)


@pytest.mark.parametrize("repo", ["nobody/no-such-dataset", "/no/such/folder"])
def test_out_of_reach_is_one_sentence(repo):
    with pytest.raises(ValueError, match=rf"the dataset {repo} cannot be loaded .*or use source=disk") as error:
        HubSource(repo, test="test").splits(1)
    assert "\n" not in str(error.value)


def test_a_broken_image_is_named(tmp_path):
    (tmp_path / "repo").mkdir()
    good = encoded(1)
    rows = {"image": [good, {"bytes": good["bytes"][:40], "path": None}], "label": ["a", "b"]}
    features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("string")})
    datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "repo/test.parquet")
    source = HubSource(str(tmp_path / "repo"), train=None, test="test")
    with pytest.raises(ValueError, match=r"image test/1 of .* cannot be decoded"):
        source.open(source.splits(1).test[1])
