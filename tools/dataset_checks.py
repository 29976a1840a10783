"""Finds what is missing, misplaced or unreadable in a dataset's folder, and gives advice. Writes nothing."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from datamodules import layouts
from datamodules.disk import Disk, MissingFilesError
from datamodules.imagenet import ImageNet, TestFolders
from datamodules.imagenet21k import ImageNet21K
from datamodules.items import Item, Items, Splits, positions_by_label, take
from datamodules.split_json import SplitJson


class Problem(NamedTuple):
    """A problem with a dataset's files, and the advice; "" where `what` already says it."""

    what: str
    todo: str


def move_advice(actual: Path, wanted: Path) -> str:
    """The advice for a folder that is at `actual` and should be at `wanted`."""
    if actual in wanted.parents or wanted.exists():
        return f"it seems to be in {actual}: move the contents of that folder into {wanted}"
    return f"it seems to be at {actual}: mv '{actual}' '{wanted}'"


def advice(folder: Path, part: str) -> str:
    """What to do where a part of the dataset's folder is missing: it lies elsewhere, in an archive, or nowhere."""
    if actual := layouts.elsewhere(folder, part):
        return move_advice(actual, folder / part)
    if packed := layouts.archive(folder, part):
        return f"extract {packed}"
    return "download it; where from is below"


def missing_parts(source: Disk) -> Iterator[Problem]:
    """The dataset's folder, its image folder, and the lists that it needs, where they are missing."""
    folder = source.folder
    if not folder.is_dir():
        actual = next((path for path in layouts.candidates(folder) if path.is_dir()), None)
        packed = layouts.archive(folder, "")
        todo = f"extract {packed}" if packed else "download it, or set data_root=PATH"
        todo = move_advice(actual, folder) if actual else todo
        yield Problem(f"the dataset's folder {folder} is missing", todo)
        return
    if not source.images.is_dir():
        yield Problem(f"the image folder {source.images} is missing", advice(folder, os.path.relpath(source.images, folder)))
    for part, what in source.needs.items():
        if not (folder / part).exists():
            todo = advice(folder, part)
            if isinstance(source, SplitJson) and part == source.split.name:
                todo += "; without it a run makes a split of its own, whose numbers do not compare with papers"
            yield Problem(f"{what} {folder / part} is missing", todo)


def locate(error: MissingFilesError, folder: Path) -> tuple[Counter[tuple[Path, Path]], dict[str, list[str]]]:
    """Where missing files were found.

    Returns:
        {(wrong folder, right folder): number of files}, and the files that are nowhere, by folder.
    """
    paths = defaultdict(list)
    tops = [folder, *layouts.candidates(folder)]
    for top in (top for top in tops if not set(tops) & set(top.parents)):
        for where, _, files in os.walk(top):
            for file in files:
                paths[file].append(Path(where, file).parts)
    moves, lost = Counter(), defaultdict(list)
    for path in error.paths:
        wanted = (error.root / path).parts
        best, shared = (), 0
        for actual in paths[wanted[-1]]:
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(actual[::-1], wanted[::-1], strict=False))))
            # Numbered names (00001.jpg) occur in several folders: then the parent folder must agree as well.
            if same > shared and (same > 1 or len(paths[wanted[-1]]) == 1):
                best, shared = actual, same  # type: ignore[assignment]
        if best:
            cut = max(1, min(shared, len(wanted) - len(folder.parts) - 1))
            moves[Path(*best[:-cut]), Path(*wanted[:-cut])] += 1
        else:
            lost[os.path.dirname(path)].append(os.path.basename(path))
    return moves, lost


def missing_files(error: MissingFilesError, folder: Path, limit: int) -> Iterator[Problem]:
    """Images that lie in a wrong folder, and images that are nowhere, by folder; at most `limit` of each, 0: all."""
    moves, lost = locate(error, folder)
    for (actual, wanted), count in moves.most_common(limit or None):
        yield Problem(f"{count} image(s) of {wanted} are in {actual}", f"move the contents of {actual} into {wanted}")
    if not error.root.is_dir():
        return  # already reported in one line
    for where in sorted(lost)[: limit or None]:
        listed = ", ".join(lost[where][: limit or None]) + (", ..." if limit and len(lost[where]) > limit else "")
        yield Problem(f"{len(lost[where])} missing in {error.root / where}: {listed}", "extract or download them again")
    if limit and (hidden := max(len(moves) - limit, 0) + max(len(lost) - limit, 0)):
        yield Problem(f"the same in {hidden} more folder(s)", "limit=0 lists them")


def undecodable(source: Disk, items: Iterable[Item], limit: int) -> Iterator[Problem]:
    """Images that cannot be decoded; at most `limit` of them by name, 0: all."""
    broken = []
    for item in items:
        try:
            source.open(item)
        except ValueError:
            broken.append(item.path)
    for path in broken[: limit or None]:
        yield Problem(f"{source.images / path} cannot be decoded", "extract or download it again")
    if limit and len(broken) > limit:
        yield Problem(f"{len(broken) - limit} more image(s) cannot be decoded", "limit=0 lists them")


def examine(name: str, source: Disk, every_image: bool, limit: int) -> tuple[list[Problem], list[str]]:
    """The problems of a dataset, and remarks for which nothing needs to be done."""
    problems, remarks = list(missing_parts(source)), []
    try:
        splits = source.preview()
        len(splits.classnames)  # a ValueError where labels are missing
    except MissingFilesError as error:
        files = list(missing_files(error, source.folder, limit))
        if files and not source.images.is_dir():  # the images are in another folder: no need to download them
            problems = [problem for problem in problems if f"{source.images} is missing" not in problem.what]
        return problems + files, remarks
    except ValueError as error:  # a sentence that says what to do
        return problems or [Problem(str(error), "")], remarks
    size_problems, size_remarks = check_sizes(name, source, splits)
    problems, remarks = problems + size_problems, remarks + size_remarks
    remarks += class_name_remarks(source)
    if isinstance(source, ImageNet21K):
        problems += [Problem(line, "") for line in source.broken]
    if isinstance(source, SplitJson) and is_made_here(source):
        remarks.append(f"{source.split.name} was made here by a fallback and is not the published split")
    lists = (splits.train, splits.val, splits.test)
    chosen = {item: None for items in lists for item in (items if every_image else first_of_each(items))}
    problems += undecodable(source, chosen, limit)
    return problems, remarks


def check_sizes(name: str, source: Disk, splits: Splits) -> tuple[list[Problem], list[str]]:
    """Problems and remarks about the numbers of classes and images, compared with the published ones."""
    sizes = (len(splits.classnames), len(splits.train), len(splits.val), len(splits.test))
    remarks = ["{} classes, {} / {} / {} training / validation / test images".format(*sizes)]
    if (published := layouts.SIZES.get(name, sizes)) == sizes:
        return [], remarks
    difference = "it should have {} classes, {} / {} / {} images".format(*published)
    if isinstance(source, SplitJson | ImageNet21K):  # a user's split, or another release, is no mistake
        return [], [*remarks, f"this is not the published split: {difference}"]
    return [Problem(difference, "finish the extraction, and look for empty class folders")], remarks


def class_name_remarks(source: Disk) -> list[str]:
    """Where the class names come from, if not from the dataset's published lists."""
    if isinstance(source, ImageNet | TestFolders) and not (source.folder / "classnames.txt").exists():
        return ["there is no classnames.txt: open_clip's class names are used, which may differ from CoOp's"]
    if isinstance(source, ImageNet21K):
        return [f"class names are from {source.stored_names[1] or 'WordNet (timm), first lemma'}"]
    return []


def is_made_here(source: SplitJson) -> bool:
    """Whether the split file was written by a fallback of this project, which it says near its end."""
    return source.split.exists() and '"fallback"' in source.split.read_text()[-20000:]


def first_of_each(items: Items) -> Items:
    """The first item of every class."""
    return take(items, [group[0] for group in positions_by_label(items).values()])
