"""Pairs of things with their relation: drawn ones, and Visual Genome's file."""

import numpy as np
import pytest
from relation_trees import content, genome
from toys import IMAGE_SPEC

from datamodules.drawn_relations import RELATIONS, DrawnRelations, relation_of
from datamodules.placed import draw_placed
from datamodules.relations import PairData


def test_where_a_thing_is():
    middle = (20.0, 20.0, 30.0, 30.0)
    at = {"left of": (0, 22, 10, 32), "right of": (40, 20, 50, 30), "above": (22, 0, 32, 10), "below": (18, 41, 28, 51)}
    assert {name: RELATIONS[relation_of(box, middle)] for name, box in at.items()} == {name: name for name in RELATIONS}
    assert relation_of((10.0, 20.0, 20.0, 30.0), middle) is None  # too near
    assert relation_of((0.0, 0.0, 10.0, 10.0), middle) is None  # left of it as much as above it


def test_drawn_pairs_are_of_their_pictures():
    splits = DrawnRelations().splits(1)
    assert splits == DrawnRelations().splits(2)
    assert (splits.train, splits.val) == ([], [])
    counts = np.bincount([pair.label for pair in splits.test])
    assert len(counts) == 4
    assert counts.min() > 30
    pair = splits.test[3]
    boxes = {f"{thing.thing.colour} {thing.thing.shape}": thing.box for thing in draw_placed(pair.path)[1]}
    assert (boxes[pair.subject], boxes[pair.object]) == (pair.subject_box, pair.object_box)
    assert relation_of(pair.subject_box, pair.object_box) == pair.label
    assert DrawnRelations().open(pair).size == (64, 64)


def test_pairs_as_data():
    data = PairData("drawn", DrawnRelations(), IMAGE_SPEC, shots=0, seed=1, eval_batch_size=50)
    evaluation = data.evaluation("drawn", "test", "all")
    assert evaluation.classnames == list(RELATIONS)
    seen = [i for rank in (0, 1) for batch in evaluation.loader(rank, 2) for i in batch["index"].tolist()]
    assert sorted(seen) == list(range(len(evaluation.items)))
    for options, sentence in (({"shots": 4}, "nothing is learned"), ({"subset": "base"}, "no class subsets")):
        with pytest.raises(ValueError, match=sentence):
            PairData("drawn", DrawnRelations(), IMAGE_SPEC, **({"shots": 0, "seed": 1} | options))
    with pytest.raises(ValueError, match="no validation pairs"):
        data.evaluation("val", "val", "all")
    with pytest.raises(ValueError, match="nothing to learn from"):
        data.train_loader()


def test_visual_genome(tmp_path, put_images):
    put_images(tmp_path / "vg", ["VG_100K/5.jpg", "VG_100K_2/6.jpg"])
    source = genome(tmp_path, content())
    splits = source.splits(1)
    assert [pair[:7] for pair in splits.test] == [
        ("VG_100K/5.jpg", 5, 50, "cup", (1.0, 2.0, 4.0, 6.0), "table", (0.0, 2.0, 3.0, 6.0)),
        ("VG_100K_2/6.jpg", 6, 60, "a", (2.0, 2.0, 5.0, 6.0), "b", (3.0, 2.0, 6.0, 6.0)),
    ]
    assert [splits.relations[pair.label] for pair in splits.test] == ["on", "in front of"]
    assert source.open(splits.test[0]).size == (4, 3)
    assert source.digest(1) == genome(tmp_path, content()).digest(1)


def test_what_is_missing_is_named(tmp_path, put_images):
    put_images(tmp_path / "vg", ["VG_100K/5.jpg"])
    with pytest.raises(ValueError, match=r"VG_100K/6.jpg"):
        genome(tmp_path, content()).splits(1)
    with pytest.raises(ValueError, match="no pair with one of the relations under"):
        genome(tmp_path, content(), relations=["under"]).splits(1)
    with pytest.raises(ValueError, match="name at least one, and each once"):
        genome(tmp_path, content(), relations=["on", "on"])
