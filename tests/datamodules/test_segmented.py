"""Segmentation data as a run sees them: batches, their seeds, and what is refused."""

import numpy as np
import PIL.Image
import pytest
import torch
from mask_trees import put_ade, put_map, put_own, put_picture

from datamodules.drawn_masks import DrawnMasks
from datamodules.own_masks import OwnMasks
from datamodules.segmentation_sets import ADE20K
from datamodules.segmented import IGNORE, SegmentedData

SPEC = {"size": 32, "mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}


def drawn(shots=10, seed=1, **arguments):
    given = {"batch_size": 4, "crop": 64, "ratio": (0.75, 1.5), "eval_batch_size": 8} | arguments
    return SegmentedData("scenes_masks", DrawnMasks(), SPEC, shots, seed, **given)


def own(tmp_path, shots=-1, **arguments):
    return SegmentedData(
        "own", OwnMasks("", str(put_own(tmp_path))), SPEC, shots, 1, crop=16, **({"batch_size": 2} | arguments)
    )


def by_index(batches):
    """{index: (image, mask)} of all rows that count."""
    found = {}
    for batch in batches:
        for i, weight in enumerate(batch["weight"].tolist()):
            if weight:
                found[int(batch["index"][i])] = batch["image"][i], batch["mask"][i]
    return found


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(a, b) for key in one for a, b in zip(one[key], other[key], strict=True)
    )


def test_batches_of_training_and_of_evaluation():
    data = drawn()
    assert data.offers == ("label maps",)
    [first, *_] = data.train_loader()
    assert {key: (tuple(value.shape), value.dtype) for key, value in first.items()} == {
        "image": ((4, 3, 64, 64), torch.uint8),
        "mask": ((4, 64, 64), torch.uint8),
        "weight": ((4,), torch.float32),
        "label": ((4,), torch.int64),
        "index": ((4,), torch.int64),
        "batch_index": ((4,), torch.int64),
    }
    assert first["weight"].tolist() == [0.25] * 4
    evaluation = data.evaluation("test", "test", "all")
    assert (evaluation.images, len(evaluation.items)) == (200, 200)
    assert evaluation.classnames == data.classnames == data.class_list() == DrawnMasks().splits(1).classnames
    batch = next(iter(evaluation.loader(0, 1)))
    item, source = evaluation.items[int(batch["index"][3])], DrawnMasks()
    assert (batch["mask"][3].numpy() == source.open_mask(item)).all()
    assert (batch["image"][3].permute(1, 2, 0).numpy() == np.asarray(source.open(item))).all()
    assert "10 training images of 9 classes" in data.trained_on
    assert len(data.selection()["train"]) == 10


def test_a_sample_depends_on_seed_epoch_and_index_alone():
    loader = drawn().train_loader()
    first = by_index(loader)
    assert same(first, by_index(loader))
    assert same(first, by_index(drawn().train_loader()))
    halves = [by_index(drawn().train_loader(rank, 2)) for rank in range(2)]
    assert not halves[0].keys() & halves[1].keys()
    assert same(first, halves[0] | halves[1])
    assert same(first, by_index(drawn(batch_size=4, workers=1).train_loader()))
    loader.set_epoch(1)
    later = by_index(loader)
    both = first.keys() & later.keys()
    assert both
    assert not any(torch.equal(first[index][0], later[index][0]) for index in both)


def test_a_loader_goes_on_where_it_stopped_and_leaves_the_generators_alone():
    loader = drawn().train_loader()
    loader.set_epoch(2)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    rest = next(batches)
    assert torch.equal(torch.rand(3), expected)
    resumed = drawn().train_loader()
    resumed.load_state_dict(state)
    again = next(iter(resumed))
    assert all(torch.equal(again[key], rest[key]) for key in rest)


def test_masks_of_the_file_and_images_of_the_test(tmp_path):
    data = own(tmp_path, scale=(32, 16))
    for split, batches in {"test": data.eval_loader("test"), "val": data.eval_loader("val")}.items():
        for batch in batches:
            assert batch["image"].shape == (1, 3, 16, 24), split  # 8 x 12 px, resized
            assert batch["mask"].shape == (1, 8, 12)
            assert batch["mask"].flatten()[:4].tolist() == [0, 1, 2, 255]


def test_images_of_several_sizes_are_evaluated_one_at_a_time(tmp_path):
    data = own(tmp_path, eval_batch_size=2)
    put_picture(tmp_path / "test/images/test1.jpg", (20, 8))
    put_map(tmp_path / "test/masks/test1.png", [0], (20, 8))
    with pytest.raises(ValueError, match=r"label maps of several sizes \(12 x 8 and 20 x 8 px\): .* eval_batch_size=1"):
        list(data.eval_loader())
    assert [tuple(batch["mask"].shape) for batch in own(tmp_path / "more", eval_batch_size=1).eval_loader()] == [(1, 8, 12)] * 2
    assert next(iter(data.train_loader()))["image"].shape == (2, 3, 16, 16)  # crops are of one size
    message = r"eval_batch_size=2: the test images of data=own have several sizes \(12 x 8 and 20 x 8 px\), .*eval_batch_size=1"
    with pytest.raises(ValueError, match=message):  # before anything is read: a run asks for its evaluations before it trains
        data.evaluation("test", "test", "all")
    assert data.evaluation("val", "val", "all").images == 2
    assert own(tmp_path / "more", eval_batch_size=2).evaluation("test", "test", "all").images == 2
    (tmp_path / "test/images/test0.jpg").write_bytes(b"no picture")  # has no size, and is another error, or left out
    assert data.evaluation("test", "test", "all").images == 2


def _other_size(folder):
    put_map(folder / "test/masks/test1.png", [0], (8, 12))


def _colours(folder):
    PIL.Image.new("RGB", (12, 8), (128, 0, 0)).save(folder / "test/masks/test1.png")


def _no_class(folder):
    put_map(folder / "test/masks/test1.png", [0, 3])


def _sixteen_bits(folder):
    PIL.Image.fromarray(np.full((8, 12), 7000, np.uint16)).save(folder / "test/masks/test1.png")


def _jpeg(folder):
    PIL.Image.new("L", (12, 8)).save(folder / "test/masks/test1.png", "JPEG")


def _broken_image(folder):
    (folder / "test/images/test1.jpg").write_bytes(b"\xff\xd8\xff")


BAD = {
    "another size": (_other_size, "label map test/masks/test1.png has 8 x 12 px and its image test/images/test1.jpg 12 x 8"),
    "colours": (_colours, "test1.png is a colour picture .RGB. without class ids: save it with one number for each pixel"),
    "no class": (_no_class, "test1.png has the number 3, which is no class .48 px., where 0 to 2 and 255"),
    "16 bits": (_sixteen_bits, "test1.png has the number 7000, which is no class, where 0 to 2"),
    "no png": (_jpeg, "test1.png cannot be decoded as PNG"),
    "no image": (_broken_image, "image .*test1.jpg cannot be decoded"),
}


@pytest.mark.parametrize("bad", BAD)
def test_what_cannot_be_used_is_one_sentence_or_left_out(tmp_path, bad):
    spoil, words = BAD[bad]
    data = own(tmp_path, eval_batch_size=2, on_bad_image="skip", scale=(32, 16))
    strict = SegmentedData("own", OwnMasks("", str(tmp_path)), SPEC, -1, 1, crop=16, batch_size=2)
    spoil(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        list(strict.eval_loader())
    assert "\n" not in str(caught.value)
    [batch] = data.eval_loader()
    assert batch["weight"].tolist() == [1.0, 0.0]
    assert (batch["mask"][1] == IGNORE).all()
    assert not batch["image"][1].any()
    assert data.bad_images() == ["test/images/test1.jpg"]


def test_a_training_image_that_is_left_out_has_a_blank_crop(tmp_path):
    data = own(tmp_path, on_bad_image="skip")
    (tmp_path / "train/masks/train0.png").write_bytes(b"nothing")
    [batch] = data.train_loader()
    bad = batch["index"].tolist().index(0)
    assert batch["weight"].tolist() == [0.0 if i == bad else 0.5 for i in range(2)]
    assert (batch["mask"][bad] == IGNORE).all()
    assert data.bad_images() == ["train/images/train0.jpg"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"crop": 0}, "data.crop=.0, 0.: give two sides in px"),
        ({"crop": (64, 64, 64)}, "data.crop="),
        ({"scale": (64,)}, "data.scale=.64.: give two sides"),
        ({"scale": (64, 2.5)}, "data.scale="),
        ({"ratio": (2.0, 0.5)}, "data.ratio=.2.0, 0.5.: give the smallest and the largest factor"),
        ({"ratio": (0, 1)}, "data.ratio="),
        ({"cat_max_ratio": 0}, "data.cat_max_ratio=0: give a part above 0"),
        ({"subset": "base"}, "subset=base: data=scenes_masks gives each pixel one of all its classes, so protocol.train"),
        ({"shots": 601}, "shots=601: data=scenes_masks has 600 training images"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(ValueError, match=words):
        drawn(**arguments)


def test_class_subsets_and_lists_that_are_empty_are_refused(tmp_path):
    with pytest.raises(ValueError, match="data=scenes_masks gives each pixel one of all its classes, so it has no subset=new"):
        drawn().evaluation("new", "test", "new")
    put_ade(tmp_path)
    data = SegmentedData("ade20k", ADE20K(str(tmp_path)), SPEC, -1, 1)
    with pytest.raises(ValueError, match="data=ade20k has no validation images, and this run needs them"):
        data.evaluation("val", "val", "all")
    assert data.colours is None


def test_the_scale_follows_the_crop_and_the_command_line_has_the_last_word():
    """The yamls of real datasets, composed as a run composes them."""
    from toys import ROOT

    from runs import jobs

    def data(*overrides):
        return jobs.resolve(jobs.compose_job(list(overrides), ROOT / "conf")[0])["data"]

    resnet, vit = data("data=ade20k"), data("data=ade20k", "data.crop=640", "eval_batch_size=4")
    assert (resnet["crop"], resnet["scale"], resnet["eval_batch_size"]) == (512, [2048, 512], 1)
    assert (vit["crop"], vit["scale"], vit["eval_batch_size"]) == (640, [2048, 640], 4)
    assert data("data=cityscapes")["crop"] == [512, 1024]
