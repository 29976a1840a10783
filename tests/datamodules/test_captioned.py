"""Captioned images as a run sees them: which train, what an evaluation holds, and that loaders and lists agree."""

import PIL.Image
import pytest
import torch
from torch.utils.data import DataLoader

from datamodules.captioned import CaptionedData, CaptionedImage, CaptionSplits
from datamodules.questions import Question, QuestionData
from datamodules.transforms import train_transform

SPEC = {"size": 8, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


class Source:
    """Ten training, three validation and five test images, the number of each in its colour."""

    def __init__(self, items=None, unreadable=()):
        paths = {"train": range(10), "val": range(10, 13), "test": range(13, 18)}
        made = {split: [CaptionedImage(f"{i}.png", i, (f"image {i}", f"number {i}")) for i in r] for split, r in paths.items()}
        self.lists, self.unreadable = CaptionSplits(**(made | (items or {}))), unreadable

    def splits(self, seed):
        """The same for every seed."""
        return self.lists

    def open(self, item):
        """A grey picture as bright as the number."""
        if item.path in self.unreadable:
            raise ValueError(f"image {item.path} cannot be decoded")
        return PIL.Image.new("RGB", (8, 8), (10 * int(item.path.partition(".")[0]),) * 3)


def data(source=None, shots=-1, seed=1, **arguments):
    return CaptionedData("pictures", source or Source(), SPEC, shots, seed, **({"batch_size": 4} | arguments))


def numbers(batch):
    """The number that each picture of a batch shows."""
    return (batch["image"][:, 0, 0, 0].long() // 10).tolist()


def test_all_images_train_unless_shots_says_how_many():
    assert [item.image_id for item in data().train_items] == list(range(10))
    few = data(shots=4)
    drawn = [item.image_id for item in few.train_items]
    assert len(drawn) == 4
    assert drawn == sorted(drawn)
    assert drawn == [item.image_id for item in data(shots=4).train_items]
    assert {tuple(item.image_id for item in data(shots=4, seed=seed).train_items) for seed in range(6)} != {tuple(drawn)}
    assert (len(few.val_items), len(few.test_items)) == (3, 5)  # which are never drawn from
    with pytest.raises(ValueError, match="shots=11: data=pictures has 10 training images; give fewer, or shots=-1 for all"):
        data(shots=11)


@pytest.mark.parametrize("world", [1, 2])
def test_an_index_of_a_batch_is_the_position_of_its_texts(world):
    pictures = data(shots=7)
    seen = []
    for rank in range(world):
        loader = pictures.train_loader(rank, world)
        loader.set_epoch(0)
        for batch in loader:
            real = [
                (i, n) for i, n, w in zip(batch["index"].tolist(), numbers(batch), batch["weight"].tolist(), strict=True) if w
            ]
            assert all(pictures.train_items[index].image_id == number for index, number in real)
            assert batch["label"].eq(0).all()
            seen += [index for index, _ in real]
    assert len(seen) == len(set(seen)) == 4  # one full step of four; the three left over are dropped


def test_an_evaluation_brings_its_items():
    evaluation = data().evaluation("pictures", "test", "all")
    assert (evaluation.name, evaluation.classnames, evaluation.images) == ("pictures", [], 5)
    found = {}
    for rank in range(2):
        loader = evaluation.loader(rank, 2)
        assert isinstance(loader, DataLoader)
        for batch in loader:
            found |= dict(zip(batch["index"].tolist(), numbers(batch), strict=True))
    assert found == {index: item.image_id for index, item in enumerate(evaluation.items)}
    assert [item.captions for item in evaluation.items][0] == ("image 13", "number 13")


def test_training_images_are_whole_unless_the_transform_says_otherwise():
    gradient = PIL.Image.linear_gradient("L").convert("RGB")
    source = Source()
    source.open = lambda item: gradient
    whole = next(iter(data(source).train_loader()))["image"]
    assert torch.equal(whole, next(iter(data(source).eval_loader("train")))["image"][:4])
    cropped = next(iter(data(source, train_transform=train_transform).train_loader()))["image"]
    assert not torch.equal(whole, cropped)


def test_a_model_is_first_bound_to_the_captions_of_the_first_image():
    assert data().classnames == data().class_list() == ["image 0", "number 0"]
    assert data(Source({"train": []})).classnames == ["image 13", "number 13"]
    bare = [CaptionedImage("1.png", 1, ())]
    assert data(Source({"train": [], "test": bare})).classnames == [""]


def test_what_a_result_and_the_screen_say_of_the_selection():
    assert data(shots=2).trained_on == "2 training images, 4 captions"
    assert data(shots=2, seed=3).selection()["val"] == ["10.png", "11.png", "12.png"]
    many = [CaptionedImage(f"{i}.png", i, ("a",)) for i in range(20_000, 30_001)]
    summary = data(Source({"train": many})).selection()["train"]
    assert (summary["images"], len(summary["sha256"])) == (10_001, 64)


def test_what_cannot_be_is_one_sentence():
    with pytest.raises(ValueError, match="subset=base: data=pictures has no classes"):
        data(subset="base")
    with pytest.raises(ValueError, match="data=pictures has no classes, so it has no subset=new"):
        data().evaluation("new", "test", "new")
    with pytest.raises(
        ValueError, match="data=pictures has no validation images, and this run needs them: give the dataset a val"
    ):
        data(Source({"val": []})).evaluation("val", "val", "all")
    with pytest.raises(ValueError, match=r"13\.png is a validation image and a test image"):
        data(Source({"val": [CaptionedImage("13.png", 13, ("a",))]}))
    with pytest.raises(ValueError, match=r"data\.batch_size=0: give an integer, 1 or more"):
        data(batch_size=0)
    with pytest.raises(ValueError, match="There are no training images"):
        data(Source({"train": []})).train_loader()


def test_an_image_that_cannot_be_read_stops_the_run_or_weighs_nothing():
    with pytest.raises(ValueError, match=r"image 2\.png cannot be decoded"):
        list(data(Source(unreadable={"2.png"}), batch_size=10).train_loader())
    pictures = data(Source(unreadable={"2.png"}), batch_size=10, on_bad_image="skip")
    (batch,) = list(pictures.train_loader())
    assert batch["weight"][batch["index"] == 2].tolist() == [0]
    assert pictures.bad_images() == ["2.png"]


def test_questions_are_drawn_by_their_images():
    asked = {split: [Question(f"{i // 3}.png", i // 3, i, f"What is {i}?", ("a",) * 10) for i in r]
             for split, r in {"train": range(12), "val": range(12, 15), "test": range(15, 21)}.items()}  # fmt: skip
    made = QuestionData("asked", Source(asked), SPEC, 2, 1, batch_size=6)
    images = {question.path for question in made.train_items}
    assert (len(images), len(made.train_items)) == (2, 6)
    assert made.offers == ("questions about images",) != CaptionedData.offers
    (batch,) = list(made.train_loader())
    assert numbers(batch) == [made.train_items[index].image_id for index in batch["index"].tolist()]
    assert made.classnames == [made.train_items[0].question]
    assert made.evaluation("asked", "test", "all").images == 6
    assert made.selection()["train"] == sorted(images)  # an image once
    assert made.trained_on == "6 questions about 2 training images"
    with_captions = {"train": [Question("0.png", 0, 0, "What is 0?", ("a",) * 10, ("a cat", "a dog"))]}
    assert QuestionData("asked", Source(asked | with_captions), SPEC, -1, 1).classnames == ["a cat", "a dog"]
