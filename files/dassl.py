"""Folders of Dassl, in which the published code keeps its checkpoints: MODEL/model.pth.tar-N, and `checkpoint`, which names
the newest one."""

from __future__ import annotations

import re
from pathlib import Path

from files.hub import PROMPTS
from files.untrusted import read_bytes

NAMES = re.compile(r"model(-best)?\.pth\.tar(-\d{1,6})?")
NEWEST = "checkpoint"
MODELS = ("prompt_learner", "MultiModalPromptLearner", "VLPromptLearner")  # folders of models, by the published trainers


def checkpoint_of(given: str) -> str:
    """The checkpoint in a run's folder of Dassl, or in that of its model: the one that `checkpoint` names, else that of the
    last epoch. Any other path, and a folder with prompts of ours, as it is.

    ValueError where several models have one, or where `checkpoint` names none that is there.
    """
    folder = Path(given).expanduser()
    if not folder.is_dir() or (folder / PROMPTS).exists():
        return given
    found = [path for path in (folder, *(folder / name for name in MODELS)) if _checkpoints(path) or (path / NEWEST).is_file()]
    if len(found) > 1:
        raise ValueError(f"{given} has checkpoints in {', '.join(path.name for path in found)}: name one of these folders.")
    return str(_newest(found[0])) if found else given


def _checkpoints(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if NAMES.fullmatch(path.name) and path.is_file()] if folder.is_dir() else []


def _newest(folder: Path) -> Path:
    if (note := folder / NEWEST).is_file():
        name = read_bytes(note, "the name of the newest checkpoint", 1000).decode(errors="replace").strip()
        if not NAMES.fullmatch(name) or not (folder / name).is_file():
            raise ValueError(f"{note} names {name[:80]!r}, which is no checkpoint in that folder: give the path of one.")
        return folder / name
    return max(_checkpoints(folder), key=lambda path: int(path.name.rpartition("-")[2]) if path.name[-1].isdigit() else -1)
