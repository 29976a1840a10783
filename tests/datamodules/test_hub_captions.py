"""Captions and questions through the real load_dataset, on local folders of parquet."""

import io
import shutil

import datasets
import PIL.Image
import pytest

from datamodules.hub_captions import HubCaptions, HubQuestions


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """Nothing of one test, and nothing of the user's cache, reaches another; no network is asked."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    datasets.disable_progress_bars()


def encoded(value: int) -> dict:
    buffer = io.BytesIO()
    PIL.Image.new("RGB", (4, 4), (value, value, value)).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


@pytest.fixture
def repo(tmp_path):
    """Writes {split: {column: values}} as a repository in parquet; its path."""

    def write(**splits):
        (tmp_path / "repo").mkdir(exist_ok=True)
        for split, columns in splits.items():
            count = len(next(iter(columns.values())))
            rows = {"image": [encoded(20 * i) for i in range(count)]} | columns
            data = datasets.Dataset.from_dict(rows).cast_column("image", datasets.Image())
            data.to_parquet(tmp_path / f"repo/{split}-00000-of-00001.parquet")
        return str(tmp_path / "repo")

    return write


def captioned(*numbers):
    return {"sentences": [[f"a cat {i}", f"one  cat {i}\n"] for i in numbers], "cocoid": list(numbers)}


def test_captions_of_an_image_in_a_list(repo):
    path = repo(train=captioned(1, 2, 3), validation=captioned(4), test=captioned(5, 6))
    source = HubCaptions(path, val="validation", test="test", captions="sentences", image_id="cocoid")
    splits = source.splits(1)
    assert [[item.image_id for item in items] for items in (splits.train, splits.val, splits.test)] == [[1, 2, 3], [4], [5, 6]]
    assert splits.test[1] == ("test/1", 6, ("a cat 6", "one cat 6"), "", 0)
    assert source.open(splits.test[1]).getpixel((0, 0)) == (20, 20, 20)
    held = HubCaptions(path, test="test", captions="sentences", image_id="cocoid", held_out=1).splits(1)
    assert (len(held.train), len(held.val)) == (2, 1)


def test_a_column_may_say_the_split_and_an_image_may_have_a_row_for_each_caption(repo):
    """As nlphuji/flickr30k has it, and as lists of image and caption have it."""
    rows = {"caption": ["a", "b", "c", "d", "e"], "img_id": ["7", "7", "8", "9", "9"],
            "split": ["train", "train", "val", "test", "test"]}  # fmt: skip
    arguments = {"captions": "caption", "image_id": "img_id", "split_column": "split", "split_of": "test"}
    splits = HubCaptions(repo(test=rows), train="train", val="val", test="test", **arguments).splits(1)
    assert [splits.train[0][:3], splits.val[0][:3], splits.test[0][:3]] == [
        ("test/0", "7", ("a", "b")), ("test/2", "8", ("c",)), ("test/3", "9", ("d", "e")),
    ]  # fmt: skip


def asked(answers, **columns):
    count = len(answers)
    return {"question": [f"What is {i}?" for i in range(count)], "answers": answers, **columns}


def test_questions(repo):
    objects = [[{"answer": "net", "answer_id": i} for i in range(10)], [{"answer": "2", "answer_id": i} for i in range(10)]]
    path = repo(train=asked(objects, question_id=[10, 11], image_id=[5, 5], answer_type=["other", "number"]))
    splits = HubQuestions(path, question_id="question_id", image_id="image_id", answer_type="answer_type").splits(1)
    first, second = splits.train
    assert first == ("train/0", 5, 10, "What is 0?", ("net",) * 10, (), "other", "", 0)
    assert (second.path, second.answers) == ("train/0", ("2",) * 10)  # the same image, read from one row
    shutil.rmtree(path)
    texts = HubQuestions(repo(test=asked([["a", "b"], []])), train=None, test="test").splits(1).test
    assert [item.answers for item in texts] == [("a", "b"), ()]


def test_the_images_are_vouched_for(repo):
    path = repo(train=captioned(1, 2, 3))
    source = HubCaptions(path, captions="sentences", image_id="cocoid")
    items = source.splits(1).train
    again = HubCaptions(path, captions="sentences", image_id="cocoid")
    assert source.content_digest(items) == again.content_digest(items) != source.content_digest(items[:2])
    assert source.digest(1) == again.digest(2)


@pytest.mark.parametrize(
    ("rows", "arguments", "message"),
    [
        (captioned(1, 1), {}, "row 1 of train in .*repo has the cocoid 1, as train/0 has: remove one of the two"),
        (captioned(1) | {"sentences": [[]]}, {}, "row 0 of train in .*repo has no captions: each image needs one"),
        (captioned(1) | {"sentences": [["a", " "]]}, {}, "row 0 of train in .*repo: sentences, number 1 is empty"),
        (captioned(1) | {"sentences": [3]}, {}, "row 0 of train in .*repo: sentences is neither a text nor a list"),
        (captioned(1), {"image_id": "id"}, "has no column id, only .*: set image and captions and image_id in data.source.hub"),
        (captioned(1), {"val": "train"}, "image 1 of .*repo is in train and in val"),
    ],
)
def test_what_is_wrong_is_one_sentence(repo, rows, arguments, message):
    path = repo(train=rows)
    with pytest.raises(ValueError, match=message) as caught:
        HubCaptions(path, **({"captions": "sentences", "image_id": "cocoid"} | arguments)).splits(1)
    assert "\n" not in str(caught.value)


def test_wrong_questions_are_one_sentence(repo):
    path = repo(train=asked([["a"], []], question_id=[4, 4]))
    with pytest.raises(ValueError, match="row 1 of train in .*repo has no answers: complete or remove it"):
        HubQuestions(path).splits(1)
    with pytest.raises(ValueError, match="row 1 of train in .*repo: the question_id 4 is no integer of its own"):
        HubQuestions(path, question_id="question_id").splits(1)
    with pytest.raises(ValueError, match="name the split train or test"):
        HubQuestions(path, train=None)
