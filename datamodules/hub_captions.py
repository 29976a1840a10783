"""Captioned images, and questions about images, through Hugging Face's `datasets`; a yaml names their columns."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from datamodules import identity
from datamodules.annotation_files import MAX_ID, MAX_TEXTS, check_apart, hold_out, id_of, sentence_of
from datamodules.captioned_items import CaptionedImage, CaptionSplits, Question, QuestionSplits
from datamodules.hub import HubSource
from datamodules.vqa_files import answer_of
from files.untrusted import shown, text_of

Row = tuple[str, dict[str, Any], str]  # its path, its values by argument, its place for messages
SPLITS = ("train", "val", "test")


class HubCaptions(HubSource):
    """A dataset of captioned images that `datasets.load_dataset` reads.

    Args:
        repo, builder, config, revision: as in `datamodules.hub.HubSource`.
        train, val, test: names of the splits, or None.
        split_column: the column that names the split of a row, whose values are then train, val and test, as in
            nlphuji/flickr30k; None: the repository has splits.
        split_of: with `split_column`, the repository's one split.
        image: the column of the image.
        captions: the column of its captions, a list of texts; or of one caption, where each caption has a row of its own:
            rows of the same `image_id` are then one image.
        image_id, domain: the columns of the image's id and of its domain, or None: rows are numbered, and without domain.
        held_out: this many images of `train` are held out for validation; only without `val`.
    """

    lists: type = CaptionSplits

    def __init__(
        self,
        repo: str | None,
        builder: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        train: str | None = "train",
        val: str | None = None,
        test: str | None = None,
        split_column: str | None = None,
        split_of: str = "train",
        image: str = "image",
        captions: str | None = "captions",
        image_id: str | None = None,
        domain: str | None = None,
        held_out: int = 0,
    ) -> None:
        super().__init__(repo, builder, config, revision, train, val, test, image)
        self.values = {split: name for split, name in self.names.items() if name}  # by split, its name in the repository
        if not self.values or (held_out and (val or not train)) or held_out < 0:
            raise ValueError(
                f"held_out={held_out}: name the split train or test; images are held out of train where val is null."
            )
        if split_column:
            self.names = {"train": split_of}
        self.split_column, self.captions, self.image_id, self.domain = split_column, captions, image_id, domain
        self.held_out = held_out

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are read, by the argument that names them."""
        arguments = ("image", "captions", "image_id", "domain", "split_column")
        return {argument: column for argument in arguments if (column := getattr(self, argument)) is not None}

    def splits(self, seed: int) -> CaptionSplits | QuestionSplits:  # type: ignore[override]
        """The repository's splits, the same for every seed. ValueError for values that are no captions, ids and the like."""
        lists: dict[str, list] = {split: [] for split in SPLITS}
        for split, value in self.values.items():
            lists[split] = self._items(split, self._rows(value))
        if self.held_out:
            lists["train"], lists["val"] = hold_out(lists["train"], self.held_out, "held_out")
        check_apart(lists, self.repo)
        return self.lists(**lists)

    def _rows(self, value: str) -> Iterator[Row]:
        """The rows of a split, without their images."""
        name = self.names["train"] if self.split_column else value
        data = self._data[name]
        columns = {argument: list(data[column]) for argument, column in self.columns.items() if argument != "image"}
        for i in range(len(data)):
            row = {argument: values[i] for argument, values in columns.items()}
            if row.get("split_column", value) == value:
                yield f"{name}/{i}", row, f"row {i} of {name} in {self.repo}"

    def _items(self, split: str, rows: Iterator[Row]) -> list:  # type: ignore[override]
        of_id: dict[int | str, CaptionedImage] = {}
        for path, row, what in rows:
            captions = texts_of(row["captions"], f"{what}: {self.captions}", sentence_of)
            if not captions:
                raise ValueError(f"{what} has no captions: each image needs one (data.source.hub.captions names their column).")
            image_id = id_of(row.get("image_id", path), f"{what}: {self.image_id}")
            if (first := of_id.get(image_id)) and not isinstance(row["captions"], str):
                raise ValueError(f"{what} has the {self.image_id} {image_id}, as {first.path} has: remove one of the two.")
            domain = text_of(row["domain"], f"{what}: {self.domain}", 100) if "domain" in row else ""
            joined = ((*first.captions, *captions) if first else captions)[:MAX_TEXTS]
            of_id[image_id] = CaptionedImage(first.path if first else path, image_id, joined, domain)
        return list(of_id.values())

    def digest(self, seed: int) -> str:
        """A digest of the lists and the sizes of some images. The repository's name, which may be a folder, does not enter."""
        splits = self.splits(seed)
        lists = (splits.train, splits.val, splits.test)
        paths = sorted({item.path for items in lists for item in items})
        return identity.digest_of(*lists, [self.size(paths[i]) for i in identity.spread_positions(len(paths))])

    def content_digest(self, items: Iterable[CaptionedImage | Question]) -> str:
        """A digest of the images: of their bytes, or of the file's path, size and time of change."""
        digest = hashlib.sha256()
        for path in dict.fromkeys(item.path for item in items):
            stored = self.stored(path)
            if stored["bytes"] is None:
                digest.update(identity.files_digest(Path("/"), [stored["path"]]).encode())
            else:
                digest.update(hashlib.sha256(stored["bytes"]).digest())
        return digest.hexdigest()


class HubQuestions(HubCaptions):
    """A dataset of questions about images that `datasets.load_dataset` reads.

    Args:
        question, question_id: the columns of the question and of its id; without the latter the rows are numbered.
        answers: the column of its answers: texts, or objects with an `answer` each, as VQA v2 has them; empty in `test` where
            they are not public.
        answer_type, question_type: their columns, or None.
        captions: the column of the image's captions, or None.
        The others are as in `HubCaptions`.
    """

    lists: type = QuestionSplits

    def __init__(
        self,
        repo: str | None,
        builder: str | None = None,
        config: str | None = None,
        revision: str | None = None,
        train: str | None = "train",
        val: str | None = None,
        test: str | None = None,
        split_column: str | None = None,
        split_of: str = "train",
        image: str = "image",
        captions: str | None = None,
        image_id: str | None = None,
        held_out: int = 0,
        question: str = "question",
        answers: str = "answers",
        question_id: str | None = None,
        answer_type: str | None = None,
        question_type: str | None = None,
    ) -> None:
        super().__init__(
            repo, builder, config, revision, train, val, test, split_column, split_of, image, captions, image_id,
            held_out=held_out,
        )  # fmt: skip
        self.question, self.answers, self.question_id = question, answers, question_id
        self.answer_type, self.question_type = answer_type, question_type

    @property
    def columns(self) -> dict[str, str]:
        """The columns that are read, by the argument that names them."""
        arguments = ("question", "answers", "question_id", "answer_type", "question_type")
        return super().columns | {argument: column for argument in arguments if (column := getattr(self, argument)) is not None}

    def _items(self, split: str, rows: Iterator[Row]) -> list:  # type: ignore[override]
        items, ids, paths = [], set(), {}
        for number, (path, row, what) in enumerate(rows):
            question_id = row.get("question_id", number)
            if type(question_id) is not int or not 0 <= question_id <= MAX_ID or question_id in ids:
                raise ValueError(f"{what}: the {self.question_id} {shown(question_id)} is no integer of its own.")
            ids.add(question_id)
            answers = texts_of(row["answers"], f"{what}: {self.answers}", answer_of)
            if not answers and split != "test":
                raise ValueError(f"{what} has no answers: complete or remove it (data.source.hub.answers names their column).")
            image_id = id_of(row.get("image_id", path), f"{what}: {self.image_id}")
            captions = texts_of(row["captions"], f"{what}: {self.captions}", sentence_of) if "captions" in row else ()
            kinds = [
                text_of(row[key], f"{what}: {key}", 100) if row.get(key) else "" for key in ("answer_type", "question_type")
            ]
            question = sentence_of(row["question"], f"{what}: {self.question}")
            path = paths.setdefault(image_id, path)  # an image that several rows hold is one
            items.append(Question(path, image_id, question_id, question, answers, captions, *kinds))  # type: ignore[arg-type]
        return items


def texts_of(value: Any, what: str, read: Callable[[Any, str], str]) -> tuple[str, ...]:
    """The texts of a cell: one text, a list of texts, or a list of objects with an `answer` each; () for an empty one.
    ValueError that begins with `what`."""
    if value is None:
        return ()
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or len(values) > MAX_TEXTS:
        raise ValueError(f"{what} is neither a text nor a list of at most {MAX_TEXTS:,} texts.")
    return tuple(
        read(entry.get("answer") if isinstance(entry, dict) else entry, f"{what}, number {i}") for i, entry in enumerate(values)
    )
