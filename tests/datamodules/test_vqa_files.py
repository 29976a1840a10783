"""VQA v2 as its official files are laid out."""

import json

import pytest
from caption_trees import put_vqa

from datamodules.disk import MissingFilesError
from datamodules.vqa_files import ANNOTATIONS, QUESTIONS, VQA

CAPTIONS = "annotations/captions_{}.json"


def vqa(root, **options):
    return VQA(str(root), "vqa2", **options)


def test_questions_with_their_answers_and_images(tmp_path):
    put_vqa(tmp_path)
    splits = vqa(tmp_path).splits(1)
    assert [len(items) for items in (splits.train, splits.val, splits.test)] == [12, 0, 6]
    first = splits.train[1]
    assert first[:4] == ("train2014/COCO_train2014_000000000009.jpg", 9, 9001, "How many?")
    assert first.answers == ("2",) * 8 + ("no", "")  # somebody may say nothing
    assert (first.answer_type, first.question_type, first.captions) == ("number", "how many", ())
    assert splits.test[0].path == "val2014/COCO_val2014_000000000042.jpg"
    assert vqa(tmp_path).open(splits.test[0]).size == (8, 8)


def test_captions_are_those_of_the_image_in_coco(tmp_path):
    put_vqa(tmp_path)
    splits = vqa(tmp_path, captions=CAPTIONS).splits(1)
    assert {len(item.captions) for item in splits.train} == {5}
    assert all(item.captions[0] == f"a man rides a horse {item.image_id}" for item in (*splits.train, *splits.test))
    path = tmp_path / "coco/annotations/captions_train2014.json"
    content = json.loads(path.read_text())
    content["images"] = [image for image in content["images"] if image["id"] != 30]
    content["annotations"] = [row for row in content["annotations"] if row["image_id"] != 30]
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="question 30000: image 30 has no captions in annotations/captions_train2014.json"):
        vqa(tmp_path, captions=CAPTIONS).splits(1)


def test_held_out_are_all_questions_about_some_images(tmp_path):
    put_vqa(tmp_path)
    splits = vqa(tmp_path, held_out=1).splits(1)
    assert (len(splits.train), len(splits.val)) == (9, 3)
    assert len({item.image_id for item in splits.val}) == 1
    assert not {item.image_id for item in splits.val} & {item.image_id for item in splits.train}


def test_answers_that_are_not_public(tmp_path):
    put_vqa(tmp_path)
    splits = vqa(tmp_path, test="test-dev2015", captions=CAPTIONS).splits(1)
    assert [item.path for item in splits.test] == [f"test2015/COCO_test2015_{i:012d}.jpg" for i in (1, 2)]
    assert {(item.answers, item.captions) for item in splits.test} == {((), ())}
    with pytest.raises(ValueError, match="val=test2015: its answers are not public, so it can only be test"):
        vqa(tmp_path, val="test2015")
    with pytest.raises(ValueError, match="held_out=2: images of train are held out"):
        vqa(tmp_path, train=None, held_out=2)


def test_an_image_that_is_missing_is_named_once(tmp_path):
    put_vqa(tmp_path)
    (tmp_path / "coco/val2014/COCO_val2014_000000000073.jpg").unlink()
    with pytest.raises(MissingFilesError) as caught:
        vqa(tmp_path).splits(1)
    assert caught.value.paths == ["val2014/COCO_val2014_000000000073.jpg"]  # three questions are about it


def edited(file, key, change):
    """Applies `change` to the list `key` of the file for train2014."""

    def edit(folder):
        path = folder / file.format("train2014")
        content = json.loads(path.read_text())
        change(content[key])
        path.write_text(json.dumps(content))

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (
            edited(ANNOTATIONS, "annotations", lambda rows: rows.pop(4)),
            "question 25001 has no answers in v2_mscoco_train2014_ann",
        ),
        (
            edited(QUESTIONS, "questions", lambda rows: rows.pop(4)),
            "question 25001 is not in v2_OpenEnded_mscoco_train2014_que",
        ),
        (
            edited(ANNOTATIONS, "annotations", lambda rows: rows[4].update(answers=[])),
            "question 25001 has no answers: complete or",
        ),
        (
            edited(ANNOTATIONS, "annotations", lambda rows: rows[4].update(answers="net")),
            "25001: answers is no list of at most",
        ),
        (
            edited(ANNOTATIONS, "annotations", lambda rows: rows[4]["answers"][0].update(answer=2)),
            "number 0 is no answer: 2 is",
        ),
        (
            edited(QUESTIONS, "questions", lambda rows: rows[4].update(question_id=9000)),
            "the question_id 9000 occurs twice",
        ),
        (
            edited(QUESTIONS, "questions", lambda rows: rows[4].update(image_id=10**12)),
            "25001: image_id is 1000000000000: an im",
        ),
        (edited(QUESTIONS, "questions", lambda rows: rows[4].update(image_id="9")), "question 25001: image_id is '9'"),
        (edited(QUESTIONS, "questions", lambda rows: rows[4].update(question="")), "question 25001 is empty"),
    ],
)
def test_what_is_wrong_in_a_file_is_one_sentence(tmp_path, edit, message):
    edit(put_vqa(tmp_path))
    with pytest.raises(ValueError, match=message) as caught:
        vqa(tmp_path).splits(1)
    assert "\n" not in str(caught.value)
