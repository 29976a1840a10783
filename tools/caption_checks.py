"""Finds what is missing, misplaced or unreadable among captioned images or questions, and counts them. Writes nothing."""

from collections import Counter
from collections.abc import Sequence
from itertools import islice

from datamodules import layouts
from datamodules.annotation_files import AnnotatedImages
from datamodules.captioned_items import CaptionedImage, CaptionSplits, Question, QuestionSplits
from datamodules.disk import MissingFilesError
from tools.dataset_checks import Problem, missing_files, missing_parts, undecodable

Item = CaptionedImage | Question


def examine_texts(name: str, source: AnnotatedImages, every_image: bool, limit: int) -> tuple[list[Problem], list[str]]:
    """The problems of a dataset, and remarks for which nothing needs to be done."""
    problems = list(missing_parts(source))
    try:
        splits = source.preview()
    except MissingFilesError as error:
        home = source.folder if source.images.is_relative_to(source.folder) else source.images
        problems += missing_files(error, home, limit)
        return problems, counts(name, source.listed())
    except ValueError as error:  # a sentence that says what to do
        return problems or [Problem(str(error), "")], []
    lists = (splits.train, splits.val, splits.test)
    of_path = {item.path: item for items in lists for item in (items if every_image else islice(items, 1))}
    return problems + list(undecodable(source, of_path.values(), limit)), counts(name, splits)


def counts(name: str, splits: CaptionSplits | QuestionSplits) -> list[str]:
    """How many images, captions and questions there are, by split and domain, and where that is not the published number."""
    lists = (splits.train, splits.val, splits.test)
    sizes = {"images": tuple(len({item.path for item in items}) for items in lists)}
    sizes["captions"] = tuple(sum(map(len, captions_by_image(items).values())) for items in lists)
    if isinstance(splits, QuestionSplits):
        sizes["questions"] = tuple(map(len, lists))
    remarks = [f"{_line(numbers)} training / validation / test {what}" for what, numbers in sizes.items() if sum(numbers)]
    domains = Counter(item.domain for items in lists for item in items if isinstance(item, CaptionedImage) and item.domain)
    remarks += [f"{', '.join(f'{count:,} {domain}' for domain, count in sorted(domains.items()))} images"] if domains else []
    remarks += [f"{count:,} {what}" for what, count in _without(lists).items() if count]
    published = layouts.TEXT_SIZES.get(name, {})
    others = [f"{_line(numbers)} {what}" for what, numbers in published.items() if sizes[what] != numbers]
    return [*remarks, *([f"these are not the published lists: they have {', '.join(others)}"] if others else [])]


def captions_by_image(items: Sequence[Item]) -> dict[str, tuple[str, ...]]:
    """The captions of each image, by its path: an image may stand in the list more than once, with each of its questions."""
    return {item.path: item.captions for item in items}


def _without(lists: Sequence[Sequence[Item]]) -> dict[str, int]:
    """How many questions have no answers, and how many images no captions."""
    items = [item for items in lists for item in items]
    return {
        "questions without public answers": sum(isinstance(item, Question) and not item.answers for item in items),
        "images without public captions": sum(isinstance(item, CaptionedImage) and not item.captions for item in items),
    }


def _line(numbers: Sequence[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)
