"""The yaml files of conf/data, as tools read them: without composing a run."""

from pathlib import Path

from omegaconf import DictConfig, OmegaConf

CONF = Path(__file__).resolve().parents[1] / "conf"
NOT_DATASETS = ("folder", "masks_folder")  # the options of conf/data that users' datasets inherit
# The keys that a dataset's yaml interpolates, and the options of tools; data_root is that of conf/config.yaml.
DEFAULTS = {"data": "all", "folder": None, "images": False, "limit": 20, "shots": 0, "source": "disk", "data_index": None}


def default_options() -> DictConfig:
    """The options of a tool, for the command line to be merged into."""
    root = OmegaConf.load(CONF / "config.yaml").get("data_root")
    return OmegaConf.create(DEFAULTS | {"data_root": root})


def dataset_names() -> list[str]:
    """The names that `data=` takes."""
    return sorted(path.stem for path in (CONF / "data").glob("[!_]*.yaml"))


def dataset_config(name: str) -> DictConfig:
    """conf/data/NAME.yaml over the yamls that it builds on. ValueError where there is none."""
    path = CONF / "data" / f"{name}.yaml"
    if not path.exists():
        raise ValueError(f"data={name} is not known: use all or one of {', '.join(dataset_names())}")
    config = OmegaConf.load(path)
    parents = [entry for entry in config.pop("defaults", []) if isinstance(entry, str) and entry != "_self_"]
    return OmegaConf.merge(*(dataset_config(parent) for parent in parents), config)


def leading_comment(name: str) -> list[str]:
    """The comment lines of conf/data/NAME.yaml: where the dataset comes from."""
    lines = (CONF / "data" / f"{name}.yaml").read_text().splitlines()
    return [line for line in lines if line.startswith("#")]
