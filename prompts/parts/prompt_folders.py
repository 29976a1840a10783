"""Folders of reference prompts: which of the published files in one belongs to a dataset.

The names are those of CuPL (`all_prompts/full_prompts` of its repository), which ProText's `templates` shares. CuPL has no file
for EuroSAT; ProText has one.
"""

from __future__ import annotations

import os
from pathlib import Path

from prompts.parts.reference_prompts import Prompts

IMAGENET = ("imagenet_prompts_full.json", "CuPL_image_prompts.json")
# dataset -> names of its published file; the first that is there is taken
PUBLISHED = {
    **dict.fromkeys(("imagenet", "imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"), IMAGENET),
    "caltech101": ("cal_prompts_full.json",),
    "oxford_pets": ("pets_prompts_full.json",),
    "stanford_cars": ("cars_prompts_full.json",),
    "flowers102": ("flower_prompts_full.json",),
    "food101": ("food_prompts_full.json",),
    "fgvc_aircraft": ("airplane_prompts_full.json",),
    "sun397": ("sun_prompts_full.json",),
    "dtd": ("texture_prompts_full.json",),
    "eurosat": ("EuroSAT.json",),
    "ucf101": ("ucf_prompts_full.json",),
}


def is_folder(source: str | Path | Prompts | None) -> bool:
    """Whether the reference prompts are given as a folder of files."""
    return isinstance(source, str | Path) and os.path.isdir(os.path.expanduser(str(source)))


def file_of(source: str | Path | Prompts, dataset: str | None) -> str | Path | Prompts:
    """The published file of `dataset` where `source` is a folder; a file's path and a file's content are returned as they are.

    Raises:
        ValueError: no published name is known for the dataset, or the folder has no file of that name.
    """
    if not is_folder(source):
        return source
    if isinstance(source, str) and "/" not in source:  # a run's digest takes a plain word for no path
        raise ValueError(f"method.prompts={source} is a folder here: write ./{source}, so that what its files say counts.")
    if dataset not in PUBLISHED:
        raise ValueError(
            f"method.prompts={source} is a folder, and data={dataset} has no published file of reference prompts: name a file, "
            f"or a dataset among {', '.join(PUBLISHED)}."
        )
    folder = Path(os.path.expanduser(str(source)))
    found = [folder / name for name in PUBLISHED[dataset] if (folder / name).is_file()]
    if not found:
        names = " nor ".join(PUBLISHED[dataset])
        raise ValueError(
            f"the folder {source} has no {names}, the published reference prompts of data={dataset}: put the file there, or "
            "name another with method.prompts=PATH."
        )
    return found[0]
