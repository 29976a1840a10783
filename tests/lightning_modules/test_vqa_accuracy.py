"""The accuracy of VQA v2: numbers that the official evaluation (vqaEval.py, Python 3) gave for answers made by hand."""

import pytest

from lightning_modules.vqa_accuracy import CONTRACTIONS, accuracy, longest_words, normalised, percent_by_kind

# answer, {what people answered: how many of them}, official accuracy in percent
RECORDED = [
    ("yes", {"yes": 10}, 100),
    ("Yes", {"yes": 10}, 0),  # where all agree nothing is normalised
    ("yes.", {"yes": 9, "no": 1}, 100),
    ("Yes", {"yes": 2, "no": 8}, 60),
    ("red", {"red": 3, "dark red": 7}, 90),
    ("2", {"two": 1, "3": 9}, 30),
    ("two", {"2": 4, "3": 6}, 100),
    ("none", {"0": 5, "1": 5}, 100),
    ("a dog", {"dog": 6, "the dog": 2, "cat": 2}, 100),
    ("dont walk", {"don't walk": 3, "walk": 7}, 90),
    ("1,000", {"1000": 4, "100": 6}, 100),
    ("t-shirt", {"t shirt": 4, "tshirt": 6}, 100),
    ("black/white", {"black and white": 5, "black white": 5}, 100),
    ("3.5.", {"3.5": 4, "3": 6}, 100),
    ("left, right", {"left right": 4, "left": 6}, 100),
    ("on the table", {"table": 4, "on table": 6}, 100),
    ("", {"yes": 10}, 0),
    ("blue\n", {"blue": 10}, 100),
    ("no one", {"no-one": 2, "nobody": 8}, 60),
    ("somebody'd", {"somebodyd": 5, "none": 5}, 100),
    ("tab\tle", {"tab le": 10}, 100),
    ("ten past 10", {"10 past ten": 3, "noon": 7}, 90),
]


@pytest.mark.parametrize(("answer", "people", "percent"), RECORDED)
def test_an_accuracy_is_the_official_one(answer, people, percent):
    answers = [text for text, count in people.items() for _ in range(count)]
    assert len(answers) == 10
    assert 100 * accuracy(answer, answers) == pytest.approx(percent, abs=1e-9)


def test_each_person_is_compared_with_the_other_nine():
    """Three who agree give 9/10: without oneself two are left for these three, three for the other seven."""
    for count, percent in [(0, 0), (1, 30), (2, 60), (3, 90), (4, 100), (10, 100)]:
        answers = ["cat"] * count + [f"dog {'x' * i}" for i in range(10 - count)]
        assert 100 * accuracy("cat", answers) == pytest.approx(percent)


@pytest.mark.parametrize(
    ("answer", "plain"),
    [
        ("The  Cat!", "cat"),
        ("a an the", ""),
        ("none of two", "0 of 2"),
        ("(left) [right]", "left right"),
        ("x;y", "x y"),
        ("x; y;z", "x yz"),  # beside a space once: dropped everywhere
        ("1,000;2", "10002"),  # a number with a comma: all marks are dropped
        ("no. 5.5 u.s.", "no 5.5 us"),
        ("youve isnt whod've", "you've isn't who'd've"),
        ("ow's'at", "'ow's'at"),
    ],
)
def test_answers_are_normalised(answer, plain):
    assert normalised(answer) == plain


def test_contractions_differ_in_apostrophes_alone():
    assert len(CONTRACTIONS) == 114
    assert all(key != value and key.replace("'", "") == value.replace("'", "") for key, value in CONTRACTIONS.items())


def test_a_question_without_answers_has_no_accuracy():
    with pytest.raises(ValueError, match="without answers"):
        accuracy("yes", [])


def test_means_by_kind_and_the_longest_answer():
    assert percent_by_kind([1, 0, 0.5], ["other", "number", "other"]) == {"number": 0.0, "other": 75.0}
    assert longest_words(["yes", "on the  table"]) == 3
    assert longest_words([""]) == longest_words([]) == 1
