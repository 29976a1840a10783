"""Nothing is chosen on test images: the images to choose on, for every layout whose validation list is its test list."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from large import FORMATS
from lightning.pytorch import Trainer
from toys import IMAGE_SPEC, ToySource
from val_is_test import LAYOUTS, WNIDS, NoVal, imagenet, source_of

from datamodules.imagenet import ImageNet
from datamodules.items import ItemTable
from datamodules.module import FewShotData
from datamodules.validation import hold_out
from lightning_modules.fitting import fit_on_features
from prompts.linear_probe import LinearProbe


@pytest.fixture
def source(request, tmp_path, put_images, put_text, monkeypatch):
    """The source of a layout, which notes the path of each image that it opens."""
    made = source_of(request.param, tmp_path, put_images, put_text, monkeypatch)
    opened, of_source = [], made.open
    monkeypatch.setattr(made, "open", lambda item: opened.append(item.path) or of_source(item))
    made.opened = opened
    return made


def data_of(source, shots=2, **settings):
    return FewShotData("some", source, IMAGE_SPEC, shots, **{"seed": 1, "batch_size": 3} | settings)


def paths(items):
    return {item.path for item in items}


def by_epochs(data):
    """The images that select=best_val evaluates."""
    evaluation = data.evaluation("val", "val", "all")
    assert sum(len(batch["label"]) for batch in evaluation.loader(0, 1)) == evaluation.images


def by_hook(data):
    """Lightning's hook."""
    data.trainer = SimpleNamespace(global_rank=0, world_size=1)
    list(data.val_dataloader())


def by_probe(data):
    """Those of a method that fits on features."""
    encode = SimpleNamespace(embed_dim=3, encode_image=lambda image: image.float().mean((2, 3)))
    probe = LinearProbe(max_iter=1)
    probe.weight, probe.bias = torch.nn.Parameter(torch.zeros(5, 3)), torch.nn.Parameter(torch.zeros(5))
    probe.requires_grad_(False)
    model = SimpleNamespace(
        learner=probe, clip=encode, to=lambda device: None, check_finite=lambda: None, images_are_frozen=False
    )
    fit_on_features(model, data, Trainer(accelerator="cpu", logger=False, enable_progress_bar=False), 1)


def by_turns(data):
    """Those of alternating batches, as of a search for prompt lengths."""
    data = data_of(data.source, alternating_batch_size=4)
    for _ in range(4):
        list(data.train_loader())


@pytest.mark.parametrize("chooses", [by_epochs, by_hook, by_probe, by_turns])
@pytest.mark.parametrize("source", LAYOUTS, indirect=True)
def test_no_test_image_is_opened_to_choose(source, chooses):
    data = data_of(source)
    chooses(data)
    tested, trained, everything = paths(data.test_items), paths(data.train_items), paths(source.splits(1).train)
    assert source.opened
    assert not set(source.opened) & tested
    chosen_on = paths(data.val_items)
    assert chosen_on
    assert set(source.opened) <= trained | chosen_on
    assert chosen_on & set(source.opened)
    assert not chosen_on & (trained | tested)
    assert len(everything) == len(trained) or chosen_on <= everything


@pytest.mark.parametrize("sampler", ["coop", "numpy"])
@pytest.mark.parametrize("shots", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("which", ["all", "new"])
def test_as_many_per_class_as_published(sampler, shots, which):
    """The published linear probe chooses on 1, 2, 4, 4, 4 images per class at 1, 2, 4, 8, 16 shots."""
    data = data_of(NoVal(), shots, sampler=sampler, subset=which)
    labels = [item.label for item in data.val_items]
    assert [labels.count(label) for label in range(len(data.classnames))] == [min(shots, 4)] * len(data.classnames)
    assert {(item.label, item.classname) for item in data.val_items} == {(i.label, i.classname) for i in data.train_items}
    assert data_of(NoVal(), shots, sampler=sampler, subset=which).val_items == data.val_items
    own = data_of(ToySource(), shots, sampler=sampler, subset=which)
    assert own.train_items == data.train_items, "held-out images change nothing in the selection"
    assert paths(own.val_items) <= paths(ToySource().splits(1).val), "images of its own val split are no others"


def test_other_seeds_and_samplers_hold_out_other_images():
    drawn = [paths(data_of(NoVal(), 4, **k).val_items) for k in ({"seed": 1}, {"seed": 2}, {"sampler": "numpy"})]
    assert drawn[0] != drawn[1] != drawn[2] != drawn[0]


@pytest.mark.parametrize("source", FORMATS, indirect=True)
@pytest.mark.parametrize("sampler", ["coop", "numpy"])
def test_tables_hold_out_what_lists_do(source, sampler):
    full = source.splits(1)
    lists = replace(full, train=list(full.train), val=list(full.val), test=list(full.test))
    for shots in (1, 2, 3, 4):
        table, plain = (data_of(SimpleNamespace(splits=lambda seed, s=s: s), shots, sampler=sampler) for s in (full, lists))
        assert isinstance(table.val_items, ItemTable)
        assert list(table.val_items) == plain.val_items
        assert len(plain.val_items) == 3 * min(shots, 5 - shots)
    assert not len(hold_out(full, full.train, -1, 1))


@pytest.mark.parametrize("source", LAYOUTS, indirect=True)
def test_held_out_where_something_needs_it_and_listed_then(source, monkeypatch):
    data, reads, of_source = data_of(source), [], source.splits
    monkeypatch.setattr(source, "splits", lambda seed: reads.append(seed) or of_source(seed))

    def listed():
        val = data.selection()["val"]
        return len(val) if isinstance(val, list) else val["images"]

    list(data.eval_loader("test"))
    assert (listed(), reads) == (0, [])
    data.evaluation("val", "val", "all")
    data.evaluation("val", "val", "base")
    assert len(reads) == 1
    assert listed() == len(data.val_items) == 2 * len(data.classnames)
    if isinstance(data.selection()["val"], list):
        assert set(data.selection()["val"]) == paths(data.val_items)


@pytest.mark.parametrize("source", LAYOUTS, indirect=True)
def test_with_all_images_nothing_is_left_to_choose_on(source):
    data = data_of(source, -1)
    assert sum(len(batch["label"]) for batch in data.eval_loader("test")) == len(data.test_items)
    assert not len(data.val_items)
    by_hook(data)  # a loop without validation images
    source.opened.clear()
    for choose in (by_epochs, by_probe, lambda data: data_of(source, -1, alternating_batch_size=2)):
        with pytest.raises(ValueError, match=r"no validation images in subset=all.*no training image is left .* shots=N"):
            choose(data)
    assert not source.opened, "refused before an image is read"


class Leaky(ToySource):
    """One of its validation images is a test image, which the lists do not say."""

    def splits(self, seed):
        splits = super().splits(seed)
        return replace(splits, val=[*splits.val[1:], splits.test[3]])


def test_a_validation_image_that_is_a_test_image_is_refused():
    data = data_of(Leaky(), -1)
    list(data.eval_loader("test"))
    with pytest.raises(ValueError, match=r"data=some: test/0/3.png is a validation image and a test image"):
        data.evaluation("val", "val", "all")


def test_held_out_images_that_cannot_be_read_are_named(tmp_path, put_images, put_text):
    (imagenet(tmp_path, put_images, put_text) / "images/train" / WNIDS[1] / "3.JPEG").write_bytes(b"no image")
    broken = f"train/{WNIDS[1]}/3.JPEG"
    seeds = [seed for seed in range(9) if broken in paths(data_of(ImageNet(str(tmp_path), "imagenet"), seed=seed).val_items)]
    data = data_of(ImageNet(str(tmp_path), "imagenet"), seed=seeds[0], alternating_batch_size=6, on_bad_image="skip")
    list(data.train_loader())
    assert data.bad_images() == [broken]


def test_a_million_images_take_seconds(benchmark_table):
    data = data_of(SimpleNamespace(splits=lambda seed: benchmark_table), 16)
    assert len(data.val_items) == 4 * 1000
    assert not np.isin(data.val_items.rows, data.train_items.rows).any()


@pytest.fixture
def benchmark_table():
    """A million rows; the path of a row must not be asked for."""
    from datamodules.items import Splits

    labels = np.repeat(np.arange(1000, dtype=np.int32), 1000)

    def table(labels):
        rows = np.arange(len(labels))
        return ItemTable(rows, labels, [str(c) for c in range(1000)], lambda row: pytest.fail("not lazy"), rows // 5000)

    test = table(labels[::20])
    return Splits(table(labels), test, test, fixed=frozenset({"val"}))
