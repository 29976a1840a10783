"""Relations: recall at K, what the method is given, files and refusals."""

import json

import numpy as np
import pytest
import torch
from small_places import ADAM, ByColour, Scaled
from small_runs import trainer
from toys import toy_clip

from datamodules.drawn_relations import RELATIONS, DrawnRelations
from datamodules.relation_items import PairSplits
from datamodules.relations import PairData
from lightning_modules.relation import Relations, recalls
from prompts.learner import GradientFree, TrainInfo
from prompts.prompted_clip import PromptedCLIP


class Ten(DrawnRelations):
    def splits(self, seed):
        splits = super().splits(seed)
        return PairSplits([], [], splits.test[:10], splits.relations)


class Horizontal(GradientFree):
    """Sees what is left and what is right, by the boxes."""

    offers = ("scores of relations",)

    def __init__(self):
        super().__init__()
        self.seen = []

    def bind(self, clip, classnames):
        pass

    def relation_scores(self, clip, images, boxes, names, relations):
        self.seen += zip(images, names, strict=True)
        right = torch.stack([torch.sign(two[0, 0] - two[1, 0]) for two in boxes])
        return torch.stack([-right, right, 0 * right - 2, 0 * right - 3], 1)


def module_of(learner=None, **options):
    data = PairData("drawn", Ten(), toy_clip().image_spec, shots=0, seed=1, eval_batch_size=4)
    model = PromptedCLIP(toy_clip(), learner or Horizontal())
    model.setup(TrainInfo(data.classnames, 0))
    return data, Relations(model, data, ADAM, 1, 1, [data.evaluation("drawn", "test", "all")], [], **options)


def test_recall_at_k():
    scores = np.array([[3.0, 2, 1, 0], [3, 2, 1, 0], [0, 0, 1, 0], [0, 0, 0, 0]])
    metrics = recalls(scores, np.array([0, 1, 1, 1]), list("abcd"), [1, 2, 4])
    assert metrics["accuracy"] == 25.0
    assert metrics["recall_2"] == 75.0  # equal scores stand in the order of the relations
    assert metrics["mean_recall_1"] == 50.0
    assert metrics["mean_recall_2"] == pytest.approx((100 + 200 / 3) / 2)
    assert metrics["by_relation"] == {"a": 100.0, "b": 0.0}
    assert (metrics["chance"], metrics["pairs"]) == (25.0, 4)
    assert "recall_4" not in metrics


def test_a_run_and_its_file(tmp_path):
    data, module = module_of(ks=[2])
    trainer().test(module, verbose=False)
    items = data.listed("test")
    flat = [item.label < 2 for item in items]
    metrics = module.metrics["drawn"]
    assert metrics["accuracy"] == pytest.approx(100 * np.mean(flat))
    assert 0 < metrics["accuracy"] < 100
    assert set(metrics["by_relation"]) <= set(RELATIONS)
    assert [names for _, names in module.model.learner.seen] == [(item.subject, item.object) for item in items]
    assert all(image.shape == (3, 64, 64) for image, _ in module.model.learner.seen)
    module.write_files(tmp_path)
    lines = json.loads((tmp_path / "relations_drawn.json").read_text())
    assert [line["relation"] == line["true"] for line in lines] == flat
    assert "mean over relations" in module.line(metrics)


def test_what_is_refused():
    with pytest.raises(ValueError, match="whole numbers above 1"):
        module_of(ks=[1])
    learner = Scaled()
    with pytest.raises(ValueError, match="this task trains nothing"):
        module_of(learner)
    lost = ByColour()
    lost.relation_scores = lambda clip, images, *rest: torch.full((len(images), 4), float("nan"))
    with pytest.raises(ValueError, match="a score of pair placed/test/0 is not finite"):
        trainer().test(module_of(lost)[1], verbose=False)
