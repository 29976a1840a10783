"""Checks dataset folders and says exactly what is missing, misplaced or unreadable, and what to do.

python -m tools.doctor data=NAME|all [data_root=PATH] [images=true] [limit=20] [data.source.disk.KEY=VALUE]

images=true decodes every image (default: one of each class and split); limit=0 lists everything. It writes nothing.
data.source.disk.KEY=VALUE are those of a run, for one dataset: data.source.disk.format=webdataset examines its shards.
data=folder data.name=NAME, or data.source.root=PATH: images of your own in class folders.
The exit status is 1 when something is wrong. Datasets are those of conf/data.
"""

import os
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import NamedTuple

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules import layouts
from datamodules.disk import Disk, MissingFilesError
from datamodules.imagenet import ImageNet, TestFolders
from datamodules.imagenet21k import ImageNet21K
from datamodules.items import Item, Items, positions_by_label, take
from datamodules.shapes21k import Shapes21K
from datamodules.split_json import SplitJson

CONF = Path(__file__).resolve().parents[1] / "conf"
NOT_A_DATASET = "folder"  # of conf/data: what users' own datasets are made from
DEFAULTS = {"data": "all", "images": False, "limit": 20, "shots": 0, "source": "disk", "data_index": None}


class Problem(NamedTuple):
    what: str
    todo: str


def load(name: str) -> DictConfig:
    """conf/data/NAME.yaml over the yamls that it builds on."""
    path = CONF / "data" / f"{name}.yaml"
    if not path.exists():
        raise ValueError(f"data={name} is not known: use all or one of {', '.join(names())}")
    own = OmegaConf.load(path)
    parents = [entry for entry in own.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return OmegaConf.merge(*(load(parent) for parent in parents), own)


def names() -> list[str]:
    return sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml"))


def disk_source(name: str, options: DictConfig, overrides: Sequence[str] = ()) -> Disk | None:
    """The dataset's reader of files; None where it has none (drawn or bundled images).

    ValueError for an override that is none of its keys.
    """
    data = OmegaConf.merge(options, {"data": load(name)}).data
    prefix, node = ("data.source.disk.", data.source.disk) if "disk" in data.source else ("data.source.", data.source)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data.name":
            data.name = value
            continue
        own = key.removeprefix(prefix)
        if own == key or own not in node or own.startswith("_"):
            known = ", ".join(str(each) for each in node if not str(each).startswith("_"))
            raise ValueError(f"{key} is no key of the files of data={name}: {prefix}KEY=VALUE takes {known or 'none'}")
        node[own] = OmegaConf.from_dotlist([f"value={value}"]).value
    source = instantiate(node, _convert_="all")
    return source if isinstance(source, Disk) and not isinstance(source, Shapes21K) else None


def move(found: Path, wanted: Path) -> str:
    if found in wanted.parents or wanted.exists():
        return f"it seems to be in {found}: move the contents of that folder into {wanted}"
    return f"it seems to be at {found}: mv '{found}' '{wanted}'"


def advice(folder: Path, part: str) -> str:
    if found := layouts.elsewhere(folder, part):
        return move(found, folder / part)
    if packed := layouts.archive(folder, part):
        return f"extract {packed}"
    return "download it; where from is below"


def missing_parts(source: Disk) -> Iterator[Problem]:
    folder = source.folder
    if not folder.is_dir():
        found = next((path for path in layouts.candidates(folder) if path.is_dir()), None)
        packed = layouts.archive(folder, "")
        todo = move(found, folder) if found else f"extract {packed}" if packed else "download it, or set data_root=PATH"
        yield Problem(f"the dataset's folder {folder} is missing", todo)
        return
    if not source.images.is_dir():
        yield Problem(
            f"the image folder {source.images} is missing", advice(folder, source.images.relative_to(folder).as_posix())
        )
    for part, what in source.needs.items():
        if not (folder / part).exists():
            todo = advice(folder, part)
            if isinstance(source, SplitJson) and part == source.split.name:
                todo += "; without it a run makes a split of its own, whose numbers do not compare with papers"
            yield Problem(f"{what} {folder / part} is missing", todo)


def locate(error: MissingFilesError, folder: Path) -> tuple[Counter[tuple[Path, Path]], dict[str, list[str]]]:
    """How many missing files lie in which wrong folder, {(there, where they belong): count}; the others by folder."""
    places = defaultdict(list)
    tops = [folder, *layouts.candidates(folder)]
    for top in (top for top in tops if not set(tops) & set(top.parents)):
        for where, _, files in os.walk(top):
            for file in files:
                places[file].append(Path(where, file).parts)
    moves, lost = Counter(), defaultdict(list)
    for path in error.paths:
        wanted = (error.root / path).parts
        best, shared = (), 0
        for place in places[wanted[-1]]:
            same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(place[::-1], wanted[::-1], strict=False))))
            # Numbered names (00001.jpg) recur in other folders: then the folder above must agree as well.
            if same > shared and (same > 1 or len(places[wanted[-1]]) == 1):
                best, shared = place, same
        if best:
            cut = max(1, min(shared, len(wanted) - len(folder.parts) - 1))
            moves[Path(*best[:-cut]), Path(*wanted[:-cut])] += 1
        else:
            lost[os.path.dirname(path)].append(os.path.basename(path))
    return moves, lost


def missing_files(error: MissingFilesError, folder: Path, limit: int) -> Iterator[Problem]:
    moves, lost = locate(error, folder)
    for (found, wanted), count in moves.most_common(limit or None):
        yield Problem(f"{count} image(s) of {wanted} are in {found}", f"move the contents of {found} into {wanted}")
    if not error.root.is_dir():
        return  # said already, in one line
    for where in sorted(lost)[: limit or None]:
        listed = ", ".join(lost[where][: limit or None]) + (", ..." if limit and len(lost[where]) > limit else "")
        yield Problem(f"{len(lost[where])} missing in {error.root / where}: {listed}", "extract or download them again")
    if limit and (hidden := max(len(moves) - limit, 0) + max(len(lost) - limit, 0)):
        yield Problem(f"the same in {hidden} more folder(s)", "limit=0 lists them")


def undecodable(source: Disk, items: Iterable[Item], limit: int) -> Iterator[Problem]:
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
    """Problems, and remarks that need nothing done."""
    problems, remarks = list(missing_parts(source)), []
    try:
        splits = source.preview()
        classes = len(splits.classnames)
    except MissingFilesError as error:
        found = list(missing_files(error, source.folder, limit))
        if found and not source.images.is_dir():  # the images are known to lie elsewhere: no need to download them
            problems = [problem for problem in problems if f"{source.images} is missing" not in problem.what]
        return problems + found, remarks
    except ValueError as error:  # a sentence that says what to do
        return problems or [Problem(str(error), "")], remarks
    lists = (splits.train, splits.val, splits.test)
    sizes = (classes, *(len(items) for items in lists))
    remarks.append("{} classes, {} / {} / {} training / validation / test images".format(*sizes))
    if (published := layouts.SIZES.get(name, sizes)) != sizes:
        difference = "it should have {} classes, {} / {} / {} images".format(*published)
        if isinstance(source, SplitJson | ImageNet21K):  # somebody's own split, or another release, is no mistake
            remarks.append(f"this is not the published split: {difference}")
        else:
            problems.append(Problem(difference, "finish the extraction, and look for empty class folders"))
    if isinstance(source, ImageNet | TestFolders) and not (source.folder / "classnames.txt").exists():
        remarks.append("there is no classnames.txt: open_clip's class names are used, which may differ from CoOp's")
    if isinstance(source, ImageNet21K):
        remarks.append(f"class names are from {source.stored_names[1] or 'WordNet (timm), first lemma'}")
        problems += [Problem(line, "") for line in source.broken]
    if splits_made_here(source):
        remarks.append(f"{source.split.name} was made here by a fallback and is not the published split")
    chosen = {item: None for items in lists for item in (items if every_image else first_of_each(items))}
    problems += undecodable(source, chosen, limit)
    return problems, remarks


def splits_made_here(source: Disk) -> bool:
    return isinstance(source, SplitJson) and source.split.exists() and '"fallback"' in source.split.read_text()[-20000:]


def first_of_each(items: Items) -> Items:
    return take(items, [group[0] for group in positions_by_label(items).values()])


def report(name: str, options: DictConfig, overrides: Sequence[str] = ()) -> bool:
    """Prints what was found; True if all is well."""
    source = disk_source(name, options, overrides)
    if source is None:
        print(f"ok   {name}: needs no files")
        return True
    problems, remarks = examine(name, source, bool(options.images), int(options.limit))
    print(f"{'BAD ' if problems else 'ok  '} {name} in {source.folder}" + "".join(f"\n     {line}" for line in remarks))
    for problem in problems:
        print(f"  -  {problem.what}" + (f"\n     -> {problem.todo}" if problem.todo else ""))
    if problems:
        comment = (CONF / "data" / f"{name}.yaml").read_text().splitlines()
        print("".join(f"     {line}\n" for line in comment if line.startswith("#")), end="")
    return not problems


def main(arguments: list[str]) -> int:
    root = OmegaConf.load(CONF / "config.yaml").get("data_root")
    options = OmegaConf.create(DEFAULTS | {"data_root": root})
    try:
        for argument in arguments:
            key, equals, _ = argument.partition("=")
            if not equals or not (key in ("data", "data_root", "images", "limit") or key.startswith("data.")):
                raise ValueError(f"{argument} is not understood; {__doc__.splitlines()[2]}")
        overrides = [argument for argument in arguments if argument.startswith("data.")]
        given = [argument for argument in arguments if argument not in overrides]
        options = OmegaConf.merge(options, OmegaConf.from_dotlist(given))
        if not isinstance(options.images, bool) or not isinstance(options.limit, int) or options.limit < 0:
            raise ValueError(f"images={options.images} limit={options.limit}: give true or false, and a number of lines or 0")
        if overrides and options.data == "all":
            raise ValueError(f"{overrides[0]} is for one dataset: say which with data=NAME")
        if options.data not in (known := names()) and options.data != "all":
            raise ValueError(f"data={options.data} is not known: use all or one of {', '.join(known)}")
        chosen = [name for name in known if name != NOT_A_DATASET] if options.data == "all" else [options.data]
        results = [report(name, options, overrides) for name in chosen]
        return 0 if all(results) else 1
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        print(str(cause).partition("\n")[0], file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
