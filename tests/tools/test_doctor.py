"""tools.doctor: its counts, lists and output."""

import json
import subprocess
import sys

import pytest
from omegaconf import OmegaConf
from toys import ROOT

from datamodules.layouts import SIZES
from tools import doctor
from tools.dataset_config import NOT_DATASETS, dataset_names, default_options

PATHS = {
    split: [f"{c}/{c}_{i}.jpg" for c in ("banded", "dotted") for i in numbers]
    for split, numbers in {"train": range(4), "val": range(4, 6), "test": range(6, 10)}.items()
}
LABELS = {"banded": 0, "dotted": 1}


def rows(prefix: str = "") -> dict:
    return {
        split: [[prefix + path, LABELS[path.split("/")[0]], path.split("/")[0]] for path in paths]
        for split, paths in PATHS.items()
    }


@pytest.fixture
def dtd(tmp_path, put_images, put_text):
    folder = tmp_path / "dtd"
    put_images(folder / "images", [path for paths in PATHS.values() for path in paths])
    put_text(folder / "split_zhou_DescribableTextures.json", json.dumps(rows()))
    return folder


def test_all_is_well(dtd, run_doctor):
    status, text = run_doctor("dtd", "images=true")
    assert status == 0
    assert text.startswith("ok   dtd in dtd\n     2 classes, 8 / 4 / 8 training / validation / test images\n")
    assert "this is not the published split: it should have 47 classes, 2820 / 1128 / 1692 images" in text


def test_a_fallback_split_is_told_from_the_published_one(dtd, run_doctor):
    (dtd / "split_zhou_DescribableTextures.json").unlink()
    options = OmegaConf.merge(default_options(), {"data_root": str(dtd.parent)})
    doctor.disk_source("dtd", options).splits(3)
    status, text = run_doctor("dtd")
    assert status == 0
    assert "split_zhou_DescribableTextures.json was made here by a fallback and is not the published split" in text


def test_missing_files_are_listed_by_folder(dtd, run_doctor):
    for name in ("banded/banded_0.jpg", "banded/banded_7.jpg", "dotted/dotted_9.jpg"):
        (dtd / "images" / name).unlink()
    status, text = run_doctor("dtd")
    assert status == 1
    assert "2 missing in dtd/images/banded: banded_0.jpg, banded_7.jpg\n     -> extract or download" in text
    assert "1 missing in dtd/images/dotted: dotted_9.jpg" in text
    limited = run_doctor("dtd", "limit=1")[1]
    assert "2 missing in dtd/images/banded: banded_0.jpg, ...\n" in limited
    assert "dotted_9" not in limited
    assert "the same in 1 more folder(s)\n     -> limit=0 lists them" in limited
    assert run_doctor("dtd", "limit=0")[1] == text


@pytest.mark.parametrize(
    ("wrong", "advice"),
    [
        ("images/images", "20 image(s) of dtd/images are in dtd/images/images\n     -> move the contents of dtd/images/images"),
        ("dtd/images", "move the contents of dtd/dtd/images into dtd/images"),
        ("", "move the contents of dtd into dtd/images"),
        ("pictures", "move the contents of dtd/pictures into dtd/images"),
    ],
)
def test_images_in_the_wrong_folder_are_found(dtd, run_doctor, wrong, advice):
    (dtd / "images").rename(dtd / "was")
    for path in sorted((dtd / "was").iterdir()):
        (dtd / wrong).mkdir(parents=True, exist_ok=True)
        path.rename(dtd / wrong / path.name)
    (dtd / "was").rmdir()
    status, text = run_doctor("dtd")
    assert status == 1
    assert advice in text
    assert "missing in dtd/images/" not in text, "what was found is not listed as lost"


def test_broken_images(dtd, run_doctor):
    first, later = dtd / "images/banded/banded_0.jpg", dtd / "images/banded/banded_1.jpg"
    first.write_bytes(first.read_bytes()[:300])
    later.write_bytes(b"")
    status, text = run_doctor("dtd")
    assert status == 1
    assert "dtd/images/banded/banded_0.jpg cannot be decoded\n     -> extract or download it again" in text
    assert "banded_1.jpg" not in text
    assert "banded_1.jpg cannot be decoded" in run_doctor("dtd", "images=true")[1]
    assert "1 more image(s) cannot be decoded\n     -> limit=0 lists them" in run_doctor("dtd", "images=true", "limit=1")[1]


def test_a_broken_split_file(dtd, run_doctor):
    (dtd / "split_zhou_DescribableTextures.json").write_text('{"train": [')
    status, text = run_doctor("dtd")
    assert status == 1
    assert "split file dtd/split_zhou_DescribableTextures.json cannot be read" in text


def test_drawn_data_need_no_files(run_doctor):
    assert run_doctor("digits") == (0, "ok   digits: needs no files\n")


def test_all_datasets_are_looked_at(dtd, run_doctor):
    status, text = run_doctor("all")
    assert status == 1
    assert not any(f" {name} in " in text for name in NOT_DATASETS)
    for name in set(dataset_names()) - set(NOT_DATASETS):
        assert f" {name} in " in text or f" {name}: needs no files" in text
    assert "ok   dtd" in text
    assert set(SIZES) < set(dataset_names())


@pytest.mark.parametrize(
    ("argument", "reason"),
    [("data=dtdd", "data=dtdd is not known: use all or one of"), ("dtd", "not understood"), ("root=x", "not understood")],
)
def test_wrong_arguments(argument, reason, capsys):
    assert doctor.main([argument]) == 1
    assert reason in capsys.readouterr().err


def test_the_command(dtd):
    command = [sys.executable, "-m", "tools.doctor", "data=dtd", f"data_root={dtd.parent}"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout[:9], done.stderr) == (0, "ok   dtd ", "")
    (dtd / "images/banded/banded_3.jpg").unlink()
    assert subprocess.run(command, cwd=ROOT, capture_output=True).returncode == 1


def test_datasets_of_ones_own_configs(tmp_path, put_images, run_doctor, capsys):
    put_images(tmp_path / "birds", [f"{name}/{i}.jpg" for name in ("gull", "tern") for i in range(10)])
    conf = tmp_path / "my conf"
    (conf / "data").mkdir(parents=True)
    (conf / "data" / "birds.yaml").write_text("# of my own\ndefaults: [folder, _self_]\nname: birds\n")
    assert run_doctor("birds", "--config-dir", str(conf))[0] == run_doctor("birds", f"--config-dir={conf}")[0] == 0
    assert "data=birds is not known" in run_doctor("birds")[1]
    assert "there is no such folder" in run_doctor("birds", "--config-dir", "nowhere")[1]
    assert "give a folder" in run_doctor("birds", "--config-dir")[1]
    (tmp_path / "birds").rename(tmp_path / "there: (1), #2")
    status, text = run_doctor("birds", f"--config-dir={conf}")
    assert status == 1
    assert "# of my own" in text
    assert run_doctor("folder", f"folder={tmp_path}/there: (1), #2")[0] == 0
    assert run_doctor("folder", f'folder="{tmp_path}/there: (1), #2"')[0] == 0
    assert doctor.main(["--help"]) == 0
    assert "--config-dir DIR" in capsys.readouterr().out


def test_a_folder_of_ones_own_that_is_not_there_is_not_to_be_downloaded(tmp_path, put_text, run_doctor):
    put_text(tmp_path / "notes.txt", "no images")
    for name in ("folder", "masks_folder"):
        status, text = run_doctor(name, f"folder={tmp_path}/nowhere")
        assert status == 1
        assert "there is no nowhere\n     -> correct folder=PATH" in text
        assert "download it" not in text
        assert (
            "notes.txt is a file\n     -> give folder=PATH of a folder" in run_doctor(name, f"folder={tmp_path}/notes.txt")[1]
        )
    assert "there is no list.csv\n" in run_doctor("folder", f"folder={tmp_path}/list.csv")[1]
