"""Training on a fixed number of views of each image, whose features are known."""

from contextlib import nullcontext

import pytest
import torch
from small_runs import SGD, trainer
from test_features import VOUCHED, opened
from test_habits import interrupted_and_resumed, same
from toys import NAMES, Toy, VouchedToys, toy_clip

from datamodules.module import FewShotData
from lightning_modules.classification import Classification
from lightning_modules.features import ImageFeatures
from prompts.engine.rows import Rows, TowerPrompts
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs.feature_store import FeatureStore


@pytest.fixture
def store(tmp_path):
    VouchedToys.paths.clear()
    return FeatureStore(tmp_path / "store", 1)


def test_views_are_those_of_the_first_epochs(run_here):
    options = [VOUCHED, "epochs=3", "shots=4", "optim.lr=0.1", "features.store=null"]
    online, three, one = (run_here(*options, f"features.views={views}") for views in ("online", 3, 1))
    assert three["train_loss"] == pytest.approx(online["train_loss"], rel=1e-5)  # batches differ, so the last bits may
    assert one["train_loss"][0] == pytest.approx(online["train_loss"][0], rel=1e-5)
    assert one["train_loss"][1] != pytest.approx(online["train_loss"][1], rel=1e-5)
    assert len({result["digest"] for result in (online, three, one)}) == 3
    assert one["config"]["features"]["views"] == 1


def test_views_with_and_without_a_store_are_the_same_run(run_here, store):
    options = [VOUCHED, "epochs=3", "shots=4", "features.views=2", "data.augmentation=randaug2", "data.views=2"]
    alone = run_here(*options, "features.store=null", "output=out0")
    assert opened("train") == 40
    assert same(run_here(*options, "features.store=store", "output=out1"), alone)
    assert opened("train") == 40
    assert same(run_here(*options, "features.store=store", "output=out2"), alone)
    assert opened("train") == 0
    run_here(*options, "features.store=store", "output=out3", "features.views=3")
    assert opened("train") == 20  # the third view alone


def test_a_resumed_run_with_views_is_the_undisturbed_one(run_here, tmp_path, monkeypatch):
    doomed = [
        VOUCHED,
        "method=doomed",
        "epochs=4",
        "shots=4",
        "features.views=2",
        "save_steps=1",
        "batch_size=4",
        "trainer=cpu",
    ]
    doomed.append(f"features.store={tmp_path / 'store'}")
    reference = run_here(*doomed, "output=reference")
    assert same(interrupted_and_resumed(run_here, monkeypatch, {"DOOM": "13:SIGTERM:0:20"}, *doomed), reference)


def tables(features, rank, learner=None):
    clip = toy_clip()
    data = FewShotData("toy", VouchedToys(), clip.image_spec, shots=2, seed=1, batch_size=6)
    model = PromptedCLIP(clip, learner or Toy())
    model.setup(TrainInfo(NAMES, len(data.train_items)))
    return features.training(data.train_loader(rank, 1 + rank), model, nullcontext, known=True, rank=rank)


def test_every_rank_has_the_same_views(store):
    stored, alone = ImageFeatures(store, 3), ImageFeatures(None, 3)
    first, second = (tables(features, rank).dataset.tables["features"] for rank, features in enumerate((stored, alone)))
    assert len(first) == len(second) == 3
    assert all(torch.equal(a.rows, b.rows) for a, b in zip(first, second, strict=True))
    assert not torch.equal(first[0].rows, first[1].rows)


def test_a_prompted_tower_keeps_its_views_as_pixels(store):
    class Prompted(Toy):
        def image_prompts(self):
            return TowerPrompts(inputs=Rows(torch.zeros(1, 32)))

    loader = tables(ImageFeatures(store, 2), 0, Prompted())
    shown = []
    for epoch in range(3):
        loader.set_epoch(epoch)
        shown.append({int(i): image for batch in loader for i, image in zip(batch["index"], batch["image"], strict=True)})
    assert not any(torch.equal(image, shown[0][i]) for i, image in shown[1].items() if i in shown[0])
    assert sum(torch.equal(image, shown[0][i]) for i, image in shown[2].items() if i in shown[0]) >= 2
    assert all(torch.equal(image, shown[0][i]) for i, image in shown[2].items() if i in shown[0])
    assert not store.folder.exists()


def test_a_teachers_features_of_the_views_are_known(run_here, monkeypatch):
    from prompts.parts.teacher import Teacher
    from prompts.promptsrc import PromptSRC

    calls, encode = [], Teacher.encode
    monkeypatch.setattr(Teacher, "encode", lambda self, images: calls.append(len(images)) or encode(self, images))
    chosen = ["method=promptsrc", "method.depth_text=1", "method.depth_image=1", "recipe=none", "optim.lr=0.01", "shots=4"]
    options = [VOUCHED, *chosen, "epochs=2", "features.views=2", "features.store=store"]
    first = run_here(*options, "output=out0")
    assert calls == [20, 20]
    assert same(run_here(*options, "output=out1"), first)
    assert calls == [20, 20]
    monkeypatch.setattr(PromptSRC, "image_teacher", lambda self: None)
    each_step = run_here(*options, "output=out2")
    assert len(calls) > 2
    assert each_step["train_loss"] == pytest.approx(first["train_loss"], rel=1e-5)


def test_losses_that_read_pixels_are_told_so(store):
    class Reading(Toy):
        def losses(self, out, labels, index):
            return super().losses(out, labels, index) | {"dark": out.pixels.square().mean()}

    clip = toy_clip()
    data = FewShotData("toy", VouchedToys(), clip.image_spec, shots=2, seed=1, batch_size=6)
    model = PromptedCLIP(clip, Reading())
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    module = Classification(model, data, SGD, 1, 1, [])
    module.features = ImageFeatures(store, 2)
    with pytest.raises(ValueError, match="read pixels.*give features.views=online"):
        trainer(1).fit(module)
