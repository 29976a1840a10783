"""Several proposals of one image in colours of their own. Numbers in names: the specification's list of tests (3.4)."""

import pytest
import torch
from region_stubs import StubCLIP

from prompts.cpt import CPT


def scores(learner, clip, boxes, images):
    return learner.region_scores(clip, images, list(boxes), ["the thing"] * len(images))


COLOURS = {"red": [255, 0, 0, 255], "green": [0, 255, 0, 255], "blue": [0, 0, 255, 255]}
BIAS = {"red": 0.25, "green": 0.0, "blue": 0.05}


def worn(image):
    """For each colour how far right the box is that wears it, 0 to 0.2; 0 where none does."""
    far = []
    for red, green, blue, _ in COLOURS.values():
        there = (image - torch.tensor([red, green, blue])[:, None, None] / 255).abs().amax(0) < 0.01
        far.append(0.2 * float(there.nonzero()[:, 1].float().mean()) / 32 if there.any() else 0.0)
    return far


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
    shift = biased - fair
    torch.testing.assert_close(shift, shift[:1].expand(count), rtol=0, atol=1e-6)  # the mean liking, of every box alike
    assert shift[0].item() == pytest.approx(0.9 * 0.1, abs=1e-6)


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
