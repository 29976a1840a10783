"""Earlier runs: a run that has to be done before another one starts, such as a search, or the classes learned before.

A run names it by the root key `earlier` (conf/config.yaml), which a method's yaml fills, or by `protocol.train` as a list of
class subsets that are learned one after the other. Imports neither torch nor lightning.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose
from omegaconf import DictConfig, OmegaConf, open_dict

from runs import identity, keys
from runs.protocol import protocol_of

PREFIX = "earlier."  # of a group within the mapping, as Hydra names its choice: method@earlier.method
GIVES, NAMES = "gives", "names"
NOT_SEARCHED = {"objective": None}  # a search maximises a figure of the later run, whose protocol may differ
NOT_OTHERWISE = ("earlier", "fit", "recipes", "targets")  # root keys that `earlier` cannot set


@dataclass(frozen=True)
class Earlier:
    """An earlier run, and the key of the later run that gets its folder.

    Args:
        cfg, names: as `runs.jobs.describe` takes them.
        gives: the dotted key of the later run that gets the earlier run's folder.
        is_stage: whether it is an earlier stage of the same protocol, whose figures enter the later run's result.
    """

    cfg: DictConfig
    names: dict[str, str]
    gives: str
    is_stage: bool


def complete(cfg: DictConfig, choices: dict[str, Any]) -> None:
    """Adds to `cfg.earlier` the options that Hydra chose for it, and the data that it names; drops it where the key that it
    would set is already set.

    Raises:
        ValueError: `earlier` is no mapping that names a key of this run, or has what is no key of a run.
    """
    if not cfg.get("earlier"):
        return
    gives = cfg.earlier.get(GIVES) if isinstance(cfg.earlier, DictConfig) else None
    if not isinstance(gives, str) or (parent := _parent(cfg, gives)) is None:
        raise ValueError(
            f"earlier.gives={gives!r} is no key of this run: name the one that gets the folder, such as init_from."
        )
    known = set(cfg) - {"hydra", *NOT_OTHERWISE}
    if unknown := [key for key in cfg.earlier if key not in known | {GIVES, NAMES}]:
        raise ValueError(f"earlier.{unknown[0]} is nothing that an earlier run can have otherwise: leave it out.")
    value = parent[gives.rpartition(".")[2]]
    if "." not in gives and not (gives in keys.KEYS and str in keys.KEYS[gives].kinds):
        raise ValueError(f"earlier.gives={gives} names a key that holds no path: name the one that gets the folder.")
    if isinstance(value, int | float):  # it would count as a given path, and the earlier run would be left out silently
        raise ValueError(f"{gives}={value}: earlier.gives names this key, which takes a path: give one, or null.")
    with open_dict(cfg):
        if not cfg.fit or value:
            cfg.earlier = None
        else:
            groups = {key.partition("@")[0]: name for key, name in choices.items() if f"@{PREFIX}" in key}
            if isinstance(data := cfg.earlier.get("data"), str):  # composed here, as Hydra does not know a recipe's choice
                cfg.earlier.data, groups["data"] = compose("config", [f"data={data}"]).data, data
            cfg.earlier[NAMES] = groups


def earlier_of(cfg: DictConfig, names: dict[str, str]) -> Earlier | None:
    """The run that has to be done before this one; None where there is none.

    Raises:
        ValueError: the method needs an earlier run and the protocol has several stages, or the earlier run would keep nothing.
    """
    if not cfg.fit:
        return None
    before = _before(cfg, names)
    trainer: Any = OmegaConf.to_container(before.cfg.trainer, resolve=True) if before else {}
    if before and (cuts := identity.cuts(trainer)):
        instead = "" if before.is_stage else f", or give {before.gives}=PATH of one that is finished"
        raise ValueError(
            f"{cuts[0]} runs only a part, of which nothing is kept, and this run needs what an earlier one leaves: leave it "
            f"out{instead}."
        )
    return before


def _before(cfg: DictConfig, names: dict[str, str]) -> Earlier | None:
    stages = protocol_of(OmegaConf.to_container(cfg.protocol, resolve=True)).train
    if len(stages) > 1:
        if cfg.earlier:
            raise ValueError(
                f"method={names['method']} needs an earlier run of its own, and protocol={names['protocol']} learns "
                f"{len(stages)} subsets of classes one after the other: give what the earlier run would find as "
                f"{cfg.earlier[GIVES]}=PATH."
            )
        before = OmegaConf.merge(cfg, NOT_SEARCHED)
        before.protocol.train = list(stages[:-1])
        return Earlier(before, names, "init_from", is_stage=True)  # type: ignore[arg-type]
    if not cfg.earlier:
        return None
    before = OmegaConf.merge(cfg, NOT_SEARCHED)
    with open_dict(before):
        for key, node in cfg.earlier.items_ex(resolve=False):  # unresolved: its interpolations refer to the earlier run's root
            if key in (GIVES, NAMES):
                continue
            whole = not isinstance(node, DictConfig) or "_target_" in node or key in ("targets", *cfg.earlier[NAMES])
            before[key] = deepcopy(node) if whole else OmegaConf.merge(before[key], node)
        before.earlier = None
    return Earlier(
        before,  # type: ignore[arg-type]
        names | {key: name for key, name in cfg.earlier[NAMES].items() if key in names},
        cfg.earlier[GIVES],
        is_stage=False,
    )


def take_over(cfg: DictConfig, gives: str, folder: Path) -> None:
    """Sets the key that an earlier run gives to that run's folder."""
    OmegaConf.update(cfg, gives, str(folder))


def stages(result: Mapping[str, Any]) -> list[dict[str, float]]:
    """The main figure by evaluation of every stage up to that of this result, the first one first."""
    key = result["figure"]["key"]
    return [*result["stages"], {name: metrics[key] for name, metrics in result["metrics"].items()}]


def _parent(cfg: DictConfig, key: str) -> DictConfig | None:
    """The mapping that holds a dotted key; None where there is no such key."""
    above, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, above) if above else cfg
    return node if isinstance(node, DictConfig) and name in node else None
