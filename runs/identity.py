"""The identity of a run: the part of its config that can change a result, with digests in place of the files that it names.

Imports neither torch nor lightning.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from prompts.engine import weight_folder
from runs.protocol import protocol_of

# The files whose digest is a folder's digest, as patterns: prompts of a run, or CLIP weights with config and tokenizer; else a
# method's json files.
STANDS_FOR = (("prompts.safetensors",), weight_folder.READ)
RESULT = "result.json"  # enters no digest: it holds times, which differ between equal runs
# Keys that change no result: they say how or where something is run. Each is replaced by the fixed value given here before the
# digest is computed (and not left out, as other keys interpolate them).
EXECUTION_KEYS = {
    "data_root": "data",
    "folder": None,  # the content of the data counts
    "data_index": None,
    "output": "outputs",
    "workers": 0,
    "decoded_mb": 0,
    "threads": "auto",
    "accumulate": 1,
    "eval_batch_size": 100,
    "shard_classes": 512,
    "save_every": 60,
    "save_steps": None,
    "force": False,
    "objective": None,
    "ckpt": None,
    "init_from": None,
    "other_clip": False,
    "seed": 0,
}
# Those of them that may differ in an earlier run without changing its result, or that of the later run.
EARLIER_COUNTS = {"data_root", "folder", "data_index", "ckpt", "init_from", "other_clip", "seed"}
EARLIER_EXECUTION = tuple(set(EXECUTION_KEYS) - EARLIER_COUNTS)
# Those of them that were added later: left out, so that older runs keep their digests.
LATER = ("decoded_mb", "folder")
# Groups that change no result: how a run is logged, how Hydra starts it, and the names of recipes, whose values count.
EXECUTION_GROUPS = ("logger", "hydra", "recipes")
# Arguments of the trainer that change no result: where it runs and what it shows. Any other argument enters the digest.
TRAINER_EXECUTION = (
    "accelerator",
    "devices",
    "num_nodes",
    "strategy",
    "accumulate_grad_batches",
    "log_every_n_steps",
    "enable_progress_bar",
    "enable_model_summary",
    "default_root_dir",
    "profiler",
    "barebones",
)
# Keys of a task that only its report reads.
TASK_REPORT = ("report", "baseline")
# Arguments of the trainer that cut a run short, with the values that do not. A run that is cut short keeps no result.
CUTS = {
    "fast_dev_run": (None, False),
    "limit_train_batches": (None, 1.0),
    "limit_val_batches": (None, 1.0),
    "limit_test_batches": (None, 1.0),
    "overfit_batches": (None, 0.0),
    "max_time": (None,),
}
# Arguments of the trainer that must equal a key of the config.
TRAINER_FOLLOWS = {"max_epochs": "epochs", "precision": "precision", "accumulate_grad_batches": "accumulate"}
# Arguments of the trainer that every run sets itself, with what to give instead.
TRAINER_SET = {"logger": "logger=NAME", "callbacks": "+callbacks.NAME._target_=PATH", "check_val_every_n_epoch": "eval_every=N"}
# Arguments of the data that must equal a key of the config, which results, folders and reports name.
DATA_FOLLOWS = {"shots": "shots", "seed": "seed", "batch_size": "batch_size", "subset": "protocol.train"}
# Callbacks that change nothing.
WATCHING_CALLBACKS = (
    "lightning_modules.progress.RunProgress",
    "lightning.pytorch.callbacks.RichProgressBar",
    "lightning.pytorch.callbacks.TQDMProgressBar",
    "lightning.pytorch.callbacks.LearningRateMonitor",
    "lightning.pytorch.callbacks.DeviceStatsMonitor",
)


def compared(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a resolved config that can change a result: without logging, and without the entries of the task, the trainer
    and the callbacks that change none. `EXECUTION_KEYS` are left to the caller."""
    relevant = {key: value for key, value in config.items() if key not in (*EXECUTION_GROUPS, *LATER)}
    if data := config.get("data"):
        relevant["data"] = _without_later(data)
    if targets := config.get("targets"):
        relevant["targets"] = {name: _without_later(data) for name, data in targets.items()}
    relevant["task"] = {key: value for key, value in (config.get("task") or {}).items() if key not in TASK_REPORT}
    trainer = {key: value for key, value in (config.get("trainer") or {}).items() if key not in TRAINER_EXECUTION}
    relevant["trainer"] = {key: value for key, value in trainer.items() if (key, value) != ("gradient_clip_val", None)}
    features = relevant.pop("features", None)  # stored features change no result, apart from a fixed number of views
    if isinstance(features, Mapping) and (views := features.get("views", "online")) != "online":
        relevant["features"] = {"views": views}
    if earlier := config.get("earlier"):
        relevant["earlier"] = {key: value for key, value in compared(earlier).items() if key not in EARLIER_EXECUTION}
    if relevant.get("lm") is None:  # a key that was added later: runs without a language model keep their digests
        relevant.pop("lm", None)
    for schedule in {"cosine", "poly", "multistep"} - {relevant.get("schedule", "cosine")}:
        relevant.pop(schedule, None)  # the keys of another schedule
    if relevant.get("schedule") == "cosine":  # likewise: runs of the schedule by epochs keep their digests
        relevant.pop("schedule")
    callbacks = config.get("callbacks") or {}
    relevant["callbacks"] = {name: node for name, node in callbacks.items() if node.get("_target_") not in WATCHING_CALLBACKS}
    return relevant


def configuration(config: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """A digest that runs over several seeds share: of the settings without the seed. Prompts that a run starts from are
    represented by the configuration that they were trained with.

    Args:
        config: resolved.
        names: the option chosen in each group.
    """

    def walk(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: walk(entry) for key, entry in value.items() if key not in EXECUTION_KEYS}
        return [walk(entry) for entry in value] if isinstance(value, list | tuple) else value

    def origin(path: str) -> str:
        folder = Path(path)
        return folder.parent.name if re.fullmatch(r"seed\d+", folder.name) else digest_of(path) or path

    what = [dict(names), walk(compared(config)), {key: origin(config[key]) for key in prompts_read(config)}]
    return hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()


def _without_later(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key not in LATER}


def prompts_read(config: Mapping[str, Any]) -> list[str]:
    """The keys that name the prompts which this run evaluates or starts from."""
    return [key for key in ("ckpt", "init_from") if config.get(key)]


def cuts(trainer: Mapping[str, Any]) -> list[str]:
    """The trainer's arguments that run only a part of what was asked for, as "key=value"."""

    def is_whole(key: str) -> bool:  # of the same type too: 1 is one batch, 1.0 all of them
        return any(type(trainer[key]) is type(value) and trainer[key] == value for value in CUTS[key])

    return [f"trainer.{key}={json.dumps(trainer[key], default=str)}" for key in CUTS if key in trainer and not is_whole(key)]


def check_trainer(config: Mapping[str, Any]) -> None:
    """ValueError where the trainer's arguments say otherwise than the keys that they follow, or would be replaced."""
    for argument, instead in TRAINER_SET.items():
        if argument in config["trainer"]:
            raise ValueError(f"trainer.{argument} is set by the run itself: leave it out, and give {instead}.")
    for argument, key in TRAINER_FOLLOWS.items():
        if argument not in config["trainer"]:
            raise ValueError(f"the trainer has no {argument}: write `{argument}: ${{{key}}}` into its yaml.")
        if (given := config["trainer"][argument]) != config[key]:
            raise ValueError(
                f"trainer.{argument}={given} contradicts {key}={config[key]}: set {key} alone, the trainer follows."
            )


def check_data(config: Mapping[str, Any]) -> None:
    """ValueError where the data's arguments say otherwise than the keys that they follow."""
    for argument, key in DATA_FOLLOWS.items():
        wanted = protocol_of(config["protocol"]).subset if key == "protocol.train" else config[key]
        if argument in config["data"] and (given := config["data"][argument]) != wanted:
            raise ValueError(f"data.{argument}={given} contradicts {key}={wanted}: set {key} alone, the data follow.")


def with_digests(value: Any) -> Any:
    """The value, in which each string that names a file, or a folder of prompts or weights, is replaced by its digest."""
    if isinstance(value, dict):
        return {key: with_digests(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [with_digests(entry) for entry in value]
    # a plain word is never a path, even if a file of that name lies in the working directory
    if isinstance(value, str) and ("/" in value or Path(value).suffix):
        with suppress(OSError):  # a text that is too long for a path
            return digest_of(value) or value
    return value


def digest_of(path: str | None) -> str | None:
    """sha256 of a file, or of the files of a folder (`STANDS_FOR`): equal files have equal digests wherever they lie.

    Returns:
        None where there is no such file.
    """
    target = Path((path or "").removeprefix("local-dir:")).expanduser()
    if not target.is_dir():
        return file_digest(target) if target.is_file() else None
    prompts, clip = STANDS_FOR
    clip += weight_folder.TEXT_TOWERS if (target / weight_folder.CONFIG).is_file() else ()  # type: ignore[assignment]
    groups = [[file for pattern in patterns for file in sorted(target.glob(pattern))] for patterns in (prompts, clip)]
    left_by_method = sorted(file for file in target.glob("*.json") if file.name != RESULT)
    for files in (*groups, left_by_method):
        digests = [file_digest(file) for file in files if file.is_file()]
        if digests:
            return digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return None


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, cached in this process while the file's size and time of change are the same."""
    state = path.stat()
    return _file_digest(path.resolve(), state.st_size, state.st_mtime_ns)


@lru_cache(maxsize=256)
def _file_digest(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
