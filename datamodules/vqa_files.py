"""VQA v2 (Goyal et al., 2017), as visualqa.org has it: questions and annotations of COCO's images.

    v2_OpenEnded_mscoco_train2014_questions.json
        {"questions": [{"image_id": 458752, "question": "What is this photo taken looking through?", "question_id": 458752000}]}
    v2_mscoco_train2014_annotations.json
        {"annotations": [{"question_id": 458752000, "image_id": 458752, "question_type": "what is this", "answer_type": "other",
          "multiple_choice_answer": "net", "answers": [{"answer": "net", "answer_confidence": "maybe", "answer_id": 1}, ...]}]}

The answers to test2015 and test-dev2015 are not public; the official server takes results for them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datamodules.annotation_files import (
    MAX_SENTENCE,
    AnnotatedImages,
    by_id,
    hold_out,
    id_of,
    read_annotations,
    records,
    sentence_of,
    texts_of,
)
from datamodules.caption_lists import read_captions
from datamodules.captioned_items import Question, QuestionSplits
from files.untrusted import CONTROL, shown, text_of

QUESTIONS, ANNOTATIONS = "v2_OpenEnded_mscoco_{}_questions.json", "v2_mscoco_{}_annotations.json"
SERVER = {"test2015": "test2015", "test-dev2015": "test2015"}  # without public answers: the folder of their images
MAX_COCO_ID = 10**12  # of twelve digits in the images' names
Captions = Mapping[int | str, tuple[str, ...]]


class VQA(AnnotatedImages):
    """Reads such files.

    Args:
        root, folder: the files are in `root/folder`.
        coco: the folder of COCO below `root`: `coco/train2014/COCO_train2014_000000000009.jpg`.
        train, val, test: the name of each split in the files' names (train2014, val2014, test-dev2015, test2015), or None.
        held_out: the questions about this many images of `train` are held out for validation; only without `val`.
        captions: a file below `coco`, "{}" standing for the split's name, whose captions are added to the questions about an
            image; None: no captions. Not for test2015.
    """

    def __init__(
        self,
        root: str,
        folder: str,
        coco: str = "coco",
        train: str | None = "train2014",
        val: str | None = None,
        test: str | None = "val2014",
        held_out: int = 0,
        captions: str | None = None,
    ) -> None:
        super().__init__(root, folder)
        self.images = Path(root).expanduser() / coco
        self.names = {split: name for split, name in {"train": train, "val": val, "test": test}.items() if name}
        self.held_out, self.captions = held_out, captions
        if held_out < 0 or (held_out and (val or not train)):
            raise ValueError(f"held_out={held_out}: images of train are held out for validation only where val is null.")
        if hidden := [split for split, name in self.names.items() if name in SERVER and split != "test"]:
            raise ValueError(f"{hidden[0]}={self.names[hidden[0]]}: its answers are not public, so it can only be test.")
        self.needs = {QUESTIONS.format(name): f"the file of the {split} questions" for split, name in self.names.items()}
        answered = {split: name for split, name in self.names.items() if name not in SERVER}
        self.needs |= {ANNOTATIONS.format(name): f"the file of the {split} answers" for split, name in answered.items()}
        if captions:
            where = os.path.relpath(self.images, self.folder)
            self.needs |= {f"{where}/{captions.format(name)}": "the file of COCO's captions" for name in answered.values()}

    def listed(self) -> QuestionSplits:
        """The lists of the files. ValueError for a question without answer, an answer without question, or an id that occurs
        twice."""
        lists = {split: self._items(self.names[split]) if split in self.names else [] for split in ("train", "val", "test")}
        if self.held_out:
            lists["train"], lists["val"] = hold_out(lists["train"], self.held_out, "held_out")
        return QuestionSplits(**lists)

    def _items(self, name: str) -> list[Question]:
        path, captions = self.folder / QUESTIONS.format(name), self._captions(name)
        rows = by_id(records(read_annotations(path, "the file of questions"), "questions", path), "question_id", str(path))
        answers = None if name in SERVER else self._answers(name)
        folder, items = SERVER.get(name, name), []
        for question_id, row in rows.items():
            what = f"{path}: question {question_id}"
            image_id = coco_id(row.get("image_id"), f"{what}: image_id")
            if type(question_id) is not int:
                raise ValueError(f"{what}: the question_id is no integer.")
            given = answers.pop(question_id, None) if answers is not None else ((), "", "")
            if given is None:
                raise ValueError(f"{what} has no answers in {ANNOTATIONS.format(name)}: download the two files again.")
            if captions is not None and image_id not in captions:
                raise ValueError(
                    f"{what}: image {image_id} has no captions in {self.captions.format(name)}: give captions=null."
                )
            image = f"{folder}/COCO_{folder}_{image_id:012d}.jpg"
            texts = (captions or {}).get(image_id, ())
            items.append(
                Question(image, image_id, question_id, sentence_of(row.get("question"), what), given[0], texts, *given[1:])
            )
        if answers:
            raise ValueError(f"{self.folder / ANNOTATIONS.format(name)}: question {next(iter(answers))} is not in {path.name}.")
        return items

    def _answers(self, name: str) -> dict[int | str, tuple[tuple[str, ...], str, str]]:
        """{question id: (answers, type of answer, type of question)}."""
        path = self.folder / ANNOTATIONS.format(name)
        rows = by_id(records(read_annotations(path, "the file of answers"), "annotations", path), "question_id", str(path))
        return {question_id: _answered(row, f"{path}: question {question_id}") for question_id, row in rows.items()}

    def _captions(self, name: str) -> Captions | None:
        if self.captions is None or name in SERVER:
            return None
        path = self.images / self.captions.format(name)
        return {image_id: captions for image_id, _, captions in read_captions(path)}


def _answered(row: dict[str, Any], what: str) -> tuple[tuple[str, ...], str, str]:
    answers = texts_of(row.get("answers"), "answer", f"{what}: answers", answer_of)
    if not answers:
        raise ValueError(f"{what} has no answers: complete or remove it.")
    kinds = (text_of(row[key], f"{what}: {key}", 100) if row.get(key) else "" for key in ("answer_type", "question_type"))
    return answers, *kinds  # type: ignore[return-value]


def answer_of(value: Any, what: str) -> str:
    """The value, if it is an answer: a text, perhaps an empty one. ValueError that begins with `what`."""
    if not isinstance(value, str) or len(value) > MAX_SENTENCE or CONTROL.search(text := " ".join(value.split())):
        raise ValueError(f"{what} is no answer: {shown(value)} is not a text of at most {MAX_SENTENCE} printable characters.")
    return text


def coco_id(value: Any, what: str) -> int:
    """The value, if it is the id of one of COCO's images: an integer of at most twelve digits. ValueError that begins with
    `what`."""
    image_id = id_of(value, what)
    if type(image_id) is not int or image_id >= MAX_COCO_ID:
        raise ValueError(f"{what} is {shown(value)}: an image of COCO has an integer of at most twelve digits.")
    return image_id
