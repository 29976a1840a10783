"""tools.doctor on images with label maps: its counts, what is missing and what cannot be used."""

import pytest
from mask_trees import put_ade, put_cityscapes, put_context, put_map, put_own, put_voc

from datamodules.layouts import MASK_SIZES
from tools.dataset_config import dataset_names


def test_the_published_sizes_are_of_datasets():
    assert set(MASK_SIZES) < set(dataset_names())


@pytest.mark.parametrize(
    ("name", "put", "lines"),
    [
        ("ade20k", put_ade, ["150 classes, 3 / 0 / 2 training", "they have 150 classes, 20,210 / 0 / 2,000", "33.3% of the"]),
        ("voc2012", put_voc, ["21 classes, 2 / 0 / 2 training", "25.0% of the pixels of the 4 label maps are left out"]),
        ("pascal_context", put_context, ["57 of 59 classes are in no label map: bag, bed, bedclothes"]),
        ("cityscapes", put_cityscapes, ["19 classes, 3 / 0 / 2 training", "they have 19 classes, 2,975 / 0 / 500"]),
    ],
)
def test_all_is_well(tmp_path, run_doctor, name, put, lines):
    put(tmp_path)
    status, text = run_doctor(name, "images=true")
    assert status == 0
    assert text.startswith(f"ok   {name} in ")
    for line in lines:
        assert line in text
    quick = run_doctor(name)
    assert quick[0] == 0
    assert "are in no label map" not in quick[1]  # the first few cannot have all classes


def test_a_folder_of_ones_own(tmp_path, run_doctor):
    """A mask of 0 and 255 leaves its thing out, which the doctor shows."""
    folder = put_own(tmp_path, numbers=(0, 255))
    status, text = run_doctor("masks_folder", f"folder={folder}", "images=true")
    assert status == 0
    assert "3 classes, 2 / 2 / 2 training / validation / test images" in text
    assert "50.0% of the pixels of the 6 label maps are left out" in text
    assert "2 of 3 classes are in no label map: road, zebra crossing" in text


def test_what_is_missing_or_wrong(tmp_path, run_doctor):
    folder = put_ade(tmp_path)
    put_map(folder / "annotations/training/ADE_train_00000002.png", [151])
    put_map(folder / "annotations/training/ADE_train_00000003.png", [1], (5, 5))
    status, text = run_doctor("ade20k", "images=true")
    assert status == 1
    assert "ADE_train_00000002.png has the number 151, which is no class" in text
    assert "ADE_train_00000003.png has 5 x 5 px and its image" in text
    assert "1 more pairs of image and label map are wrong\n     -> limit=0" in run_doctor("ade20k", "images=true", "limit=1")[1]
    (folder / "annotations/validation/ADE_val_00000001.png").unlink()
    status, text = run_doctor("ade20k")
    assert status == 1
    assert "1 missing in ADEChallengeData2016/annotations/validation: ADE_val_00000001.png\n     -> extract or download" in text
    (folder / "annotations").rename(tmp_path / "elsewhere")
    status, text = run_doctor("ade20k")
    assert status == 1
    assert "the folder of training label maps ADEChallengeData2016/annotations/training is missing" in text


def test_drawn_label_maps_need_no_files(run_doctor):
    assert run_doctor("scenes_masks") == (0, "ok   scenes_masks: needs no files\n")
