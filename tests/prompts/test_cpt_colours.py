"""Several proposals of one image in colours of their own. Numbers in names: the specification's list of tests (3.4)."""

import math

import pytest
import torch
from region_stubs import StubCLIP

from prompts.cpt import CPT
from prompts.parts.colour_form import ColourForm
from prompts.parts.markers import make_markers


def scores(learner, clip, boxes, images):
    return learner.region_scores(clip, images, list(boxes), ["the thing"] * len(images))


COLOURS = {"red": [255, 0, 0, 255], "green": [0, 255, 0, 255], "blue": [0, 0, 255, 255]}
BIAS = {"red": 0.25, "green": 0.0, "blue": 0.05}


def worn(image):
    """For each colour how far right the box is that wears it, 0 to 0.2; 0 where none does."""
    return [0.2 * float(there.nonzero()[:, 1].float().mean()) / 32 if there.any() else 0.0 for there in places(image)]


def places(image):
    """For each colour where it is, (32,32) bool."""
    levels = [torch.tensor(colour[:3])[:, None, None] / 255 for colour in COLOURS.values()]
    return [(image - level).abs().amax(0) < 0.01 for level in levels]


def colour_stub(bias):
    """Answers by `worn`, with a liking for some words; the sentence without a query shows the liking alone."""

    def of_image(image):
        return [*(far + bias[word] for far, word in zip(worn(image), COLOURS, strict=True)), *bias.values()]

    def of_text(text):
        at = 3 * text.startswith("an object") + next(i for i, word in enumerate(COLOURS) if f"in {word} color." in text)
        return [0.9 * (i == at) for i in range(6)]

    return StubCLIP(of_image, of_text)


APART = torch.tensor([[2.0, 2, 6, 8], [10, 3, 14, 9], [24, 20, 30, 30], [17, 12, 21, 18], [1, 20, 5, 30]])  # the third is right


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_3_4_09_cyclic_colours_remove_a_liking_exactly(count):
    image, none = torch.zeros(3, 32, 32, dtype=torch.uint8), dict.fromkeys(COLOURS, 0.0)
    fair, biased = (
        scores(CPT(form="colours", colours=COLOURS), colour_stub(bias), [APART[:count]], images=[image])[0]
        for bias in (none, BIAS)
    )
    assert int(biased.argmax()) == int(fair.argmax()) == int(APART[:count, 0].argmax())
    torch.testing.assert_close(biased, fair, rtol=0, atol=1e-6)


def test_3_4_09_without_calibration_the_liking_wins_and_a_neutral_sentence_removes_it():
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    options = {"form": "colours", "colours": COLOURS}
    clip = colour_stub(BIAS)
    (plain,) = scores(CPT(**options, calibrate="none"), clip, [APART[:3]], images=[image])
    assert int(plain.argmax()) == 0  # which wears red
    clip.encoded.clear()
    (neutral,) = scores(CPT(**options, calibrate="neutral"), clip, [APART], images=[image])
    assert sum(clip.encoded) == 2  # ceil(5 / 3) images
    assert int(neutral.argmax()) == 2
    clip.encoded.clear()
    scores(CPT(**options), clip, [APART], images=[image])
    assert sum(clip.encoded) == 6


@pytest.mark.parametrize("colours", range(2, 6))
def test_groups_are_equally_large_and_as_few_as_possible(colours):
    form = ColourForm(make_markers(["fill_box"]), dict.fromkeys("abcde"[:colours], (0, 0, 0, 0)), "none")
    for count in range(1, 40):
        groups = form.groups(count)
        assert len(groups) == math.ceil(count / colours)
        assert {len(group) for group in groups} == {math.ceil(count / len(groups))}
        assert [group.start for group in groups] == sorted({group.start for group in groups})
        assert {box for group in groups for box in group} == set(range(count))


LARGE_FIRST = torch.tensor(
    [[0.0, 0, 14, 14], [16, 0, 30, 14], [0, 16, 12, 30], [16, 16, 22, 22], [24, 16, 30, 22], [16, 24, 21, 30]]
)


@pytest.mark.parametrize("calibrate", ["cyclic", "neutral", "none"])
@pytest.mark.parametrize("count", [3, 4, 5, 6])
def test_what_is_left_visible_of_an_image_does_not_choose_the_proposal(count, calibrate):
    """A stand-in that likes every colour less the more of an image is painted over, as a CLIP does, and by that far more than
    it likes the colour that the right box wears."""
    boxes = LARGE_FIRST[:count]
    for right, (x1, y1, x2, y2) in enumerate(boxes.int().tolist()):

        def of_image(image, x=(x1 + x2) // 2, y=(y1 + y2) // 2):
            there = places(image)
            painted = 0.8 * float(torch.stack(there).any(0).float().mean())
            return [0.5 - painted + 0.05 * bool(area[y, x]) for area in there]

        def of_text(text):
            return [0.9 * (f"in {word} color." in text and not text.startswith("an object")) for word in COLOURS]

        learner = CPT(form="colours", colours=COLOURS, calibrate=calibrate)
        (found,) = scores(learner, StubCLIP(of_image, of_text), [boxes], images=[torch.full((3, 32, 32), 9, dtype=torch.uint8)])
        assert int(found.argmax()) == right
