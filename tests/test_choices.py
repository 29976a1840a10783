"""Whole runs on ImageNet's layouts: no test image is opened before the run is tested."""

import json

import pytest
from lightning.pytorch import Trainer
from toys import only
from val_is_test import TRAIN, WNIDS, imagenet, legacy

from datamodules.imagenet import ImageNet

SMALL = ["data=imagenet", "data_root=.", "batch_size=2", "epochs=1"]


@pytest.fixture
def opened(monkeypatch):
    """The paths that ImageNet opens until a run is tested."""
    paths, tested, of_source, test = [], [], ImageNet.open, Trainer.test
    monkeypatch.setattr(ImageNet, "open", lambda self, item: tested or paths.append(item.path) or of_source(self, item))

    def recorded_test(*args, **options):
        tested.append(True)
        monkeypatch.setattr(ImageNet, "open", of_source)
        return test(*args, **options)

    monkeypatch.setattr(Trainer, "test", recorded_test)
    return paths


@pytest.mark.parametrize(
    ("layout", "overrides"),
    [
        ("folders", ["experiment=search", "method=coop", "method.n_ctx=2"]),
        ("folders", ["method=linear_probe"]),
        ("folders", ["method=dpl_search", "data.alternating_batch_size=2"]),
        ("pickles", ["method=coop", "select=best_val", "method.n_ctx=2"]),
    ],
    ids=["search", "probe", "turns", "best_val"],
)
def test_a_run_that_chooses(run_here, tmp_path, put_images, put_text, monkeypatch, opened, layout, overrides):
    folder = imagenet(tmp_path, put_images, put_text)
    if layout == "pickles":
        legacy(folder, monkeypatch)
        overrides = [*overrides, "data.source.disk.legacy=true"]
    result = run_here(*SMALL, "shots=2", *overrides)
    train, val = result["selected"]["train"], result["selected"]["val"]
    assert sorted(set(opened)) == sorted({*train, *val})
    assert len(train) == len(val) == 2 * len(WNIDS)
    assert not set(train) & set(val)
    assert all(path.startswith("train/") for path in (*train, *val))
    assert result["metrics"]["test"]["images"] == 9
    assert json.dumps(result["selected"])


def test_a_run_that_chooses_nothing_holds_nothing_out(run_here, tmp_path, put_images, put_text, opened):
    imagenet(tmp_path, put_images, put_text)
    result = run_here(*SMALL, "method=coop", "method.n_ctx=2", "shots=2", "output=first")
    assert result["selected"]["val"] == []
    assert set(opened) == set(result["selected"]["train"])
    whole = run_here(*SMALL, "method=coop", "method.n_ctx=2", "shots=-1")
    assert len(whole["selected"]["train"]) == TRAIN * len(WNIDS)
    saved = f"ckpt={only(tmp_path / 'first', 'prompts.safetensors').parent}"
    evaluated = run_here(*SMALL, "method=coop", "method.n_ctx=2", "fit=false", saved, "select=best_val", "shots=-1")
    assert evaluated["selected"]["val"] == []


@pytest.mark.parametrize("overrides", [["method=coop", "select=best_val"], ["method=linear_probe"]])
def test_a_choice_that_no_image_is_left_for_is_refused(run_here, tmp_path, put_images, put_text, opened, overrides):
    imagenet(tmp_path, put_images, put_text)
    with pytest.raises(ValueError, match="no validation images in subset=all.*give shots=N"):
        run_here(*SMALL, *overrides, "shots=-1")
    assert not opened
