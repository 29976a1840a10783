"""Analyses a finished run: its prompts, and the predictions that they change.

    python -m reports.insight RUN_FOLDER
    python -m reports.insight RUN_FOLDER --only words calibration       # these two need no images
    python -m reports.insight RUN_FOLDER data_root=/path clip.weights=/path/to/ViT-B-16.pt
    python -m reports.insight RUN_FOLDER --against OTHER_RUN_FOLDER     # instead of zero-shot CLIP

RUN_FOLDER is where a run says its results are. Pictures, tables and json go to RUN_FOLDER/insight; docs/insight.md says how to
read them.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from runs import launch

PARTS = ("words", "images", "calibration", "attention", "gap")


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m reports.insight", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, metavar="RUN_FOLDER", help="the folder of a finished run")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="of the run's config, where it is otherwise here")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS, help="these parts (default: all)")
    parser.add_argument("--against", type=Path, metavar="FOLDER", help="a run on the same images (default: zero-shot CLIP)")
    parser.add_argument("--evaluations", nargs="+", metavar="NAME", help="of the run's evaluations (default: all)")
    parser.add_argument(
        "--images", type=int, default=24, metavar="N", help="gained, and lost, on a sheet (default: at most 24)"
    )
    parser.add_argument("--words", type=int, default=5, metavar="N", help="nearest words of each vector (default: 5)")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="where the files go (default: RUN_FOLDER/insight)")
    parser.add_argument("--config-dir", type=Path, metavar="FOLDER", help="more configs, as for run.py")
    return parser.parse_intermixed_args()


def main() -> None:
    """Makes the requested parts in a temporary folder, and moves them to the output folder when all are done. ValueError for a
    user's mistake."""
    options = arguments()
    for name in ("images", "words"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} {getattr(options, name)}: give a number, 1 or more.")
    for override in options.overrides:
        if "=" not in override:
            raise ValueError(f"{override!r} is neither an option nor KEY=VALUE; give one RUN_FOLDER at a time.")

    from reports.insight.finished import FinishedRun  # torch takes seconds: --help and mistakes need not wait for it

    run = FinishedRun(options.folder, options.overrides, options.against, options.config_dir)
    chosen = options.evaluations or run.evaluations
    for name in chosen:
        if name not in run.evaluations:
            raise ValueError(f"--evaluations {name}: this run has {', '.join(run.evaluations)}.")

    from lightning_modules import process
    from reports.insight import parts
    from reports.insight.gap import gap

    process.quiet()
    make = {
        "words": lambda folder: parts.words(run, folder, options.words),
        "images": lambda folder: parts.images(run, folder, chosen, options.images),
        "calibration": lambda folder: parts.calibrate(run, folder, chosen),
        "attention": lambda folder: parts.attention(run, folder),
        "gap": lambda folder: gap(run, folder, chosen),
    }
    out = options.out or options.folder / "insight"
    if out.is_symlink() and not options.out:
        raise ValueError(f"{out} is a link, which leads out of the run's folder: say where the files go with --out FOLDER.")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}-") as temporary:
        for part in PARTS:  # in this order: calibration shows the baseline that images evaluated
            if part in options.only:
                print(make[part](Path(temporary)), end="\n\n", flush=True)
        files = sorted(Path(temporary).iterdir())
        if files:
            out.mkdir(exist_ok=True)
        for file in files:
            os.replace(file, out / file.name)
    print("\n".join(f"{out / file.name}" for file in files))


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
