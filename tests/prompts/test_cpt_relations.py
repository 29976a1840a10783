"""The relation of two painted things, scored by their sentences."""

import pytest
import torch
from region_stubs import StubCLIP, noise

from prompts.engine.text_plan import TextPlan
from prompts.parts.colour_form import painted_together
from prompts.parts.markers import FillBox
from prompts.parts.marking import to_pixels
from prompts.parts.region_texts import texts_of
from prompts.parts.relations import LOOKS, relation_scores, relation_sentences

RELATIONS = ["to the left of", "to the right of", "above"]
GREY = torch.full((3, 32, 32), 128, dtype=torch.uint8)
PAIR = torch.tensor([[2.0, 10, 10, 20], [20, 10, 30, 20]])  # the subject is left of the object


def middle(image, colour, other):
    """Where the pixels are that have more of one colour than of another, 0 to 1."""
    there = (image[colour] - image[other] > 0.2).nonzero()
    return there.float().mean(0) / 32


def stub():
    def of_image(image):
        (y1, x1), (y2, x2) = middle(image, 0, 2), middle(image, 2, 0)
        return [0.5 * float(x2 - x1), 0.5 * float(x1 - x2), 0.5 * float(y2 - y1)]

    return StubCLIP(of_image, lambda text: [0.9 * (relation in text) for relation in RELATIONS])


def test_the_sentences():
    assert relation_sentences("Cup.", "Table", ["on", "under"]) == [
        "cup in red color is on a table in blue color",
        "cup in red color is under a table in blue color",
    ]


def test_the_subject_is_red_and_the_object_blue():
    images, boxes = [GREY] * 3, [PAIR, PAIR.flip(0), torch.tensor([[10.0, 2, 20, 8], [10, 20, 20, 30]])]
    found = relation_scores(stub(), images, boxes, [("cup", "table")] * 3, RELATIONS)
    assert found.shape == (3, 3)
    assert [RELATIONS[at] for at in found.argmax(1)] == RELATIONS
    chunked = relation_scores(stub(), images, boxes, [("cup", "table")] * 3, RELATIONS, chunk=1)
    assert torch.equal(found, chunked)


def test_scores_are_scaled_cosines(small_clip):
    image = noise(40, 50)
    found = relation_scores(small_clip, [image], [PAIR], [("cup", "table")], RELATIONS)
    painted = painted_together(FillBox(), image, PAIR, LOOKS)
    assert torch.equal(painted[:, :, 40:], image[:, :, 40:].float())
    text = small_clip.encode_text(TextPlan(texts_of(small_clip.tokenizer, "{}", relation_sentences("cup", "table", RELATIONS))))
    wanted = small_clip.logits(small_clip.encode_image(to_pixels(painted[None], small_clip.image_spec)), text)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_thing_in_front_of_a_larger_one_is_seen():
    boxes = torch.tensor([[4.0, 4, 28, 28], [10, 10, 16, 16]])
    for order in ([0, 1], [1, 0]):
        painted = painted_together(FillBox(), GREY, boxes[order], [LOOKS[i] for i in order])
        assert painted[2, 12, 12] > painted[0, 12, 12]  # blue on top
        assert painted[0, 5, 5] > painted[2, 5, 5]


def test_pairs_that_are_none_are_refused():
    with pytest.raises(ValueError, match="no relations to choose among"):
        relation_scores(stub(), [GREY], [PAIR], [("a", "b")], [])
    with pytest.raises(ValueError, match="give two boxes and two names to each"):
        relation_scores(stub(), [GREY], [PAIR[:1]], [("a", "b")], RELATIONS)
