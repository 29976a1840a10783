"""Finds what is missing, misplaced or unreadable among referring expressions, and counts them. Writes nothing."""

from collections.abc import Iterator, Sequence
from itertools import islice

from datamodules import layouts
from datamodules.boxes import ious
from datamodules.disk import MissingFilesError
from datamodules.grounding_items import Expression, GroundingSplits
from datamodules.referred import ReferredImages
from tools.dataset_checks import Problem, missing_files, missing_parts, undecodable

HIT = 0.5  # IoU above which a box counts as that of the object


def examine_expressions(name: str, source: ReferredImages, every_image: bool, limit: int) -> tuple[list[Problem], list[str]]:
    """The problems of a dataset, and remarks for which nothing needs to be done."""
    problems = list(missing_parts(source))
    try:
        splits = source.preview()
    except MissingFilesError as error:
        problems += missing_files(error, source.images, limit)
        return problems + list(undetected(source, (splits := source.listed()).test)), counts(name, source, splits)
    except ValueError as error:  # a sentence that says what to do
        return problems or [Problem(str(error), "")], []
    lists = (splits.train, splits.val, splits.test)
    of_path = {item.path: item for items in lists for item in (items if every_image else islice(items, 1))}
    problems += [*undetected(source, splits.test), *undecodable(source, of_path.values(), limit)]
    return problems, counts(name, source, splits)


def counts(name: str, source: ReferredImages, splits: GroundingSplits) -> list[str]:
    """The numbers of expressions and images, where these differ from the published ones, and the quality of the proposals."""
    lists = (splits.train, splits.val, splits.test)
    sizes = {"expressions": tuple(map(len, lists)), "images": tuple(len({item.path for item in items}) for items in lists)}
    remarks = [f"{_line(numbers)} training / validation / test {what}" for what, numbers in sizes.items()]
    published = layouts.TEXT_SIZES.get(name.removesuffix("_gold"), {})
    others = [f"{_line(numbers)} {what}" for what, numbers in published.items() if sizes[what] != numbers]
    remarks += [f"these are not the published lists: they have {', '.join(others)}"] if others else []
    images = {item.path: item.detected for item in splits.test}
    if without := list(images.values()).count(False):
        remarks.append(f"{without:,} of {len(images):,} test images have no detected box")
    return remarks + [proposed(source.proposals, splits.test)] * bool(splits.test)


def undetected(source: ReferredImages, items: Sequence[Expression]) -> Iterator[Problem]:
    """A problem where no image of the test has a detection, which a run refuses."""
    if items and source.proposals == "detected" and not any(item.detected for item in items):
        what = f"no test image has a box in {source.detections_file}"
        yield Problem(what, "name the file of detections of these images: data.source.disk.detections=FILE")


def proposed(kind: str, items: Sequence[Expression]) -> str:
    """The number of proposals per expression, and the share of expressions with a right one: the others cannot be answered."""
    boxes = sum(len(item.proposals) for item in items) / len(items)
    right = sum(bool((ious(item.proposals, item.gold) > HIT).any()) for item in items)
    return f"{kind} proposals: {boxes:.1f} for a test expression, the right one among them for {100 * right / len(items):.1f} %"


def _line(numbers: Sequence[int]) -> str:
    return " / ".join(f"{number:,}" for number in numbers)
