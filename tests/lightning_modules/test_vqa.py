"""Questions about images: what the language model is asked, what is made of its answers, and what is refused."""

import json

import pytest
import torch
from small_language import FakeLM, ToyQuestions, parts
from small_runs import trainer
from toys import IMAGE_SPEC

from datamodules.questions import Question, QuestionData
from datamodules.scenes import most_common
from lightning_modules.vqa import VQA, cut
from lightning_modules.vqa_accuracy import accuracy

COLOUR = "Q: What colour is it? A:"


def evaluated(language_model, **options):
    data, model, module = parts(VQA, ToyQuestions(), language_model, **options)
    trainer().test(module, verbose=False)
    return data, model, module


def texts(context):
    return [piece for piece in context if isinstance(piece, str)]


def test_the_prompt_stands_exactly_behind_the_image():
    words = FakeLM()
    _, model, _ = evaluated(words, shots=[0])
    assert {len(context) for context in words.asked} == {2}
    rows, text = words.asked[0]
    assert text == COLOUR
    assert rows.shape == (16, 8)  # the image's positions
    assert {context[1] for context in words.asked} == {COLOUR, "Q: Is it a dog? A:"}


def test_contexts_interleave_examples_with_their_own_images():
    words = FakeLM()
    data, model, module = evaluated(words, shots=[4, 0, 2])
    assert [len(context) for context in words.asked[:9]] == [2] * 3 + [6] * 3 + [10] * 3
    answers = {f"Q: {item.question} A: {'yes' if 'Is' in item.question else item.answers[0]}" for item in data.train_items}
    for context in words.asked:
        assert all(isinstance(piece, str) == bool(place % 2) for place, piece in enumerate(context))
        assert set(texts(context)[:-1]) <= answers
        assert texts(context)[-1].endswith(" A:")
    two, four = words.asked[3], words.asked[6]
    assert texts(four)[:2] == texts(two)[:2]
    assert torch.equal(four[0], two[0])
    texts_of = {}  # by the rows of an image
    for place, rows in zip(module.pool, module.pool_rows, strict=True):
        texts_of.setdefault(tuple(rows.flatten().tolist()), set()).add(module.example(data.train_items[place]))
    for context in words.asked[3:]:
        for rows, text in zip(context[:-2:2], texts(context)[:-1], strict=True):
            assert text in texts_of[tuple(rows.flatten().tolist())]


def test_examples_follow_from_the_seed_and_the_question():
    one, two = FakeLM(), FakeLM()
    data, _, module = evaluated(one, shots=[2], examples=5)
    assert len(module.pool) == 5
    drawn = {index: [item.question_id for item, _ in module.examples_of(index, 2)] for index in range(10)}
    assert len(set(map(tuple, drawn.values()))) > 3
    evaluated(two, shots=[2], examples=5)
    assert [texts(context) for context in one.asked] == [texts(context) for context in two.asked]


def test_accuracies_by_shots_and_kind_files_and_samples(tmp_path):
    """Without examples the model says the colour of every third image; with one what that says, and goes on."""

    def say(context, key):
        if len(context) == 2:
            return "red"
        return context[1].rpartition(" A: ")[2] + "\nQ: and so on"

    data, model, module = evaluated(FakeLM(say), shots=[0, 1])
    metrics = module.metrics["toys"]
    items = module.tests[0].items
    reds = [item for item in items if "red" in item.answers]
    assert metrics["by_shots"]["0"] == pytest.approx(100 * len(reds) / len(items))
    assert metrics["by_answer_type"]["0"] == {"other": pytest.approx(100 * 3 / 7), "yes/no": 0.0}
    said = [most_common(module.examples_of(i, 1)[0][0].answers) for i in range(len(items))]
    expected = [accuracy(answer, item.answers) for answer, item in zip(said, items, strict=True)]
    assert metrics["accuracy"] == metrics["by_shots"]["1"] == pytest.approx(100 * sum(expected) / len(items))
    assert (metrics["questions"], metrics["shots"]) == (len(items), 1)
    assert "0 examples  30.00 %" in module.line(metrics)
    module.write_files(tmp_path)
    for count in (0, 1):
        results = json.loads((tmp_path / f"answers_toys_{count}.json").read_text())
        assert [entry["question_id"] for entry in results] == [item.question_id for item in items]
        assert set(map(tuple, results)) == {("question_id", "answer")}
        assert all("\n" not in entry["answer"] for entry in results)
    samples = json.loads((tmp_path / "samples.json").read_text())
    assert samples["task"] == "vqa"
    best = samples["evaluations"]["toys"][0]
    assert best["why"] == "best"
    assert best["accuracy"] == 100
    assert best["shots"] == 1
    assert (tmp_path / best["image"]).is_file()


class Damaged(ToyQuestions):
    def open(self, item):
        if item.path in ("train/0", "train/1"):
            raise ValueError(f"{item.path} is damaged")
        return super().open(item)


def test_examples_whose_image_cannot_be_read_are_left_out():
    source = Damaged()
    data = QuestionData("toys", source, IMAGE_SPEC, shots=-1, seed=1, eval_batch_size=3, on_bad_image="skip")
    words = FakeLM()
    _, _, module = parts(VQA, source, words, data=data, shots=[2])
    trainer().test(module, verbose=False)
    assert {data.train_items[place].path for place in module.pool} == {f"train/{i}" for i in range(2, 9)}
    assert len(module.pool_rows) == len(module.pool)
    assert {len(context) for context in words.asked} == {6}


def test_the_figure_may_be_that_of_fewer_examples():
    _, _, module = evaluated(FakeLM(), shots=[0, 2], figure_shots=0)
    assert module.metrics["toys"]["accuracy"] == module.metrics["toys"]["by_shots"]["0"]


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("red and blue", ("red", "dark red"), "red and"),
        ("yes\nQ: more", ("yes",), "yes"),
        ("  on the table. ", ("on the table",), "on the table."),
        ("", ("yes",), ""),
        ("any number of words", (), "any number of words"),
    ],
)
def test_an_answer_is_cut_to_the_longest_that_people_gave(text, answers, expected):
    assert cut(text, answers) == expected


def test_training_learns_what_one_of_the_ten_people_answered():
    words = FakeLM()
    data, _, module = parts(VQA, ToyQuestions(), words, shots=[0])
    trainer(2).fit(module)
    assert {text for question, text in words.learned if question == COLOUR} <= {
        answer for item in data.train_items for answer in item.answers
    }
    assert len({text for question, text in words.learned if question == COLOUR}) > 3
    assert {text for question, text in words.learned if question != COLOUR} == {"yes"}
    assert module.losses[1][0] < module.losses[0][0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"shots": []}, "give different numbers"),
        ({"shots": [1, 1]}, "give different numbers"),
        ({"shots": [-1]}, "give different numbers"),
        ({"shots": [0, 2], "figure_shots": 1}, "give one of task.module.shots"),
        ({"shots": [4], "examples": 3}, "at least as many"),
        ({"shots": [40]}, "and there are 13"),
    ],
)
def test_wrong_numbers_are_one_sentence(options, words):
    with pytest.raises(ValueError, match=words):
        parts(VQA, ToyQuestions(), FakeLM(), **({"examples": 64} | options))


class Unanswered(ToyQuestions):
    def __init__(self, split):
        self.split = split

    def asked(self, split, count):
        for item in super().asked(split, count):
            yield Question(*item[:4], (), item.captions) if split == self.split and item.question_id == 10 else item


def test_a_question_without_answers_is_refused():
    with pytest.raises(ValueError, match="test/1 has no text to compare with, and others have"):
        parts(VQA, Unanswered("test"), FakeLM())
    with pytest.raises(ValueError, match="question 10 has no answers, so it is no example"):
        parts(VQA, Unanswered("train"), FakeLM())
    _, _, module = parts(VQA, Unanswered("train"), FakeLM(), shots=[0])
    with pytest.raises(ValueError, match="train/1 has no text to learn from"):
        trainer(1).fit(module)


class Hidden(ToyQuestions):
    def asked(self, split, count):
        for item in super().asked(split, count):
            yield Question(*item[:4], (), item.captions) if split == "test" else item


def test_answers_that_are_not_public_leave_the_servers_file(tmp_path):
    data, model, module = parts(VQA, Hidden(), FakeLM(), shots=[0, 1])
    trainer().test(module, verbose=False)
    assert module.metrics["toys"] == {"questions": 10, "shots": 1}
    assert (module.figure.key, module.figures) == ("questions", {"toys": 10})
    assert module.line(module.metrics["toys"]) == "(10 questions)"
    module.write_files(tmp_path)
    assert len(json.loads((tmp_path / "answers_toys_1.json").read_text())) == 10


def test_contexts_that_are_too_long_are_refused_before_training():
    words = FakeLM()
    words.positions = 100
    _, _, module = parts(VQA, ToyQuestions(), words, shots=[0, 4])
    with pytest.raises(ValueError, match=r"has 1\d\d rows.*100 positions.*give fewer examples"):
        trainer(1).fit(module)
    assert not words.learned
    _, _, module = parts(VQA, ToyQuestions(), words, shots=[0, 2])
    trainer(1).fit(module)


def test_without_a_language_model_one_sentence():
    with pytest.raises(ValueError, match="no language model: choose one by lm=NAME"):
        parts(VQA, ToyQuestions(), None)
