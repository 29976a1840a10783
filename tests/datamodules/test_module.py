from dataclasses import replace

import numpy as np
import pytest
from toys import IMAGE_SPEC, NAMES, ToySource

from datamodules.module import FewShotData


def data(**arguments):
    return FewShotData(**{"name": "toy", "source": ToySource(), "image_spec": IMAGE_SPEC, "shots": 4, "seed": 1} | arguments)


def test_base_and_new_halves_share_one_selection():
    everything, base = data(), data(subset="base")
    assert everything.classnames == NAMES
    assert base.classnames == NAMES[:3]
    assert base.class_list("new") == NAMES[3:]
    assert [i.path for i in base.train_items] == [i.path for i in everything.train_items if i.classname in NAMES[:3]]
    assert {i.label for i in base.splits("new").test} == {0, 1}
    assert base.selection() == {
        "train": [i.path for i in base.train_items],
        "val": [i.path for i in base.val_items],
    }


def test_loaders_hand_out_the_right_images():
    toy = data(eval_batch_size=8)
    train = next(iter(toy.train_loader()))
    assert train["image"].shape == (20, 3, 32, 32)
    assert train["weight"].sum().item() == pytest.approx(1)
    new = list(toy.eval_loader("test", "new"))
    assert sum(len(batch["label"]) for batch in new) == 14
    assert {label for batch in new for label in batch["label"].tolist()} == {0, 1}
    assert len(list(toy.eval_loader("val"))[0]["label"]) == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shots": "many"}, "shots='many'"),
        ({"subset": "old"}, "subset=old is not known: use all, base, new, or k/n"),
        ({"subset": "1/9"}, "subset=1/9 needs 9 classes or more, and the dataset has 5"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"workers": -1}, "workers=-1"),
        ({"views": 0}, "views=0"),
        ({"alternating_batch_size": -1}, "alternating_batch_size=-1"),
        ({"order": "sorted"}, "order='sorted': choose one of random, windowed"),
        ({"augmentation": "randaug"}, "augmentation='randaug'"),
        ({"on_bad_image": "ignore"}, "on_bad_image='ignore'"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        data(**arguments)


def test_the_linear_probes_own_sampler():
    toy = data(sampler="numpy", shots=3)
    rng = np.random.RandomState(1)
    train = [f"train/{c}/{i}.png" for c in range(5) for i in rng.choice(20, 3, replace=False)]
    val = [f"val/{c}/{i}.png" for c in range(5) for i in rng.choice(5, 3, replace=False)]
    assert toy.selection() == {"train": train, "val": val}
    assert len(data(sampler="numpy", shots=50).train_items) == 100
    assert len(data(sampler="numpy", shots=-1).val_items) == 25


class Without(ToySource):
    """The toy data without the images of a split."""

    def __init__(self, split: str) -> None:
        self.split = split

    def splits(self, seed):
        return replace(super().splits(seed), **{self.split: []})


@pytest.mark.parametrize(("split", "kind"), [("test", "test"), ("val", "validation")])
def test_an_evaluation_of_nothing_is_refused(split, kind):
    toy = data(source=Without(split))  # to train on such data is fine
    assert len(toy.train_items) == 20
    with pytest.raises(ValueError, match=f"data=toy has no {kind} images in subset=all, and this run needs them"):
        toy.evaluation(split, split, "all")


def test_a_class_subset_without_test_images_is_refused():
    class Half(ToySource):
        def splits(self, seed):
            splits = super().splits(seed)
            return replace(splits, test=[item for item in splits.test if item.label < 3])

    toy = data(source=Half(), subset="base")
    base = toy.evaluation("base", "test", "base")
    assert (base.name, base.classnames, base.images) == ("base", NAMES[:3], 21)
    assert sum(len(batch["label"]) for rank in (0, 1) for batch in base.loader(rank, 2)) == 21
    with pytest.raises(ValueError, match="no test images in subset=new"):
        toy.evaluation("new", "test", "new")


def test_alternating_batches_without_validation_images_are_refused():
    with pytest.raises(ValueError, match="no validation images in subset=all, and this run needs them: give the dataset a val"):
        data(source=Without("val"), alternating_batch_size=5)


def test_three_groups_of_classes_of_one_selection():
    groups = [data(subset=f"{k}/3") for k in (1, 2, 3)]
    assert [group.classnames for group in groups] == [NAMES[:2], NAMES[2:4], NAMES[4:]]
    assert [item.path for group in groups for item in group.train_items] == [item.path for item in data().train_items]
    assert [evaluation.images for evaluation in (groups[0].evaluation("x", "test", f"{k}/3") for k in (1, 2, 3))] == [14, 14, 7]
