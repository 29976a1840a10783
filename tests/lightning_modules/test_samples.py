import json
from functools import partial

import PIL.Image
import pytest
from toys import IMAGE_SPEC, ToySource

from datamodules.module import FewShotData
from lightning_modules.samples import LONGEST, MOST, SIDE, choose, write_samples


def test_best_worst_and_random_ones():
    scores = [0.5, 1.0, float("nan"), 1.0, 0.0, 0.2]
    chosen = choose(scores, seed=3, each=2)
    assert chosen[:4] == [("best", 1), ("best", 3), ("worst", 4), ("worst", 5)]
    assert [why for why, _ in chosen[4:]] == ["random", "random"]
    assert len({position for _, position in chosen[4:]}) == 2
    assert all(position != 2 for _, position in chosen)
    assert choose(scores, seed=3, each=2) == chosen
    assert len({tuple(choose([0.0] * 50, seed, 3)[-3:]) for seed in range(5)}) > 1
    assert choose([1.0], 0) == [("best", 0), ("worst", 0), ("random", 0)]
    assert choose([], 0) == []


class Large(ToySource):
    def open(self, item):
        if item.path.endswith("/5.png"):
            raise ValueError("damaged")
        return super().open(item).resize((400, 300))


@pytest.fixture
def evaluation():
    data = FewShotData("toy", Large(), IMAGE_SPEC, shots=1, seed=1)
    return data.evaluation("in/out", "test", "all")


def test_the_files(evaluation, tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "old.png").touch()
    entry = partial(dict, why="best", text="x" * 5000, many=list(range(1000)), pair=[["a", 0.5, True]])
    write_samples(tmp_path, "mine", [evaluation], {"in/out": [entry(index=3), entry(index=5), entry(index=3)]})
    content = json.loads((tmp_path / "samples.json").read_text())
    assert content["task"] == "mine"
    first, damaged, again = content["evaluations"]["in/out"]
    assert first == again
    assert first["image"] == "samples/in_out-3.png"
    assert damaged["image"] is None
    assert len(first["text"]) == LONGEST
    assert len(first["many"]) == MOST
    assert first["pair"] == [["a", 0.5, True]]
    with PIL.Image.open(tmp_path / first["image"]) as image:
        assert image.format == "PNG"
        assert image.size == (SIDE, SIDE * 3 // 4)
    assert [path.name for path in (tmp_path / "samples").iterdir()] == ["in_out-3.png"]
