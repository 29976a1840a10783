"""Checks dataset folders and says exactly what is missing, misplaced or unreadable, and what to do.

python -m tools.doctor data=NAME|all [data_root=PATH] [images=true] [limit=20] [data.source.disk.KEY=VALUE] [--config-dir DIR]

images=true decodes every image (default: one of each class and split); limit=0 lists everything. It writes nothing.
data.source.disk.KEY=VALUE are those of a run, for one dataset: data.source.disk.format=webdataset examines its shards.
data=folder folder=PATH: images of your own (or masks_folder); data=folder data.name=NAME: those in data_root.
The exit status is 1 when something is wrong. Datasets are those of conf/data, and of DIR/data with --config-dir DIR.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.annotation_files import AnnotatedImages
from datamodules.disk import Disk
from datamodules.referred import ReferredImages
from datamodules.segmented_disk import SegmentedDisk
from datamodules.shapes21k import Shapes21K
from runs.command_line import plain_path
from tools.caption_checks import examine_texts
from tools.dataset_checks import Problem, examine
from tools.dataset_config import NOT_DATASETS, dataset_config, dataset_names, default_options, leading_comment
from tools.expression_checks import examine_expressions
from tools.mask_checks import examine_masks


def disk_source(name: str, options: DictConfig, overrides: Sequence[str] = (), more: Path | None = None) -> Disk | None:
    """The dataset's reader of files; None where it has none (drawn or bundled images).

    Args:
        overrides: `data.source.disk.KEY=VALUE`, as a run takes them.
        more: a folder of configs of the user's own.

    Raises:
        ValueError: an override is none of its keys.
    """
    data = OmegaConf.merge(options, {"data": dataset_config(name, more)}).data
    prefix, node = ("data.source.disk.", data.source.disk) if "disk" in data.source else ("data.source.", data.source)
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "data.name":
            data.name = value
            continue
        argument = key.removeprefix(prefix)
        if argument == key or argument not in node or argument.startswith("_"):
            known = ", ".join(str(known) for known in node if not str(known).startswith("_"))
            raise ValueError(f"{key} is no key of the files of data={name}: {prefix}KEY=VALUE takes {known or 'none'}")
        node[argument] = OmegaConf.from_dotlist([f"value={value}"]).value
    source = instantiate(node, _convert_="all")
    return source if isinstance(source, Disk) and not isinstance(source, Shapes21K) else None


def report(name: str, options: DictConfig, overrides: Sequence[str] = (), more: Path | None = None) -> bool:
    """Prints the problems and remarks of a dataset; True if there is no problem. `more`: as of `disk_source`."""
    source = disk_source(name, options, overrides, more)
    if source is None:
        print(f"ok   {name}: needs no files")
        return True
    kinds: tuple[tuple[type, Any], ...] = (
        (ReferredImages, examine_expressions),
        (AnnotatedImages, examine_texts),
        (SegmentedDisk, examine_masks),
        (Disk, examine),
    )
    check = next(check for kind, check in kinds if isinstance(source, kind))
    wrong = wrong_place(source, options.folder)
    problems, remarks = ([wrong], []) if wrong else check(name, source, bool(options.images), int(options.limit))
    print(f"{'BAD ' if problems else 'ok  '} {name} in {source.folder}" + "".join(f"\n     {line}" for line in remarks))
    for problem in problems:
        print(f"  -  {problem.what}" + (f"\n     -> {problem.todo}" if problem.todo else ""))
    if problems:
        print("".join(f"     {line}\n" for line in leading_comment(name, more)), end="")
    return not problems


def wrong_place(source: Disk, folder: str | None) -> Problem | None:
    """What is wrong with folder=PATH itself, where it is given; None if it is there."""
    place = Path(folder).expanduser() if folder else None
    if place is None or source.folder not in (place, place.parent):  # not of this dataset
        return None
    if not place.exists():
        return Problem(f"there is no {place}", "correct folder=PATH: it names images of your own, which nothing downloads")
    if source.folder == place and not place.is_dir():
        return Problem(f"{place} is a file", "give folder=PATH of a folder, in the layouts of docs/own_data.md")
    return None


def parsed(arguments: Sequence[str], more: Path | None = None) -> tuple[DictConfig, list[str]]:
    """The options of a command line, and its overrides of a dataset's source. ValueError for what is not understood."""
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals or not (key in ("data", "folder", "data_root", "images", "limit") or key.startswith("data.")):
            raise ValueError(f"{argument} is not understood; {__doc__.splitlines()[2]}")
    overrides = [argument for argument in arguments if argument.startswith("data.")]
    pairs = [argument.partition("=")[::2] for argument in arguments if argument not in overrides]
    places = {
        key: plain_path(value) for key, value in pairs if key in ("folder", "data_root")
    }  # no yaml: any mark may stand there
    given = [f"{key}={value}" for key, value in pairs if key not in places]
    options = OmegaConf.merge(default_options(), OmegaConf.from_dotlist(given), places)
    if not isinstance(options.images, bool) or not isinstance(options.limit, int) or options.limit < 0:
        raise ValueError(f"images={options.images} limit={options.limit}: give true or false, and a number of lines or 0")
    if overrides and options.data == "all":
        raise ValueError(f"{overrides[0]} is for one dataset: say which with data=NAME")
    if options.data != "all" and options.data not in (known := dataset_names(more)):
        raise ValueError(f"data={options.data} is not known: use all or one of {', '.join(known)}")
    return options, overrides  # type: ignore[return-value]


def config_dir(arguments: Sequence[str]) -> tuple[list[str], Path | None]:
    """The arguments without --config-dir, and its folder, if any. ValueError where there is no such folder."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config-dir", "-cd", type=Path)
    try:
        options, left = parser.parse_known_args(list(arguments))
    except argparse.ArgumentError as error:
        raise ValueError("--config-dir: give a folder of configs of your own") from error
    if options.config_dir and not options.config_dir.is_dir():
        raise ValueError(f"--config-dir {options.config_dir}: there is no such folder")
    return left, options.config_dir


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    if {"-h", "--help"} & set(arguments):
        print(__doc__.strip())
        return 0
    try:
        arguments, more = config_dir(arguments)
        options, overrides = parsed(arguments, more)
        datasets = [name for name in dataset_names(more) if name not in NOT_DATASETS]
        names = datasets if options.data == "all" else [options.data]
        results = [report(name, options, overrides, more) for name in names]
        return 0 if all(results) else 1
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        print(str(cause).partition("\n")[0], file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
