"""Visual question answering: a frozen language model continues the image's prefix and "Q: ... A:", without an answer head.

Shapes: B questions, n rows of a prefix.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from datamodules.evaluation import Evaluation
from datamodules.scenes import most_common
from datamodules.transforms import eval_transform
from files.whole import write_json
from lightning_modules.evaluated import Figure
from lightning_modules.language import LanguageTask
from lightning_modules.samples import choose, write_samples
from lightning_modules.vqa_accuracy import accuracy, longest_words, percent_by_kind
from prompts.engine.language_model import Generation, Piece
from prompts.limber import Prefix

POOL = 1  # part of the seed that draws the training questions which may be examples
DRAW = 2  # part of the seed that draws the examples before a question


class VQA(LanguageTask):
    """Measures the accuracy of VQA v2, in percent, by the number of examples K before a question and by the kind of answer, and
    writes the answers to answers_NAME_K.json, which the VQA server takes. Where no answers are public, it reports the number of
    questions alone.

    A context is an example's prefix, "Q: question A: answer", the next example's, ..., the image's prefix, "Q: question A:".

    Args:
        generation: how answers are made. An answer is cut at the end of its line, and at the length of the longest human
            answer.
        shots: the numbers of examples K that are measured, each by itself.
        figure_shots: the K of the main figure; None: the largest.
        examples: the pool of training questions, drawn by the run's seed, from which each question's examples are drawn.

    Raises:
        ValueError: numbers out of range, or an example without an answer.
    """

    needs = ("a prefix for a language model", "questions about images")
    figure = Figure("accuracy", "VQA accuracy", "%")
    figure_without_texts = Figure("questions", "questions", "")

    def __init__(
        self,
        *args: Any,
        generation: Generation,
        shots: Sequence[int] = (0, 1, 2, 4),
        figure_shots: int | None = None,
        examples: int = 64,
    ) -> None:
        super().__init__(*args, generation=generation)
        if not shots or len(set(shots)) < len(shots) or not all(type(k) is int and k >= 0 for k in shots):
            raise ValueError(
                f"task.module.shots={list(shots)}: give different numbers of examples, 0 or more, such as [0,1,2,4]."
            )
        if examples < max(shots):
            raise ValueError(f"task.module.examples={examples}: give at least as many as the largest of task.module.shots.")
        self.shots = sorted(shots)
        self.figure_shots = self.shots[-1] if figure_shots is None else figure_shots
        if self.figure_shots not in self.shots:
            raise ValueError(f"task.module.figure_shots={figure_shots}: give one of task.module.shots, {self.shots}.")
        self.pool = self._drawn_pool(examples) if self.shots[-1] else []
        self.pool_rows: list[Tensor] = []  # (n,width) of each example's image

    def _drawn_pool(self, examples: int) -> list[int]:
        """Positions in the training list."""
        items = self.data.train_items
        if len(items) < self.shots[-1]:
            raise ValueError(
                f"task.module.shots={self.shots} puts up to {self.shots[-1]} training questions before a question, and there "
                f"are {len(items)}: give task.module.shots=[0], or data with training questions."
            )
        order = np.random.default_rng([self.seed, POOL]).permutation(len(items))
        chosen = sorted(order[:examples].tolist())
        if unanswered := [items[i].question_id for i in chosen if not items[i].answers]:
            raise ValueError(
                f"training question {unanswered[0]} has no answers, so it is no example: leave it out of the list."
            )
        return chosen

    # ---- texts

    def asked(self, item: Any) -> str:
        """ "Q: question A:"."""
        return f"Q: {item.question} A:"

    def answers(self, item: Any) -> Sequence[str]:
        """The answers that people gave."""
        return item.answers

    def example(self, item: Any) -> str:
        """ "Q: question A: answer", with the answer that most people gave."""
        return f"{self.asked(item)} {most_common(item.answers)}"

    def context(self, item: Any, rows: Tensor, examples: Sequence[tuple[Any, Tensor]] = ()) -> list[Piece]:
        """The language model's input: examples, each with the rows (n,width) of its image, then the question."""
        before = [piece for shown, of in examples for piece in (of, self.example(shown))]
        return [*before, rows, self.asked(item)]

    def longest_context(self, rows: Tensor) -> list[Piece]:
        """The context of the longest question with the longest examples."""
        questions = [item for evaluation in (*self.vals, *self.tests) for item in evaluation.items] or self.data.train_items
        pool = sorted((self.data.train_items[i] for i in self.pool), key=lambda item: -len(self.example(item)))
        examples = [(item, rows) for item in pool[: self.shots[-1]]]
        return self.context(max(questions, key=lambda item: len(item.question)), rows, examples)

    # ---- evaluation

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Answers the batch's questions; the prefixes of the examples are made at the first batch."""
        if first and self.pool:
            self.pool_rows = self._pool_rows()
        super().evaluate_batch(evaluation, batch, first)

    def _pool_rows(self) -> list[Tensor]:
        """The prefix (n,width) of each example, with its image transformed as in a test. Examples whose image cannot be read
        are dropped, where the data allow it. ValueError where fewer are left than a question needs."""
        dataset = self.data.dataset("train", self.data.subset, eval_transform(**self.data.image_spec))
        samples = {place: sample for place in self.pool if (sample := dataset[place])["weight"]}
        if len(samples) < self.shots[-1]:
            raise ValueError(
                f"only {len(samples)} of the {len(self.pool)} example images can be read, and task.module.shots={self.shots}: "
                "raise task.module.examples, or look at the images."
            )
        self.pool = list(samples)
        images = torch.cat([sample["image"] for sample in samples.values()]).split(self.data.eval_batch_size)
        prefix = self.learner.prefix
        return [rows for part in images for rows in prefix(self.model.clip, part.to(self.device)).rows]

    def examples_of(self, index: int, count: int) -> list[tuple[Any, Tensor]]:
        """The examples before a question of an evaluation, with their rows: the first `count` of one fixed order."""
        order = np.random.default_rng([self.seed, DRAW, index]).permutation(len(self.pool))[:count]
        return [(self.data.train_items[self.pool[place]], self.pool_rows[place]) for place in order]

    def generated(self, evaluation: Evaluation, index: Sequence[int], prefix: Prefix) -> list[dict[int, str]]:
        """The answer to each question, by the number of examples."""
        made: list[dict[int, str]] = [{} for _ in index]
        for count in self.shots:
            contexts = [
                self.context(evaluation.items[i], rows, self.examples_of(i, count))
                for i, rows in zip(index, prefix.rows, strict=True)
            ]
            texts = self.language_model.generate(contexts, self.generation, index)
            for answers, i, text in zip(made, index, texts, strict=True):
                answers[count] = cut(text, evaluation.items[i].answers)
        return made

    def measured(self, evaluation: Evaluation, records: dict[int, dict[int, str]]) -> dict[str, Any]:
        """Accuracy at `figure_shots`, `by_shots`, and `by_answer_type` for each number of examples."""
        items = [evaluation.items[i] for i in records]
        counts = {"questions": len(items), "shots": self.figure_shots}
        if not self.public[evaluation.name]:
            return counts
        by_shots, by_type = {}, {}
        for count in self.shots:
            right = [accuracy(made[count], item.answers) for made, item in zip(records.values(), items, strict=True)]
            by_shots[str(count)] = 100 * sum(right) / len(right)
            by_type[str(count)] = percent_by_kind(right, [item.answer_type for item in items])
        return counts | {"accuracy": by_shots[str(self.figure_shots)], "by_shots": by_shots, "by_answer_type": by_type}

    def line(self, metrics: Mapping[str, Any]) -> str:
        """The accuracy by the number of examples."""
        parts = [f"{count} examples {value:6.2f} %" for count, value in metrics.get("by_shots", {}).items()]
        return "   ".join([*parts, f"({metrics['questions']} questions)"])

    def write_files(self, folder: Path) -> None:
        """Writes answers_NAME_K.json for each evaluation and number of examples, and samples.json."""
        samples = {}
        for evaluation in self.tests:
            name, items, records = evaluation.name, evaluation.items, self.records[evaluation.name]
            for count in self.shots:
                results = [{"question_id": items[i].question_id, "answer": made[count]} for i, made in records.items()]
                write_json(folder / f"answers_{name}_{count}.json", results)
            samples[name] = self._samples(items, records)
        write_samples(folder, "vqa", self.tests, samples)

    def _samples(self, items: Sequence[Any], records: Mapping[int, Mapping[int, str]]) -> list[dict[str, Any]]:
        index, shots = list(records), self.figure_shots
        right = [accuracy(records[i][shots], items[i].answers) if items[i].answers else 0.0 for i in index]
        return [
            {
                "why": why,
                "index": index[place],
                "question": items[index[place]].question,
                "answer": records[index[place]][shots],
                "answers": items[index[place]].answers,
                "accuracy": 100 * right[place],
                "shots": shots,
            }
            for why, place in choose(right, self.seed)
        ]


def cut(text: str, answers: Sequence[str]) -> str:
    """The first line of a text, with at most as many words as the longest answer that people gave, if any did."""
    words = text.strip().partition("\n")[0].split()
    return " ".join(words[: longest_words(answers)] if answers else words)
