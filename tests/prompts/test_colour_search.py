"""The search for colours and its file. Numbers in names are those of the specification's list of tests (3.4)."""

import json

import pytest
import torch
from region_stubs import StubCLIP, noise

from prompts.cpt import CPT
from prompts.parts.colour_files import read_colours, read_found, write_colours
from prompts.parts.colour_search import SENTENCE, FoundColours, grid, search_colours

# what the stand-in knows by each word; it likes a pale red no less than the strong one, but for its alpha
TABLE = {"red": (255, 0, 0, 255), "sky": (0, 127, 255, 255), "grass": (0, 255, 127, 255)}
BOXES = [torch.tensor([4.0, 4, 20, 20]), torch.tensor([4.0, 4, 20, 20])]


def knows(image):
    """How near the middle of the box is to each colour of the table, 0 to 0.5."""
    middle = 255 * image[:, 8:16, 8:16].mean((1, 2))
    return [0.5 * max(0.0, 1 - float((middle - torch.tensor(look[:3])).norm()) / 441) for look in TABLE.values()]


def stub():
    of_text = {SENTENCE.format(word): [0.9 * (i == at) for i in range(3)] for at, word in enumerate(TABLE)}
    return StubCLIP(knows, of_text.__getitem__, logit_scale=30.0)


def searched(**more):
    appearances = grid((0, 127, 255), (127, 255))
    return search_colours(stub(), [noise(), noise(seed=1)], BOXES, appearances, list(TABLE), **more)


def test_3_4_13_the_search_recovers_the_table_and_its_file_round_trips(tmp_path):
    found = searched()
    assert {word: found.appearances[at] for word, at in found.best.items()} == TABLE
    assert found.table.sum(1).allclose(torch.ones(len(found.appearances)))
    assert torch.allclose(searched(chunk=7).table, found.table, atol=1e-5)
    content = found.as_file(2, clip={"weights": "0123"})
    assert list(content["colours"]) == found.chosen(2)
    write_colours(tmp_path / "colours.json", content)
    again = read_found(tmp_path / "colours.json")
    assert again == json.loads(json.dumps(content)) | {"colours": {word: TABLE[word] for word in content["colours"]}}
    assert again["clip"] == {"weights": "0123"}
    learner = CPT(form="colours", colours=str(tmp_path / "colours.json"))
    assert dict(zip(learner.colours.words, learner.colours.looks, strict=True)) == read_colours(tmp_path / "colours.json")
    assert learner.found_settings == {"colours": {word: list(TABLE[word]) for word in content["colours"]}}


def test_words_that_are_taken_for_one_another_are_not_chosen_together():
    words = ["red", "crimson", "blue", "green"]
    table = torch.tensor([
        [0.60, 0.30, 0.05, 0.05],  # red
        [0.39, 0.55, 0.03, 0.03],  # crimson
        [0.05, 0.05, 0.50, 0.40],  # blue
        [0.10, 0.05, 0.25, 0.45],  # green, of which there is also
        [0.30, 0.20, 0.30, 0.20],
    ])  # fmt: skip
    found = FoundColours(words, [(i, 0, 0, 255) for i in range(5)], table)
    assert list(found.best.values()) == [0, 1, 2, 3]
    assert found.chosen(4) == ["red", "blue", "crimson", "green"]  # 0.05 with red; 0.39 with red against 0.40 with blue
    assert found.chosen(1) == ["red"]
    with pytest.raises(ValueError, match="5 colours cannot be chosen among 4 words"):
        found.chosen(5)


def test_the_grid_has_the_released_colours():
    looks = grid((0, 255), (63,))
    assert len(looks) == len(set(looks)) == 2 * (8 + 4)  # green is in the grid already
    assert {(240, 0, 30, 127), (0, 255, 0, 63)} <= set(looks)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: grid((0, 300)), "give numbers from 0 to 255"),
        (lambda: grid(alphas=()), "give numbers from 0 to 255"),
        (lambda: search_colours(stub(), [], []), "0 images and 0 boxes"),
        (lambda: search_colours(stub(), [noise()], BOXES, words=["red", "red"]), "1 images and 2 boxes"),
        (lambda: search_colours(stub(), [noise()], BOXES[:1], words=["red", "red"]), "each once"),
    ],
)
def test_searches_that_cannot_be_are_refused(call, words):
    with pytest.raises(ValueError, match=words):
        call()
