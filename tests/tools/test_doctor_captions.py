"""tools.doctor on captioned images and on questions: its counts, and what is missing."""

import json

import pytest
from caption_trees import put_caption_files, put_coco, put_flickr, put_nocaps, put_vqa

from datamodules.layouts import TEXT_SIZES
from tools.dataset_config import dataset_names


def test_the_published_sizes_are_of_datasets():
    assert set(TEXT_SIZES) < set(dataset_names())


@pytest.mark.parametrize(
    ("name", "put", "lines"),
    [
        (
            "coco",
            put_coco,
            ["3 / 1 / 2 training / validation / test images", "15 / 5 / 10 training / validation / test captions"],
        ),
        ("coco_captions", put_caption_files, ["4 / 0 / 2 training / validation / test images"]),
        ("flickr30k", put_flickr, ["2 / 1 / 2 training", "not the published lists: they have 29,000 / 1,014 / 1,000 images"]),
        ("nocaps", put_nocaps, ["0 / 0 / 60 training", "2 in-domain, 2 near-domain, 2 out-domain images"]),
        ("vqa2", put_vqa, ["12 / 0 / 6 training / validation / test questions", "443,757 / 0 / 214,354 questions"]),
    ],
)
def test_all_is_well(tmp_path, run_doctor, name, put, lines):
    put(tmp_path)
    status, text = run_doctor(name, "images=true")
    assert status == 0
    assert text.startswith(f"ok   {name} in ")
    for line in lines:
        assert line in text


def test_what_is_missing_is_counted_with_the_rest(tmp_path, run_doctor):
    put_vqa(tmp_path)
    (tmp_path / "coco/val2014/COCO_val2014_000000000073.jpg").unlink()
    status, text = run_doctor("vqa2")
    assert status == 1
    assert "1 missing in coco/val2014: COCO_val2014_000000000073.jpg\n     -> extract or download" in text
    assert "12 / 0 / 6 training / validation / test questions" in text
    assert "From visualqa.org" in text


def test_what_lies_elsewhere_is_found(tmp_path, run_doctor):
    put_flickr(tmp_path)
    folder = tmp_path / "flickr30k"
    (folder / "flickr30k-images").rename(folder / "images")
    (folder / "caption_datasets").mkdir()
    (folder / "dataset_flickr30k.json").rename(folder / "caption_datasets/dataset_flickr30k.json")
    status, text = run_doctor("flickr30k")
    assert status == 1
    assert "the image folder flickr30k/flickr30k-images is missing\n     -> it seems to be at flickr30k/images" in text
    assert "Karpathy's split flickr30k/dataset_flickr30k.json is missing\n     -> it seems to be at flickr30k/caption_" in text


def test_a_file_without_answers_and_broken_images(tmp_path, run_doctor):
    folder = put_vqa(tmp_path)
    hidden = run_doctor("vqa2", "data.source.disk.test=test-dev2015")
    assert (hidden[0], "2 questions without public answers" in hidden[1]) == (0, True)
    path = folder / "v2_mscoco_val2014_annotations.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": content["annotations"][1:]}))
    status, text = run_doctor("vqa2")
    assert status == 1
    assert "question 42000 has no answers in v2_mscoco_val2014_annotations.json" in text
    path.write_text(json.dumps(content))
    (tmp_path / "coco/train2014/COCO_train2014_000000000025.jpg").write_bytes(b"no image")
    assert run_doctor("vqa2")[0] == 0  # the first image of each list alone is opened
    assert "coco/train2014/COCO_train2014_000000000025.jpg cannot be decoded" in run_doctor("vqa2", "images=true")[1]


def test_drawn_scenes_need_no_files(run_doctor):
    assert run_doctor("scenes_vqa") == (0, "ok   scenes_vqa: needs no files\n")
