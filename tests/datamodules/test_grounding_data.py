"""The datamodule of referring expressions: which train, its lists, its batches of images of any size."""

import PIL.Image
import pytest
import torch
from toys import IMAGE_SPEC

from datamodules.grounding import Expression, GroundingData, GroundingSplits
from datamodules.refer_scenes import DrawnReferences

BOX, OTHER = (0.0, 0.0, 4.0, 5.0), (1.0, 1.0, 7.0, 6.0)


class Toys:
    """Two expressions for each image; image n is 8 + n pixels wide and 6 + 2n high, and all its pixels are n + 1."""

    in_memory = True
    proposals = "gold"
    unreadable = ()

    def splits(self, seed):
        def items(split, count):
            return [
                Expression(f"{split}/{i // 2}", f"{split}{i // 2}", f"{split}-{i}", f"thing {i}", BOX, (BOX, OTHER))
                for i in range(count)
            ]

        return GroundingSplits(items("train", 12), items("val", 4), items("test", 7))

    def open(self, item):
        if item.path in self.unreadable:
            raise ValueError(f"{item.path} cannot be read")
        number = int(item.path.partition("/")[2])
        return PIL.Image.new("RGB", (8 + number, 6 + 2 * number), (number + 1,) * 3)


def data(source=None, shots=5, seed=1, **options):
    return GroundingData("toys", source or Toys(), IMAGE_SPEC, shots, seed, **{"batch_size": 2, "eval_batch_size": 3} | options)


def ids(items):
    return [item.expression_id for item in items]


def test_3_4_12_shots_are_expressions_and_the_same_ones_for_a_seed():
    for seed in (0, 1, 2, 3, 4):
        for shots in (1, 2, 4, 8):
            drawn = ids(data(shots=shots, seed=seed).train_items)
            assert len(set(drawn)) == shots
            assert drawn == ids(data(shots=shots, seed=seed).train_items)
            everything = ids(Toys().splits(1).train)
            assert sorted(drawn, key=everything.index) == drawn
    assert len({tuple(ids(data(shots=4, seed=seed).train_items)) for seed in range(5)}) > 1
    assert len(data(shots=-1).train_items) == 12


def test_zero_shots_train_on_nothing_and_are_tested_all_the_same():
    zero = data(shots=0)
    assert zero.train_items == []
    assert zero.trained_on == "no training expressions"
    assert zero.classnames == ["thing 0"]
    assert len(zero.evaluation("toys", "test", "all").items) == 7
    assert zero.selection()["train"] == []
    with pytest.raises(ValueError, match="There are no training images: check shots"):
        zero.train_loader()


def test_a_result_says_what_trained_and_what_the_proposals_are():
    some = data(shots=2)
    assert some.selection() == {"train": ids(some.train_items), "val": [f"val-{i}" for i in range(4)], "proposals": "gold"}
    assert some.trained_on == "2 training expressions for things in 2 images"
    assert some.class_list() == some.classnames


def test_too_many_shots_class_subsets_and_missing_lists():
    with pytest.raises(ValueError, match="shots=13: data=toys has 12 training expressions; give fewer, 0 for none or -1"):
        data(shots=13)
    with pytest.raises(ValueError, match="subset=base: data=toys has no classes"):
        data(subset="base")
    with pytest.raises(ValueError, match="data=toys has no classes, so it has no subset=new"):
        data().evaluation("new", "test", "new")
    lonely = data(type("Lonely", (Toys,), {"splits": lambda self, seed: GroundingSplits([], [], Toys().splits(1).test)})(), 0)
    with pytest.raises(ValueError, match="data=toys has no validation expressions, and this run needs them: give the dataset"):
        lonely.items("val")


def test_a_tested_image_is_not_validated_on():
    class Shared(Toys):
        def splits(self, seed):
            lists = super().splits(seed)
            return GroundingSplits(lists.train, lists.test[:1], lists.test)

    with pytest.raises(ValueError, match="test/0 is a validation image and a test image"):
        data(Shared())


def test_batches_keep_the_pixels_of_each_image_and_are_black_beside_them():
    test = data()
    rows = []
    for rank in (0, 1):
        for batch in test.eval_loader("test", rank=rank, world=2):
            assert batch["image"].dtype == torch.uint8
            assert batch["image"].shape[2:] == tuple(batch["size"].amax(0).tolist())
            shown = zip(batch["image"], batch["size"].tolist(), batch["index"].tolist(), strict=True)
            for image, (height, width), index in shown:
                number = index // 2
                assert (height, width) == (6 + 2 * number, 8 + number)
                assert (image[:, :height, :width] == number + 1).all()
                assert image.sum() == 3 * height * width * (number + 1)
                rows.append(index)
    assert sorted(rows) == list(range(7))


def test_training_batches_are_those_of_one_rank_on_two_and_after_a_resume():
    def batches(loaders):
        return [[(b["index"].tolist(), b["image"].sum().item()) for b in loader] for loader in loaders]

    one = data(shots=-1, batch_size=4)
    whole = batches([one.train_loader()])[0]
    halves = batches([data(shots=-1, batch_size=4).train_loader(rank, 2) for rank in (0, 1)])
    assert [sorted(index for index, _ in whole[k : k + 1])[0] for k in range(3)] == [
        [a for pair in zip(x[0], y[0], strict=True) for a in pair] for x, y in zip(*halves, strict=True)
    ]
    loader = one.train_loader()
    stopped = iter(loader)
    next(stopped)
    state = loader.state_dict()
    again = data(shots=-1, batch_size=4).train_loader()
    again.load_state_dict(state)
    assert [b["index"].tolist() for b in again] == [index for index, _ in whole[1:]]


def test_an_image_that_cannot_be_read_weighs_nothing():
    source = Toys()
    source.unreadable = ("test/1",)
    with pytest.raises(ValueError, match="test/1 cannot be read"):
        list(data(source).eval_loader("test"))
    skipping = data(source, on_bad_image="skip")
    batches = list(skipping.eval_loader("test"))
    assert torch.cat([batch["weight"] for batch in batches]).tolist() == [1, 1, 0, 0, 1, 1, 1]
    assert skipping.bad_images() == ["test/1"]


def test_drawn_expressions_are_loaded_too():
    drawn = GroundingData("scenes_refer", DrawnReferences(), IMAGE_SPEC, shots=4, seed=1, batch_size=4)
    (batch,) = drawn.train_loader()
    assert batch["image"].shape == (4, 3, 64, 64)
    for index in batch["index"].tolist():
        assert drawn.train_items[index].gold in drawn.train_items[index].proposals
