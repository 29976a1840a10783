"""A job: the run to be done, and the folder of its results, which depends on neither the clock nor the machine.

Imports neither torch nor lightning: the check for a finished run takes less than a second.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.object_type import ObjectType
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from datamodules.identity import data_digest
from files import dassl, hub
from runs import arguments, earlier, identity, keys, recipe_files, recipes, search
from runs.protocol import protocol_of
from runs.shots import shots_text

RESULT, LAST = "result.json", "last.ckpt"  # a finished run has the first, an unfinished one the second
ENDED_EARLY = "ended_early.txt"  # beside the state of a run that a search has ended; a later state is of a run anew
NAMED = ("method", "data", "clip", "protocol")


def by_shots(table: Any, shots: int) -> Any:
    """Resolves `${by_shots:{1:50,16:200},${shots}}` to the entry for this number of shots. ValueError where there is none."""
    if not isinstance(table, Mapping) or not all(str(key).isdecimal() for key in table):
        raise ValueError("by_shots takes a table of values by number of shots, as in ${by_shots:{1:50,16:200},${shots}}")
    table = {int(key): value for key, value in table.items()}
    if shots not in table:
        known = ", ".join(str(key) for key in sorted(table))
        raise ValueError(f"there is no recipe for shots={shots}, only for {known}: choose one of these, or give epochs=N")
    return table[shots]


def last(value: Any) -> Any:
    """Resolves `${last:${protocol.train}}` to the last entry of a list, or to the value itself."""
    return value[-1] if isinstance(value, ListConfig | list) and len(value) else value


def pick(table: Any, key: str, other: str) -> str:
    """Resolves `${pick:{tiny:tiny},${clip},vit_l14}` to the entry for this key, or to `other` where there is none."""
    return table.get(key, other)


def groups() -> str:
    """Resolves `${groups:}` in the help: every group with its options, without files that others inherit (_base.yaml)."""
    loader = GlobalHydra.instance().config_loader()
    names = [name for name in loader.get_group_options("", ObjectType.GROUP) if name != "hydra"]
    options = {name: [option for option in loader.get_group_options(name) if not option.startswith("_")] for name in names}
    folders = recipe_files.config_folders((source.scheme(), source.path) for source in loader.get_sources())
    options["recipe"] = recipe_files.options("recipe", folders)  # in place of METHOD, which Hydra lists for METHOD.yaml
    return "\n".join(f"{name}: {', '.join(sorted(options[name]))}" for name in sorted(names) if options[name])


OmegaConf.register_new_resolver("groups", groups, replace=True)
OmegaConf.register_new_resolver("by_shots", by_shots, replace=True)
OmegaConf.register_new_resolver("last", last, replace=True)
OmegaConf.register_new_resolver("pick", pick, replace=True)


@dataclass(frozen=True)
class Job:
    """A run: its names, its resolved config, its digest and folder. None of them depends on ranks, devices, paths or time."""

    names: dict[str, str]
    config: dict[str, Any]
    digest: str
    folder: Path

    @property
    def title(self) -> str:
        """The run in a few words, for the screen and for loggers."""
        config = self.config
        return f"{self.names['method']} on {self.names['data']}, {shots_text(config['shots'])}, seed {config['seed']}"

    @property
    def cuts(self) -> list[str]:
        """The trainer's arguments that run only a part of what was asked for, as "key=value"."""
        return identity.cuts(self.config["trainer"])

    def result(self) -> dict[str, Any] | None:
        """The result of a finished run of this job. None where there is none, where a run (perhaps a forced one) is unfinished,
        or where the file cannot be read; the job is then run again."""
        from runs.result import load_result

        if (self.folder / LAST).exists() or not (self.folder / RESULT).exists():
            return None
        try:
            result = load_result(self.folder / RESULT)
        except ValueError as error:
            print(f"run again: {error}")
            return None
        return result if result["digest"] == self.digest else None  # type: ignore[return-value]

    def done(self, force: bool) -> dict[str, Any] | None:
        """The result of a finished run, with a line on the screen. None where the job has to be run, as always with `force`."""
        if force or not (result := self.result()):
            return None
        print(f"done already: {self.title} in {self.folder} (force=true runs it again)")
        return result


def resolve(cfg: DictConfig) -> dict[str, Any]:
    """The config as plain data; ValueError where an interpolation or a mandatory key fails, or keys contradict each other."""
    keys.check_config(cfg)
    config = _plain(_without_hydra(cfg))
    identity.check_trainer(config)
    identity.check_data(config)
    if config["fit"] and config["ckpt"] is not None:
        raise ValueError(
            "ckpt=PATH evaluates saved prompts and this run trains: add fit=false, or give init_from=PATH to start training "
            "from them."
        )
    if not config["fit"] and config["init_from"]:
        raise ValueError("init_from=PATH is where training starts; to evaluate saved prompts with fit=false give ckpt=PATH.")
    return config


def describe(cfg: DictConfig, names: dict[str, str]) -> Job:
    """The job of a config. Its digest and folder follow from the config and from the content of the data and files it names.

    Reads the lists of the datasets, and so makes a split or index that is missing, as the run would.

    Raises:
        ValueError: as from `resolve`, or data are missing.
    """
    config = resolve(cfg)
    search.check_job(config, names["data"])
    what = identity.compared(_plain(OmegaConf.merge(_without_hydra(cfg), identity.EXECUTION_KEYS)))  # type: ignore[arg-type]
    # a missing file is represented by its path; the run will refuse it
    what |= {key: identity.digest_of(config[key]) or config[key] for key in identity.prompts_read(config)}
    what |= {group: identity.with_digests(what[group]) for group in ("method", "clip", "lm", "earlier") if group in what}
    sources = [arguments.source_of(data) for data in (cfg.data, *cfg.targets.values())]
    what["data_content"] = [data_digest(source, config["seed"]) for source in sources]
    digest = hashlib.sha256(json.dumps([what, names], sort_keys=True, default=str).encode()).hexdigest()[:8]
    kind = "" if config["fit"] else "eval-"
    leaf = [kind + names["protocol"], names["data"], names["clip"], names["method"]]
    folder = Path(config["output"], *leaf, f"shots{config['shots']}-{digest}", f"seed{config['seed']}")
    return Job(names, config, digest, folder)


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [key for key in cfg if key != "hydra"])  # type: ignore[misc]


def _plain(cfg: DictConfig) -> dict[str, Any]:
    try:
        return OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[return-value]
    except OmegaConfBaseException as error:
        raise ValueError(keys.unresolved(error)) from error


def names_of(hydra_config: Any) -> dict[str, str]:
    """The option that Hydra chose in each group that names a run. ValueError where a group has none."""
    keys.check_overrides(hydra_config.overrides.task)
    keys.check_choices(hydra_config.runtime.choices, keys.GROUPS)
    return {key: hydra_config.runtime.choices[key] for key in NAMED}


def compose_job(overrides: list[str], conf: str | Path) -> tuple[DictConfig, dict[str, str]]:
    """The config and the names of a command line, for callers that run jobs within their own process."""
    with initialize_config_dir(str(Path(conf).resolve()), version_base="1.3"):
        cfg = compose("config", list(overrides), return_hydra_config=True)
        names_of(cfg.hydra)
        complete(cfg, cfg.hydra)
    hydra_config = HydraConfig.instance()
    before = hydra_config.cfg
    try:
        hydra_config.set_config(cfg)
        names = names_of(HydraConfig.get())
    finally:
        hydra_config.cfg = before
    del cfg.hydra
    return cfg, names


def complete(cfg: DictConfig, hydra: DictConfig) -> None:
    """Completes a config where a defaults list cannot: fills in `cfg.recipes` and `cfg.targets`, and removes a `cfg.lm` chosen
    by the data from tasks without a language model. ValueError for a recipe that is not there."""
    if cfg.get("targets"):  # refused, as it would be replaced silently
        raise ValueError(f"targets={keys.shown(keys.resolved(cfg, 'targets'))}: {keys.KEYS['targets'].give}.")
    if cfg.get("folder") and OmegaConf.select(cfg, "data.source.folder") != cfg.folder:
        raise ValueError(
            f"folder={cfg.folder} names images of your own, which data={hydra.runtime.choices.data} does not read: add "
            "data=folder, or data=masks_folder for images with label maps."
        )
    for key in ("ckpt", "init_from"):  # shared prompts are fetched now, as their content is a part of what the run is
        if isinstance(given := cfg.get(key), str):
            cfg[key] = dassl.checkpoint_of(hub.fetched(given))
    recipes.complete(cfg, hydra)
    with open_dict(cfg):
        if targets := targets_of(cfg, hydra.runtime.choices.data):
            cfg.targets = targets
        if not cfg.task.get("language_model"):
            cfg.lm = None
        earlier.complete(cfg, hydra.runtime.choices)
        if cfg.earlier and (data := cfg.earlier[earlier.NAMES].get("data")):
            cfg.earlier.targets = targets_of(cfg, data)


def targets_of(cfg: DictConfig, data: str) -> dict[str, DictConfig]:
    """The composed configs of the other datasets on which the protocol evaluates a training on `data`, by name.

    They are composed here and not by a defaults list, as real datasets override the backbone, which Hydra admits only at the
    root of a config.
    """
    protocol = protocol_of(keys.resolved(cfg, "protocol"))
    protocol.check_names(data)
    return {name: compose("config", [f"data={name}"]).data for name in protocol.targets_of(data)}
