"""Type, range and choices of every key of `conf/config.yaml`, checked before anything starts.

The arguments of a group's constructor are checked in `runs/arguments.py`, a protocol in `runs/protocol.py`.
Imports neither torch nor lightning.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from runs.protocol import protocol_of
from runs.ranges import Key, count, number, one_of

GROUPS = ("task", "method", "data", "clip", "protocol", "optim", "trainer", "logger", "callbacks")
WITHOUT_TARGET = ("task", "protocol", "callbacks")
PROCESSES = max(64, 4 * (os.cpu_count() or 1))
THREADS = max(256, os.cpu_count() or 1)  # torch ends with a segmentation fault where it cannot start so many
FLAG, PATH = Key((bool,), "give true or false"), Key((str,), "give a path")
OPTIONAL_PATH = Key((str,), "give a path, or null", also=(None,))
# In the order of checking: shots comes early, as other values are often functions of it.
KEYS = {
    # 0: nothing trains, of data that can be tested without; others refuse it (`datamodules.loaded.check_shots`)
    "shots": count("give a number of training images per class, 1 or more, or -1 for all", 0, also=(-1,)),
    "seed": count("give an integer from 0 to 4294967295", 0, 2**32 - 1),
    "fit": FLAG,
    "force": FLAG,
    "batch_size": count("give a number of images, 1 or more"),
    "precision": one_of("32-true", "bf16-mixed", "16-mixed"),
    "eval_every": count("give a number of epochs, or 0 to evaluate at the end alone", 0),
    "select": one_of("last", "best_val"),
    "objective": Key((str,), "give the dotted path of a number in result.json, or null for validation images", also=(None,)),
    "schedule": one_of("cosine", "poly", "multistep"),
    **dict.fromkeys(("poly", "multistep"), Key((dict,), "give its keys below it, as conf/config.yaml does")),
    "source": Key((str,), "give the name of a source, such as disk or hub"),
    "data_root": PATH,
    **dict.fromkeys(("ckpt", "init_from", "folder", "data_index"), OPTIONAL_PATH),
    "output": Key((str,), "give a folder"),
    "workers": count(f"give auto, or a number of processes from 0 to {PROCESSES}", 0, PROCESSES, also=("auto",)),
    "decoded_mb": count("give a number of megabytes, or 0 to keep no image", 0, 2**24),
    "threads": count(f"give auto, or a number of threads from 1 to {THREADS}", most=THREADS, also=("auto",)),
    "accumulate": count("give a number of micro-batches per step, 1 or more"),
    "eval_batch_size": count("give a number of images, 1 or more"),
    "shard_classes": count("give a number of classes, or 0 to never divide them", 0),
    "features": Key((dict,), "give store, max_gb and views below it, as conf/config.yaml does"),
    "save_every": number("give a number of seconds, 0 or more", 0),
    "save_steps": count("give a number of optimiser steps, 1 or more, or null for none", also=(None,)),
    "recipes": Key((dict,), "leave it empty: it is filled with the names of the recipes that apply"),
    "other_clip": FLAG,
    "lm": Key((dict,), "choose a language model by its name, as listed by --help, or null for none", also=(None,)),
    "earlier": Key((dict,), "give a mapping of what an earlier run has otherwise, or null", also=(None,)),
    "targets": Key((dict,), "leave it empty: it is filled from protocol.targets"),
    "epochs": count("give a number of epochs, 1 or more"),
}
# Keys of groups whose constructors, of libraries, would refuse a wrong value late or never. Checked where they are given.
GROUP_KEYS = {
    "optim.lr": number("give a number above 0", 1e-300),
    "optim.momentum": number("give a number from 0 to 1", 0, 1),
    "optim.weight_decay": number("give a number, 0 or more", 0),
    "task.name": Key((str,), "give the name of the task's yaml"),
    "task.baseline": Key((str,), "give the name of a method, or null", also=(None,)),
    "trainer.num_nodes": count("give a number of machines, 1 or more"),
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.log_every_n_steps": count("give a number of steps, or 0 for none", 0),
    "trainer.max_epochs": count("give epochs=N instead, 1 or more"),
    "trainer.min_epochs": count("give a number of epochs, 1 or more, or null for no bound", also=(None,)),
    "trainer.max_steps": count("give a number of optimiser steps, 1 or more, or -1 for no bound", also=(-1,)),
    "trainer.min_steps": count("give a number of optimiser steps, 1 or more, or null for no bound", also=(None,)),
    "trainer.accumulate_grad_batches": count("give accumulate=N instead, 1 or more"),
    "trainer.gradient_clip_val": number("give the largest norm of a gradient, above 0, or null for any", 1e-300, also=(None,)),
}
REQUIRED = ("task.name", "optim.lr", "protocol.train", "protocol.evaluate", "protocol.targets")


def check_config(cfg: DictConfig) -> None:
    """ValueError, one sentence, for the first key that is missing, cannot be resolved, or has a value that it cannot have.
    Reads the disk only to check `output`, and creates nothing."""
    for name, key in KEYS.items():
        check_value(key, name, resolved(cfg, name))
    check_output(cfg.output)
    check_groups(cfg)
    for name in REQUIRED:
        _group_value(cfg, name)
    for name, key in GROUP_KEYS.items():
        if _is_given(cfg, name):
            check_value(key, name, _group_value(cfg, name))
    protocol_of(resolved(cfg, "protocol"))
    if _is_given(cfg, "data.templates"):
        check_templates(_group_value(cfg, "data.templates"))
    if _is_given(cfg, "trainer.devices"):
        check_devices(_group_value(cfg, "trainer.devices"))
    if _is_given(cfg, "trainer.min_epochs"):
        check_min_epochs(_group_value(cfg, "trainer.min_epochs"), cfg.epochs)


def _is_given(cfg: DictConfig, name: str) -> bool:
    group, key = name.split(".")
    return key in cfg[group]


def _group_value(cfg: DictConfig, name: str) -> Any:
    group, key = name.split(".")
    return resolved(cfg[group], key, name)


def check_value(key: Key, name: str, value: Any) -> None:
    """ValueError where the key of this name may not have this value."""
    if not key.accepts(value):
        raise ValueError(f"{name}={shown(value)}: {key.give}.")


def check_groups(cfg: DictConfig) -> None:
    """ValueError where a group, or a callback, is no mapping, or has no `_target_`."""
    for group in GROUPS:
        node = resolved(cfg, group)
        if not isinstance(node, dict):
            raise ValueError(f"{group}={shown(node)}: choose one of its options by name, as listed by --help.")
        check_target(group, node)
    check_task(resolved(cfg, "task"))
    check_named_nodes(cfg, "callbacks", "callback")
    if "_target_" not in cfg.logger:  # a mapping of loggers
        check_named_nodes(cfg, "logger", "logger")


def check_target(group: str, node: Mapping[str, Any]) -> None:
    """ValueError where a group that is made from a `_target_` has none. Loggers may be a mapping of several."""
    if group in WITHOUT_TARGET or (group == "logger" and "_target_" not in node):
        return
    if not (isinstance(node.get("_target_"), str) and node["_target_"]):
        raise ValueError(f"{group}._target_={shown(node.get('_target_'))}: give the dotted path of what makes it.")


def check_named_nodes(cfg: DictConfig, group: str, kind: str) -> None:
    """ValueError where an entry of a group of named objects is neither null nor has a `_target_`."""
    for name, node in resolved(cfg, group).items():
        if node is not None and not (isinstance(node, dict) and "_target_" in node):
            raise ValueError(f"{group}.{name}={shown(node)}: give a mapping with the {kind}'s _target_, or null.")


def resolved(cfg: DictConfig, key: str, name: str = "") -> Any:
    """The plain value of a key; ValueError where it is missing or its interpolations fail."""
    name = name or key
    if key not in cfg.keys():  # noqa: SIM118 - `key in cfg` is false for a mandatory value that is missing, too
        raise ValueError(f"there is no key {name}, which a run needs: leave out the ~{name} that took it away.")
    try:
        if OmegaConf.is_missing(cfg, key):
            raise ValueError(f"{name} has no value: give {name}=VALUE.")
        value = cfg[key]
        if OmegaConf.is_config(value) and (missing := sorted(OmegaConf.missing_keys(value))):  # their full dotted keys
            raise ValueError(f"{missing[0]} has no value: give {missing[0]}=VALUE.")
        return OmegaConf.to_container(value, resolve=True, throw_on_missing=True) if OmegaConf.is_config(value) else value
    except OmegaConfBaseException as error:
        raise ValueError(unresolved(error, name)) from error
    except RecursionError as error:
        raise ValueError(f"{name} cannot be resolved: it refers to itself.") from error


def unresolved(error: OmegaConfBaseException, name: str = "") -> str:
    """One sentence for an interpolation that fails, or a mandatory value that is missing."""
    text = str(error.__cause__ or error).splitlines()[0]
    text = re.sub(r"^\w+ raised while resolving interpolation: ", "", text)
    if isinstance(error.__cause__ or error, RecursionError) or "ecursi" in text:
        text = "it refers to itself"
    return text if not name or name in text else f"{name} cannot be resolved: {text}"


def check_output(output: str) -> None:
    """ValueError unless the folder is there or can be made, and can be written to."""
    path = Path(output)
    for folder in (path, *path.parents):
        try:
            folder.stat()
        except (FileNotFoundError, NotADirectoryError):
            continue  # a folder above may be a file: the loop reaches it next
        except OSError as error:
            raise ValueError(f"output={shown(output)}: {error.strerror}: give another folder.") from error
        if not os.path.isdir(folder):
            raise ValueError(f"output={shown(output)}: {folder} is a file: give a folder.")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ValueError(f"output={shown(output)}: {folder} cannot be written to: change its permissions, or give another.")
        return


def check_task(task: Mapping[str, Any]) -> None:
    """ValueError unless a task has a `_target_` for its module and, as `report`, null or a dotted path."""
    module, report = task.get("module"), task.get("report")
    if not (isinstance(module, dict) and isinstance(module.get("_target_"), str) and module["_target_"]):
        raise ValueError(f"task.module={shown(module)}: give a mapping with the _target_ of the task's LightningModule.")
    if report is not None and not (isinstance(report, str) and report):
        raise ValueError(f"task.report={shown(report)}: give the dotted path of a module with `sections`, or null.")


def check_templates(templates: Any) -> None:
    """ValueError unless these are texts with a place for the class name."""
    good = isinstance(templates, list) and all(isinstance(text, str) and "{}" in text for text in templates)
    if not good or not templates:
        raise ValueError(
            f"data.templates={shown(templates)}: give a list of texts, each with {{}} for the class name, as in "
            '["a photo of a {}."].'
        )


def check_devices(devices: Any) -> None:
    """ValueError unless this is a number of devices, their numbers as a list or a text "0,2", -1 or "auto"."""
    good = devices == "auto" or (type(devices) is int and (devices == -1 or 1 <= devices <= 10_000))
    if isinstance(devices, list):
        good = bool(devices) and all(type(number) is int and number >= 0 for number in devices)
    if isinstance(devices, str):
        good = good or bool(re.fullmatch(r"-1|[1-9]\d{0,3}|\d+(,\d+)*,?", devices, re.ASCII)) and devices != "0"
    if not good:
        raise ValueError(f"trainer.devices={shown(devices)}: give a number of devices, -1 for all, auto, or a list of them.")


def check_min_epochs(least: int | None, epochs: int) -> None:
    """ValueError where a run is to train for more epochs than it has."""
    if least is not None and least > epochs:
        raise ValueError(f"trainer.min_epochs={least} is more than epochs={epochs}: give at most epochs, or leave it out.")


def check_choices(choices: Mapping[str, Any], named: tuple[str, ...]) -> None:
    """ValueError where no option of a group is chosen, or a file that only other options inherit (_base.yaml and the like)."""
    for group in named:
        if not isinstance(choices.get(group), str):
            raise ValueError(f"no {group} is chosen: give {group}=NAME, with one of the names listed by --help.")
    for group, option in choices.items():
        if str(option).startswith("_"):
            raise ValueError(f"{group}={option} is a part of other options, not an option itself: choose one listed by --help.")


def check_one_option(overrides: Sequence[str]) -> None:
    """ValueError for `GROUP=[A,B]`: Hydra merges the options of a list, and what a run is made of is one option."""
    for override in overrides:
        group, _, value = override.lstrip("+").partition("=")
        if value.strip().startswith("[") and ((group in GROUPS and group != "callbacks") or group.startswith("recipe")):
            raise ValueError(f"{override} names a list: give one option, {group}=NAME; -m {group}=A,B runs a job for each.")


def check_overrides(overrides: ListConfig) -> None:
    """ValueError for lists of options, and for a change that would have no effect: a mapping is merged with what is there, so
    {} leaves it as it is."""
    texts: Any = OmegaConf.to_container(overrides, resolve=False)
    check_one_option(texts)
    for override in texts:
        key, _, value = override.partition("=")
        if value.strip() == "{}" and not key.startswith(("+", "~")):
            raise ValueError(f"{override} changes nothing, as mappings are merged: take entries away with ~{key}.NAME.")


def shown(value: Any) -> str:
    """A value as the command line has it, in at most 80 printable characters."""
    words = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    text = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in text)
    return text if len(text) <= 80 else f"{text[:77]}..."
