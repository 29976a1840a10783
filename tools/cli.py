"""`clip-prompts`, the command of the installed package: the project's scripts under one name, from any folder.

    clip-prompts run method=maple data=eurosat shots=16   # what `python run.py` is in a clone; -m for a sweep
    clip-prompts report outputs                           # tables and a page of results
    clip-prompts doctor data=eurosat                      # whether a dataset is complete on this disk
    clip-prompts fetch data=eurosat                       # a dataset from its official address
    clip-prompts insight RUN_FOLDER                       # what a finished run has learned
    clip-prompts predict RUN_FOLDER --images photos       # classifies images, or their pixels, by a finished run
    clip-prompts export RUN_FOLDER --to model.onnx        # writes one as a graph for other programs: ONNX, torch.export
    clip-prompts share RUN_FOLDER --to my-name/prompts    # to Hugging Face's hub, or to a folder
    clip-prompts convert FOLDER                           # what a released checkpoint is; prompts in the released form
    clip-prompts features                                 # the store of image features: list, clear

Configs and packages of your own extend it: `PYTHONPATH=FOLDER clip-prompts run --config-dir FOLDER/conf ...`.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]  # of the clone, or site-packages
COMMANDS = {
    "run": [str(ROOT / "run.py")],
    "report": [str(ROOT / "report.py")],
    "doctor": ["-P", "-m", "tools.doctor"],  # -P: packages of the same names in the user's folder are not ours
    "fetch": ["-P", "-m", "datamodules.fetch"],
    "insight": ["-P", "-m", "reports.insight"],
    "predict": ["-P", "-m", "tools.predict"],
    "export": ["-P", "-m", "tools.export"],
    "share": ["-P", "-m", "tools.share"],
    "convert": ["-P", "-m", "tools.convert"],
    "features": ["-P", "-m", "tools.features"],
}


def main() -> int:
    """Becomes the script of a command, as `python` would run it, with its signals and exit status."""
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        print((__doc__ or "").strip())
        return 0
    if name not in COMMANDS:
        print(f"error: {name!r:.80} is no command of clip-prompts: use one of {', '.join(COMMANDS)}.", file=sys.stderr)
        return 2
    line = [sys.executable, *COMMANDS[name], *arguments]
    if os.name == "posix":
        os.execv(sys.executable, line)
    return subprocess.call(line)


if __name__ == "__main__":
    sys.exit(main())
