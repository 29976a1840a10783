"""The drawn world of captions and questions: what its texts are like, and that they follow from the key alone."""

import hashlib
from collections import Counter
from itertools import pairwise

import pytest

from datamodules import scenes
from datamodules.drawing import COLOURS, SHAPES, TEXTURES

KEYS = scenes.keys("scenes", "test")


def test_texts_follow_from_the_key_alone():
    """Pinned: a change would change what models were trained on, and every result on data=scenes."""
    keys = [*KEYS[:20], *scenes.keys("sketch", "train")[:20]]
    texts = repr([(key, scenes.scene(key), scenes.captions(key), scenes.questions(key)) for key in keys])
    assert hashlib.sha256(texts.encode()).hexdigest()[:16] == "308167ac642b5e72"


def test_scenes_have_one_to_three_things_of_different_shapes():
    contents = [scenes.scene(key) for key in KEYS]
    counts = Counter(content.count for content in contents)
    assert set(counts) == {1, 2, 3}
    assert min(counts.values()) > 80
    for content in contents:
        shapes = [thing.shape for thing in content.things]
        assert len(set(shapes) & set(SHAPES)) == len(shapes)
        assert all(thing.colour in COLOURS and thing.texture in TEXTURES for thing in content.things)
        assert content.style in scenes.DOMAINS["scenes"]
    assert any(thing.number == 2 for content in contents for thing in content.things)
    assert any(thing.small for content in contents for thing in content.things)


def test_captions_name_what_is_there_and_differ():
    captions = {key: scenes.captions(key) for key in KEYS}
    assert all(len(texts) == len(set(texts)) == 5 for texts in captions.values())
    for key, texts in captions.items():
        shapes = {word for thing in scenes.scene(key).things for word in scenes.WORDS.get(thing.shape, (thing.shape,))}
        nouns = shapes | {scenes.plural(noun) for noun in shapes}
        assert all(nouns & set(text.rstrip(".").replace(",", "").split()) for text in texts), texts
    images = Counter(text for texts in captions.values() for text in set(texts))
    shared = sum(count for count in images.values() if count > 1)
    assert 0 < shared < 0.05 * 5 * len(KEYS)  # captions of different images coincide, but not often


def test_plurals_and_articles():
    assert [scenes.plural(noun) for noun in ("star", "box", "cross", "leaf", "fish", "flash")] == [
        "stars", "boxes", "crosses", "leaves", "fish", "flashes",
    ]  # fmt: skip
    words = [text.split() for key in KEYS for text in scenes.captions(key)]
    wrong = [line for line in words for a, b in pairwise(line) if (a in ("a", "an")) and (a == "an") != (b[0] in "aeiou")]
    assert not wrong


def test_most_people_give_the_true_answer_and_a_minority_another():
    asked = [question for key in KEYS for question in scenes.questions(key)]
    assert {question.answer_type for question in asked} == {"yes/no", "number", "other"}
    agreement = Counter(Counter(question.answers).most_common(1)[0][1] for question in asked)
    assert all(len(question.answers) == 10 for question in asked)
    assert min(agreement) >= 6
    assert 0.2 < agreement[10] / len(asked) < 0.6  # all of them agree


@pytest.mark.parametrize("number", range(0, 60, 7))
def test_answers_are_true(number):
    content = scenes.scene(KEYS[number])
    by_noun = {}
    for thing in content.things:
        for word in scenes.WORDS.get(thing.shape, (thing.shape,)):
            by_noun |= {word: thing, scenes.plural(word): thing}
    for question in scenes.questions(KEYS[number]):
        answer, words = scenes.most_common(question.answers), question.question.rstrip("?").lower().split()
        thing = next((by_noun[word] for word in words if word in by_noun), None)
        if question.question_type == "what colour":
            assert answer == thing.colour
        elif question.question_type == "what pattern":
            assert answer == thing.texture
        elif question.question_type == "how many":
            assert answer == str(thing.number if thing else content.count)
        elif question.question_type == "is there":
            assert answer == ("yes" if thing else "no")
        elif question.question_type == "is the":
            assert answer == ("yes" if words[-1] in scenes.WORDS.get(thing.colour, (thing.colour,)) else "no")
        else:
            assert answer in {thing.shape for thing in content.things}


def test_yes_is_as_frequent_as_no():
    answers = [scenes.most_common(q.answers) for key in KEYS for q in scenes.questions(key) if q.answer_type == "yes/no"]
    assert 0.4 < answers.count("yes") / len(answers) < 0.6


def test_sentences_for_a_language_model_are_of_scenes_that_no_split_has():
    texts = list(scenes.sentences(seed=3, count=90))
    assert texts == list(scenes.sentences(3, 90)) != list(scenes.sentences(4, 90))
    assert len([text for text in texts if text.startswith("Q: ") and " A: " in text]) == 40
    assert len(set(texts)) > 80


def test_keys_that_are_none():
    for key in ("scenes", "scenes/train", "scenes/train/x", "elsewhere/train/1", "scenes/a/b/1", ""):
        with pytest.raises(ValueError, match="is the key of no drawn scene"):
            scenes.scene(key)
    with pytest.raises(ValueError, match="domain='photos' of drawn scenes is not known: use one of scenes, sketch"):
        scenes.keys("photos", "train")
