"""The images that one method gains and loses, and the sheet that shows them."""

import numpy as np
import PIL.Image
from toys import NAMES, ToySource

from reports.arrays import Predictions
from reports.insight.finished import spread
from reports.insight.sheet import Images, changes, draw


def test_gained_and_lost_take_turns_between_classes():
    label = np.array([0, 0, 0, 1, 1, 1])
    ours = Predictions(np.array([0, 0, 0, 1, 0, 1]), label, np.array([0.5, 0.9, 0.8, 0.4, 0.7, 0.0]))
    theirs = Predictions(np.array([1, 1, 1, 0, 1, 0]), label, np.full(6, 0.5))
    changed = changes(ours, theirs)
    assert changed.gained == [1, 3, 2, 0]  # the last image could not be read
    assert changed.lost == [4]


def test_a_sheet_fits_what_is_on_it(tmp_path):
    class Dataset:
        source, items = ToySource(), ToySource().splits(0).test

    label = np.repeat(np.arange(5), 7)
    ours, theirs = (Predictions(np.full(35, guess), label, np.full(35, 0.5)) for guess in (0, 1))
    names = ["a class of a name so long that no line of a sheet has room for all of it", *NAMES[1:]]
    changed = changes(ours, theirs)
    sizes = []
    for most in (1, 6, 7):
        named = [("zeroshot", theirs), ("a method of a long name", ours)]
        draw(tmp_path / "sheet.png", "title", changed, most, Images(Dataset, names), named)
        with PIL.Image.open(tmp_path / "sheet.png") as sheet:
            sizes.append(sheet.size)
    assert sizes[0] == sizes[1]  # one row of either
    assert sizes[2][0] == sizes[0][0]
    assert sizes[2][1] > 1.5 * sizes[0][1]


def test_an_image_that_either_could_not_read_is_neither_gained_nor_lost():
    label = np.array([0, 0, 1, 1])
    ours = Predictions(np.array([0, 0, 0, 0]), label, np.array([0.5, 0.0, 0.5, 0.5]))
    theirs = Predictions(np.array([1, 1, 1, 1]), label, np.array([0.5, 0.5, 0.0, 0.5]))
    assert changes(ours, theirs).gained == [0]
    assert changes(ours, theirs).lost == [3]


def test_spread_places():
    assert spread(5, 9) == [0, 1, 2, 3, 4]
    assert spread(101, 3) == [0, 50, 100]
