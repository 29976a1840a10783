"""Zero-shot CPT. Numbers in names are those of the specification's list of tests (3.4)."""

import pytest
import torch
from region_stubs import StubCLIP, noise

from prompts.cpt import CPT
from prompts.engine.text_plan import TextPlan
from prompts.parts.marker_bases import PHOTO
from prompts.parts.region_texts import drawn_captions, framed, query_of, texts_of

GOLD = (slice(10, 20), slice(4, 16))  # rows and columns
BOXES = torch.tensor([[0.0, 0, 8, 8], [20, 2, 30, 14], [4, 10, 16, 20], [18, 18, 31, 31]])  # the third is the gold one


def redness(image):
    """How much redder than its other colours an image is inside the gold box, 0 to 0.9."""
    red, green, blue = image[(slice(None), *GOLD)].mean((1, 2))
    return [0.45 + 0.45 * float(red - (green + blue) / 2)]


def stub():
    return StubCLIP(redness, lambda text: [0.9])


def scores(learner, clip, boxes=(BOXES,), images=None, texts=None, **more):
    images = images or [noise(seed=i) for i in range(len(boxes))]
    return learner.region_scores(clip, images, list(boxes), texts or ["the thing"] * len(images), **more)


# ---- texts


def test_3_4_04_the_query_stands_in_the_sentence_once(small_clip):
    tokenizer = small_clip.tokenizer
    assert query_of(" The Red  Dog. ") == "the red dog"
    assert query_of("Mr. Smith's U.S. flag...") == "mr. smith's u.s. flag"
    wanted = [*tokenizer.start, *tokenizer.encode("the red dog is in red color."), *tokenizer.end]
    (template,) = [marker.text for marker in CPT().markers]
    assert texts_of(tokenizer, template, ["The red dog."]) == [wanted]
    photo = [*tokenizer.start, *tokenizer.encode("a photo of the red dog"), *tokenizer.end]
    assert texts_of(tokenizer, PHOTO, ["The red dog."]) == [photo]
    # a query with braces is a query
    assert texts_of(tokenizer, PHOTO, ["a {} b"]) == [
        [*tokenizer.start, *tokenizer.encode("a photo of a {} b"), *tokenizer.end]
    ]


@pytest.mark.parametrize("words", [17, 18, 19, 200])
def test_3_4_04_long_queries_are_cut_and_the_suffix_survives(small_clip, words):
    tokenizer = small_clip.tokenizer
    suffix = [*tokenizer.encode(" is in red color."), *tokenizer.end]
    (ids,) = texts_of(tokenizer, "{} is in red color.", [" ".join(["cat"] * words)])
    assert len(ids) == min(tokenizer.context_length, words + len(suffix) + 1)
    assert ids[-len(suffix) :] == suffix
    assert ids[1 : -len(suffix)] == tokenizer.encode("cat") * (len(ids) - len(suffix) - 1)
    assert small_clip.encode_text(TextPlan([ids])).isfinite().all()


def test_a_text_in_pieces_is_the_text_as_a_whole(small_clip):
    tokenizer = small_clip.tokenizer
    for query in ("man on the left", "dog (brown)", "it's 2nd"):
        pieces = framed(tokenizer, tokenizer.encode("a photo of"), query, tokenizer.encode("is in red color."))
        whole = tokenizer.encode(f"a photo of {query} is in red color.")
        assert pieces == [*tokenizer.start, *whole, *tokenizer.end]
    with pytest.raises(ValueError, match="leaves no room for it among the 28"):
        framed(tokenizer, [5] * 26, "x", [])


# ---- scores


def test_3_4_05_the_box_that_turns_red_is_the_answer():
    image = torch.full((3, 32, 32), 90, dtype=torch.uint8)
    (found,) = scores(CPT(), stub(), images=[image])
    assert found.shape == (4,)
    assert found.dtype == torch.float32
    assert int(found.argmax()) == 2
    order = torch.tensor([2, 0, 3, 1])
    (permuted,) = scores(CPT(), stub(), [BOXES[order]], images=[image])
    assert torch.equal(permuted, found[order])


def test_scores_are_scaled_cosines(small_clip):
    image = noise(40, 60)
    (found,) = CPT(["crop"]).region_scores(small_clip, [image], [torch.tensor([[3.0, 4, 33, 30]])], ["A dog."])
    from prompts.parts.marking import to_pixels

    features = small_clip.encode_image(to_pixels(image[None, :, 4:30, 3:33], small_clip.image_spec))
    text = small_clip.encode_text(TextPlan(texts_of(small_clip.tokenizer, PHOTO, ["a dog"])))
    torch.testing.assert_close(found, small_clip.logits(features, text)[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"markers": ["crop", "blur_circle"], "combine": "max"}, {"form": "colours"}], ids=str)
def test_3_4_06_chunks_change_nothing(small_clip, options):
    boxes = [BOXES, BOXES[:1], torch.cat([BOXES, BOXES + 0.5])]
    whole = scores(CPT(**options, chunk=1000), small_clip, boxes)
    assert [len(of_image) for of_image in whole] == [4, 1, 8]
    for chunk in (1, 3):
        torch.testing.assert_close(scores(CPT(**options, chunk=chunk), small_clip, boxes), whole, rtol=1e-4, atol=1e-4)


def test_3_4_06_copies_in_flight_are_bounded_and_none_is_an_error():
    clip = stub()
    scores(CPT(chunk=3), clip, [BOXES, BOXES[:1]])
    assert clip.encoded == [3, 2]
    (only,) = scores(CPT(), clip, [BOXES[:1]])
    assert len(only) == 1
    with pytest.raises(ValueError, match="'the thing' has no proposals to choose among"):
        scores(CPT(), clip, [BOXES[:0]])
    with pytest.raises(ValueError, match="give one of each for every image"):
        CPT().region_scores(clip, [noise()], [BOXES, BOXES], ["a"])


def test_copies_of_an_image_are_encoded_once_for_all_its_expressions():
    clip, learner, texts = stub(), CPT(), ["a thing", "another", "a third"]
    images, boxes = [noise()] * 2 + [noise(seed=1)], [BOXES] * 3
    first = learner.region_scores(clip, images, boxes, texts, keys=["a", "a", "b"])
    assert sum(clip.encoded) == 8
    again = learner.region_scores(clip, images[:1], boxes[:1], texts[1:2], keys=["a"])
    assert sum(clip.encoded) == 8
    assert torch.equal(first[1], again[0])
    others = learner.region_scores(clip, images[:1], [BOXES[:2]], texts[:1], keys=["a"])  # other proposals are other copies
    assert sum(clip.encoded) == 10
    torch.testing.assert_close(others[0], first[0][:2])
    assert all(torch.equal(*pair) for pair in zip(first, learner.region_scores(clip, images, boxes, texts), strict=True))


# ---- ensembles


@pytest.mark.parametrize("combine", ["sum", "max"])
def test_3_4_07_the_order_of_markers_and_clips_is_nothing(small_clip, resnet_clip, combine):
    markers, how = ["fill_box", "crop", "ellipse"], {"combine": combine, "combine_clips": combine}
    both = scores(CPT(markers, clips={"other": lambda: resnet_clip}, **how), small_clip)
    turned = scores(CPT(markers[::-1], clips={"other": lambda: small_clip}, **how), resnet_clip)
    torch.testing.assert_close(both, turned, rtol=1e-5, atol=1e-4)
    each = torch.stack([scores(CPT([name]), clip)[0] for name in markers for clip in (small_clip, resnet_clip)])
    wanted = each.sum(0) if combine == "sum" else each.amax(0)
    torch.testing.assert_close(both[0], wanted, rtol=1e-5, atol=1e-4)


def test_clips_of_the_ensemble_are_made_once_and_only_when_needed(small_clip, resnet_clip):
    made = []
    learner = CPT(clips={"second": lambda: made.append(1) or resnet_clip})
    assert not made
    scores(learner, small_clip)
    scores(learner, small_clip)
    assert made == [1]
    assert not list(learner.parameters())  # and they are no part of what is saved
    assert not learner.state_dict()


# ---- score subtraction


def test_3_4_08_what_every_caption_scores_alike_cancels():
    def found(constant):
        clip = StubCLIP(lambda image: [*redness(image), 0.3], lambda text: [0.1 * len(text.split()), constant])
        learner = CPT(subtract=3)
        learner.set_bank(clip, ["one", "two words", "three words here"])
        return scores(learner, clip, texts=["a red thing"])[0]

    torch.testing.assert_close(found(0.0), found(0.5), rtol=0, atol=1e-6)


def test_3_4_08_a_bank_equal_to_the_query_gives_zeros(small_clip):
    learner = CPT(["crop"], subtract=5)
    learner.set_bank(small_clip, ["The thing."])
    assert scores(learner, small_clip, texts=["the thing"])[0].abs().max() < 1e-4


def test_3_4_08_the_bank_is_drawn_by_its_seed(small_clip):
    bank = [f"thing {i}" for i in range(50)]
    drawn = drawn_captions(bank, 10, 3)
    assert drawn == drawn_captions(bank, 10, 3) != drawn_captions(bank, 10, 4)
    assert len(set(drawn)) == 10  # without replacement
    assert drawn_captions(bank, 50, 3) == drawn_captions(bank, 500, 3) == bank
    results = []
    for seed in (1, 1, 2):
        learner = CPT(subtract=4, bank_seed=seed)
        learner.set_bank(small_clip, bank)
        results.append(scores(learner, small_clip)[0])
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])
    with pytest.raises(ValueError, match="a bank of captions, and there is none"):
        scores(CPT(subtract=4), small_clip)
    with pytest.raises(ValueError, match="the bank of captions for score subtraction is empty"):
        CPT(subtract=4).set_bank(small_clip, [])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"combine": "mean"}, "method.combine"),
        ({"form": "colour"}, "method.form"),
        ({"chunk": 0}, "method.chunk=0"),
        ({"subtract": -1}, "method.subtract=-1"),
        ({"resize_mode": "longest"}, "method.resize_mode"),
        ({"form": "colours", "markers": ["crop"]}, "fills boxes or masks"),
        ({"form": "colours", "colours": ["red"]}, "has 1 colours: two or more"),
        ({"form": "colours", "colours": ["red", "pink"]}, "'pink' is none of red"),
        ({"form": "colours", "colours": {"red": [1, 2], "b": [1, 2, 3]}}, "method.colours.red"),
        ({"form": "colours", "subtract": 5}, "has a calibration of its own"),
    ],
)
def test_settings_that_cannot_be_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        CPT(**options)


def test_masks_are_asked_for_and_missing_ones_refused(small_clip):
    learner = CPT(["fill_mask"])
    assert learner.needs_masks
    assert not CPT().needs_masks
    masks = torch.zeros(4, 32, 32, dtype=torch.bool)
    masks[:, 10:20] = True
    with pytest.raises(ValueError, match="draws the masks of proposals, and these have none"):
        scores(learner, small_clip)
    assert len(scores(learner, small_clip, masks=[masks])[0]) == 4
    whole = torch.tensor([[0.0, 0, 32, 32]])  # is its own mask
    torch.testing.assert_close(scores(learner, small_clip, [whole]), scores(CPT(), small_clip, [whole]))
