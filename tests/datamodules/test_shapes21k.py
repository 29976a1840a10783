from collections import Counter
from itertools import islice

import numpy as np
import pytest
from large import FORMATS

from datamodules import shapes21k
from datamodules.captions import WORDS
from datamodules.drawing import COLOURS, SHAPES, TEXTURES
from datamodules.shapes import CLASSES as FEW
from datamodules.shapes import SEARCH_CLASSES
from datamodules.shapes21k import SIZES, Shapes21K


@pytest.fixture
def few(monkeypatch):
    """Twelve of the classes: drawing all takes half a minute."""
    chosen = dict(islice(shapes21k.classes().items(), 12))
    monkeypatch.setattr(shapes21k, "classes", lambda search=False: chosen)
    monkeypatch.setattr(shapes21k, "SHARD", 100)
    return chosen


def test_classes_are_hundreds_and_others_than_those_of_shapes():
    classes = shapes21k.classes()
    assert len(classes) == len(SHAPES) * len(COLOURS) * len(TEXTURES) - len(FEW) == 604
    assert len({name for name, *_ in classes.values()}) == 604
    assert not {entry[1:] for entry in classes.values()} & set(FEW.values())
    assert list(classes) == sorted(classes)
    spoken = {word for key in (*SHAPES, *COLOURS, *TEXTURES) for word in WORDS.get(key, (key,))}
    assert {word for name, *_ in classes.values() for word in name.split()} == spoken  # the tiny CLIP has read each of them


def test_the_search_for_pretraining_has_its_own_pictures(few, tmp_path):
    here = Shapes21K(str(tmp_path), "shapes21k")
    other = Shapes21K(str(tmp_path), "shapes21k_search", search=True)
    pixels = [{np.asarray(source.open(item)).tobytes() for item in source.splits(1).train} for source in (here, other)]
    assert len(pixels[0]) == len(pixels[1]) == 12 * SIZES["train"]
    assert not pixels[0] & pixels[1]


def test_classes_of_the_search_for_pretraining():
    classes = shapes21k.classes(search=True)
    assert len(classes) == 604 - len(SEARCH_CLASSES) == len({name for name, *_ in classes.values()})
    assert not {entry[1:] for entry in classes.values()} & {*SEARCH_CLASSES.values(), *FEW.values()}


def test_each_form_holds_the_same_pictures(few, tmp_path):
    contents = []
    for form in FORMATS:
        source = Shapes21K(str(tmp_path), "shapes21k", form)
        splits = source.splits(1)
        assert splits.classnames == [name for name, *_ in few.values()]
        images = [
            Counter((source.reader.read(item.path), item.label) for item in table) for table in (splits.train, splits.val)
        ]
        assert [sum(counts.values()) for counts in images] == [12 * size for size in SIZES.values()]
        assert [len(counts) for counts in images] == [12 * size for size in SIZES.values()]  # no picture twice
        contents.append(images)
    assert contents[0] == contents[1] == contents[2]


def test_drawn_once_and_whole(few, tmp_path, monkeypatch):
    source = Shapes21K(str(tmp_path), "shapes21k")
    picture = np.asarray(source.open(source.splits(1).train[7]))
    assert picture.shape == (32, 32, 3)

    def refuse(*args):
        raise KeyboardInterrupt

    monkeypatch.setitem(shapes21k.WRITERS, "folder", refuse)
    again = Shapes21K(str(tmp_path), "shapes21k")
    assert (np.asarray(again.open(again.splits(1).train[7])) == picture).all()
    with pytest.raises(KeyboardInterrupt):
        Shapes21K(str(tmp_path / "new"), "shapes21k").splits(1)
    assert not (tmp_path / "new" / "shapes21k" / "folder").exists()


def test_where_data_root_cannot_be_written_to(few, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "file").write_text("")
    source = Shapes21K(str(tmp_path / "file"), "shapes21k")
    assert len(source.splits(1).train) == 12 * SIZES["train"]
    assert source.home.is_relative_to(tmp_path / "cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(ValueError, match="set data_root=PATH"):
        Shapes21K(str(tmp_path / "file"), "shapes21k").splits(1)
