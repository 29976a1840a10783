"""The yaml files of conf/data, as tools read them: without composing a run."""

from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
NOT_DATASETS = ("folder", "masks_folder", "captions_folder")  # the options of conf/data that users' datasets inherit
# The keys that a dataset's yaml interpolates, and the options of tools; data_root is that of conf/config.yaml.
DEFAULTS = {"data": "all", "folder": None, "images": False, "limit": 20, "shots": 0, "source": "disk", "data_index": None}


def default_options() -> DictConfig:
    """The options of a tool, for the command line to be merged into."""
    root = OmegaConf.load(CONF / "config.yaml").get("data_root")  # type: ignore[arg-type]
    return OmegaConf.create(DEFAULTS | {"data_root": root})


def dataset_names(more: Path | None = None) -> list[str]:
    """The names that `data=` takes. `more`: a folder of configs of the user's own, as of --config-dir."""
    return sorted({path.stem for conf in _confs(more) for path in (conf / "data").glob("[!_]*.yaml")})


def dataset_config(name: str, more: Path | None = None) -> DictConfig:
    """data/NAME.yaml over the yamls that it builds on. ValueError where there is none."""
    path = _yaml(name, more)
    config: Any = OmegaConf.load(path)
    parents = [entry for entry in config.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return OmegaConf.merge(*(dataset_config(parent, more) for parent in parents), config)  # type: ignore[return-value]


def leading_comment(name: str, more: Path | None = None) -> list[str]:
    """The comment lines of data/NAME.yaml: where the dataset comes from."""
    lines = _yaml(name, more).read_text().splitlines()
    return [line for line in lines if line.startswith("#")]


def _confs(more: Path | None) -> list[Path]:
    """The folders of configs in the order in which Hydra looks into them: ours first."""
    return [CONF, more] if more else [CONF]


def _yaml(name: str, more: Path | None) -> Path:
    for conf in _confs(more):
        if (path := conf / "data" / f"{name}.yaml").exists():
            return path
    raise ValueError(f"data={name} is not known: use all or one of {', '.join(dataset_names(more))}")
