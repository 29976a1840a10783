"""What a job is and where its results go: a function of what is run, never of the clock or the machine.

Imports neither torch nor lightning: the check for a finished run takes a third of a second.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

RESULT, LAST = "result.json", "last.ckpt"  # of a finished run; of one that is under way or was interrupted
NAMED = ("method", "data", "clip", "protocol")
# Keys that say how or where something is run, not what: they change no result. With the value that stands in for them, as
# other keys interpolate them.
MACHINE = {
    "data_root": "data",
    "data_index": None,
    "output": "outputs",
    "workers": 0,
    "threads": "auto",
    "accumulate": 1,
    "eval_batch_size": 100,
    "shard_classes": 512,
    "save_every": 60,
    "save_steps": None,
    "force": False,
    "ckpt": None,
    "init_from": None,
    "seed": 0,
}
MACHINE_GROUPS = ("trainer", "logger", "callbacks", "hydra")


def by_shots(table: Any, shots: int) -> Any:
    """`${by_shots:{1:50,16:200},${shots}}`: the entry for this number of shots."""
    table = {int(key): value for key, value in table.items()}
    if shots not in table:
        known = ", ".join(str(key) for key in sorted(table))
        raise ValueError(f"there is no recipe for shots={shots}, only for {known}: choose one of these, or give epochs=N")
    return table[shots]


def pick(table: Any, key: str, other: str) -> str:
    """`${pick:{tiny:tiny},${clip},vit_l14}`: the entry for this key, `other` where there is none."""
    return table.get(key, other)


OmegaConf.register_new_resolver("by_shots", by_shots, replace=True)
OmegaConf.register_new_resolver("pick", pick, replace=True)


@dataclass(frozen=True)
class Job:
    """A run: its names, its resolved config, its folder. Without ranks, devices, paths and clock."""

    names: dict[str, str]
    config: dict[str, Any]
    digest: str
    folder: Path

    @property
    def title(self) -> str:
        config = self.config
        return f"{self.names['method']} on {self.names['data']}, {config['shots']} shots, seed {config['seed']}"

    def result(self) -> dict[str, Any] | None:
        """What a finished run of exactly this left; None also where a run, a forced one perhaps, is half-way."""
        if (self.folder / LAST).exists():
            return None
        try:
            result = json.loads((self.folder / RESULT).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return result if result.get("digest") == self.digest else None


def describe(cfg: DictConfig, names: dict[str, str]) -> Job:
    """Resolves the config; ValueError where an interpolation or a mandatory key fails."""
    cfg = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        neutral = OmegaConf.merge(cfg, MACHINE)
        what = OmegaConf.to_container(neutral, resolve=True)
    except OmegaConfBaseException as error:
        said = str(error.__cause__ or error).splitlines()[0]
        raise ValueError(said.removeprefix("ValueError raised while resolving interpolation: ")) from error
    what = {key: value for key, value in what.items() if key not in MACHINE_GROUPS}
    what["method"] = {k: content(v) or v if isinstance(v, str) else v for k, v in what["method"].items()}
    if not config["fit"]:
        what["ckpt"] = content(config["ckpt"])
        if config["init_from"]:
            raise ValueError(
                "init_from=PATH is where training starts; to evaluate saved prompts with fit=false give ckpt=PATH."
            )
    if config["init_from"]:
        what["init_from"] = content(config["init_from"])
    digest = hashlib.sha256(json.dumps([what, names], sort_keys=True, default=str).encode()).hexdigest()[:8]
    kind = "" if config["fit"] else "eval-"
    leaf = [kind + names["protocol"], names["data"], names["clip"], names["method"]]
    folder = Path(config["output"], *leaf, f"shots{config['shots']}-{digest}", f"seed{config['seed']}")
    return Job(names, config, digest, folder)


def content(ckpt: str | None) -> str | None:
    """A digest of the file: the same prompts are the same wherever they lie."""
    path = Path(ckpt or "")
    path = path / "prompts.safetensors" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def names_of(hydra_config: Any) -> dict[str, str]:
    return {key: hydra_config.runtime.choices[key] for key in NAMED}


def compose_job(overrides: list[str], conf: str | Path) -> tuple[DictConfig, dict[str, str]]:
    """The config and the names of a command line, for those that run jobs within their own process."""
    with initialize_config_dir(str(Path(conf).resolve()), version_base="1.3"):
        cfg = compose("config", list(overrides), return_hydra_config=True)
        add_targets(cfg, cfg.hydra.runtime.choices.data)
    state = Singleton.get_state()
    try:
        HydraConfig.instance().set_config(cfg)
        names = names_of(HydraConfig.get())
    finally:
        Singleton.set_state(state)
    del cfg.hydra
    return cfg, names


def add_targets(cfg: DictConfig, data: str) -> None:
    """Composes the datasets that the protocol goes on to from the one trained on into `cfg.targets`.

    By hand, as a defaults list cannot: real datasets override the backbone, which Hydra admits only at its top.
    """
    if not cfg.protocol.targets:
        return
    if data not in cfg.protocol.targets:
        known = ", ".join(cfg.protocol.targets)
        raise ValueError(
            f"this protocol says no targets for data={data}, only for {known}: choose one of these as data, or add "
            f"+protocol.targets.{data}=[NAMES]."
        )
    with open_dict(cfg):
        cfg.targets = {name: compose("config", [f"data={name}"])._get_node("data") for name in cfg.protocol.targets[data]}
