"""Checks dataset folders and says exactly what is missing, misplaced or unreadable, and what to do.

python -m tools.doctor data=NAME|all [data_root=PATH] [images=true] [limit=20] [data.source.disk.KEY=VALUE]

images=true decodes every image (default: one of each class and split); limit=0 lists everything. It writes nothing.
data.source.disk.KEY=VALUE are those of a run, for one dataset: data.source.disk.format=webdataset examines its shards.
data=folder folder=PATH: images of your own (or masks_folder); data=folder data.name=NAME: those in data_root.
The exit status is 1 when something is wrong. Datasets are those of conf/data.
"""

import sys
from collections.abc import Sequence
from typing import Any

from hydra.errors import HydraException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from datamodules.annotation_files import AnnotatedImages
from datamodules.disk import Disk
from datamodules.segmented_disk import SegmentedDisk
from datamodules.shapes21k import Shapes21K
from tools.caption_checks import examine_texts
from tools.dataset_checks import examine
from tools.dataset_config import NOT_DATASETS, dataset_config, dataset_names, default_options, leading_comment
from tools.mask_checks import examine_masks


def disk_source(name: str, options: DictConfig, overrides: Sequence[str] = ()) -> Disk | None:
    """The dataset's reader of files; None where it has none (drawn or bundled images).

    Args:
        overrides: `data.source.disk.KEY=VALUE`, as a run takes them.

    Raises:
        ValueError: an override is none of its keys.
    """
    data = OmegaConf.merge(options, {"data": dataset_config(name)}).data
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


def report(name: str, options: DictConfig, overrides: Sequence[str] = ()) -> bool:
    """Prints the problems and remarks of a dataset; True if there is no problem."""
    source = disk_source(name, options, overrides)
    if source is None:
        print(f"ok   {name}: needs no files")
        return True
    kinds = ((AnnotatedImages, examine_texts), (SegmentedDisk, examine_masks), (Disk, examine))
    check: Any = next(check for kind, check in kinds if isinstance(source, kind))
    problems, remarks = check(name, source, bool(options.images), int(options.limit))
    print(f"{'BAD ' if problems else 'ok  '} {name} in {source.folder}" + "".join(f"\n     {line}" for line in remarks))
    for problem in problems:
        print(f"  -  {problem.what}" + (f"\n     -> {problem.todo}" if problem.todo else ""))
    if problems:
        print("".join(f"     {line}\n" for line in leading_comment(name)), end="")
    return not problems


def parsed(arguments: Sequence[str]) -> tuple[DictConfig, list[str]]:
    """The options of a command line, and its overrides of a dataset's source. ValueError for what is not understood."""
    for argument in arguments:
        key, equals, _ = argument.partition("=")
        if not equals or not (key in ("data", "folder", "data_root", "images", "limit") or key.startswith("data.")):
            raise ValueError(f"{argument} is not understood; {__doc__.splitlines()[2]}")
    overrides = [argument for argument in arguments if argument.startswith("data.")]
    given = [argument for argument in arguments if argument not in overrides]
    options = OmegaConf.merge(default_options(), OmegaConf.from_dotlist(given))
    if not isinstance(options.images, bool) or not isinstance(options.limit, int) or options.limit < 0:
        raise ValueError(f"images={options.images} limit={options.limit}: give true or false, and a number of lines or 0")
    if overrides and options.data == "all":
        raise ValueError(f"{overrides[0]} is for one dataset: say which with data=NAME")
    if options.data != "all" and options.data not in (known := dataset_names()):
        raise ValueError(f"data={options.data} is not known: use all or one of {', '.join(known)}")
    return options, overrides


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    try:
        options, overrides = parsed(arguments)
        datasets = [name for name in dataset_names() if name not in NOT_DATASETS]
        names = datasets if options.data == "all" else [options.data]
        results = [report(name, options, overrides) for name in names]
        return 0 if all(results) else 1
    except (ValueError, OSError, HydraException, OmegaConfBaseException) as error:
        cause = error.__cause__ if isinstance(error, HydraException) and error.__cause__ else error
        print(str(cause).partition("\n")[0], file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
