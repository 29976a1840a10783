"""A finished run, rebuilt from its folder: model, test images and predictions, and the predictions of zero-shot CLIP."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from datamodules.evaluation import Evaluation
from lightning_modules.assembly import Assembly
from lightning_modules.process import say
from prompts.prompted_clip import PromptedCLIP
from reports.arrays import PREDICTIONS, Predictions, read_predictions
from runs.jobs import RESULT, compose_job, last
from runs.result import load_result
from runs.stored import check_names, take_over

CONF = Path(__file__).parents[2] / "conf"
# the keys that are taken from a result's config: data and model, and their places; keys that interpolate these follow
TAKEN = ("shots", "seed", "source", "data_root", "other_clip")
GROUPS = ("protocol", "clip", "data", "targets")


class FinishedRun:
    """A finished run, rebuilt from its folder. Each part is made when it is first used: showing the prompts reads no images.

    Anyone may have made the folder. The options that it names must exist in `conf/` or in `config_dir`; its config's values are
    plain data of the type that the key has here. Some of them name the places of data and weights (data_root, clip.weights,
    ckpt, a hub repository): those files are read as plain data, and `places` lists them for the screen. The result never
    decides where to write or how to read (`stored.WITHHELD`).

    Args:
        overrides: "key=value" for keys of the run's config that differ on this machine, such as data_root.
        against: the folder of the run to compare with; None: zero-shot CLIP on the same images, from beside the run or
            evaluated now.
        config_dir: a folder of more configs, as run.py's --config-dir.

    Raises:
        ValueError: the folder holds no finished run, its prompts or data are not here, or the runs have other images.
    """

    def __init__(
        self, folder: Path, overrides: Sequence[str] = (), against: Path | None = None, config_dir: Path | None = None
    ) -> None:
        for path in filter(None, (folder, against)):
            if not (path / RESULT).is_file():
                raise ValueError(f"there is no {RESULT} in {path}: give the folder of a finished run.")
        self.folder, self.against = folder.resolve(), against
        self.result = load_result(folder / RESULT)
        for key in ("config", "classnames"):
            if key not in self.result:
                raise ValueError(f"{folder / RESULT} has no {key}: it was written by a version too old for this; run it again.")
        self.names: dict[str, str] = self.result["names"]  # type: ignore[assignment]
        if any("per_class" not in metrics for metrics in self.result["metrics"].values()):
            raise ValueError(
                f"{folder / RESULT} is of task={self.result['task']}, and this explains runs that classify images."
            )
        check_names(self.names, [CONF, *([config_dir] if config_dir else [])], folder / RESULT)
        self.evaluations = list(self.result["metrics"])
        for name in self.evaluations:  # pictures are named after them
            if set(name) & set("/\\") or name.startswith("."):
                raise ValueError(f"{folder / RESULT} has an evaluation {name!r}, which is no name of a dataset.")
        self.overrides = list(overrides)
        self.search = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._predictions: dict[str, Predictions] = {}
        self._baselines: dict[str, Predictions] = {}

    # ---- the model

    def config(self, method: str) -> DictConfig:
        """The run's config with this method. Names of code come from the yaml files here and only plain values from the folder,
        so that a shared result cannot choose what is run."""
        names, stored = self.names | {"method": method}, self.result["config"]
        cfg, _ = compose_job([*self.search, *(f"{group}={name}" for group, name in names.items())], CONF)
        groups = (*GROUPS, "method") if method == self.names["method"] else GROUPS
        given = {key: stored[key] for key in (*TAKEN, *groups) if key in stored}
        if isinstance(protocol := given.get("protocol"), dict) and "train" in protocol:  # one subset, or a list of them
            subset = last(protocol["train"])
            given["protocol"] = protocol | {"train": [subset] if OmegaConf.is_list(cfg.protocol.train) else subset}
        self.places = take_over(cfg, given, str(self.folder / RESULT))
        cfg.merge_with_dotlist(self.overrides)
        if "trainable" in cfg.clip:
            cfg.clip.trainable = None  # trained tensors come from the prompts file, and the baseline has none
        return cfg

    @cached_property
    def cfg(self) -> DictConfig:
        """The run's config, evaluating its prompts."""
        cfg, stored = self.config(self.names["method"]), self.result["config"]
        if self.places:
            say("as result.json says: " + ", ".join(f"{key}={value}" for key, value in self.places.items()))
        ckpt = str(self.folder) if stored.get("fit", True) is not False else stored.get("ckpt")
        cfg.fit, cfg.ckpt = False, ckpt if isinstance(ckpt, str) else None
        return cfg

    @cached_property
    def parts(self) -> Assembly:
        """The run's assembly."""
        return Assembly(self.cfg, self.names)

    @cached_property
    def clip(self) -> Any:
        """The backbone."""
        return self.parts.clip

    @cached_property
    def model(self) -> PromptedCLIP:
        """The backbone with the run's prompts, bound to the classes that it was trained on."""
        ckpt = self.cfg.ckpt
        if ckpt is None or not os.path.exists(ckpt):
            raise ValueError(f"the prompts that this run evaluated, {str(ckpt)[:200]}, are not here: put them there again.")
        return self.parts.model.eval().to(self.device)

    # ---- the images

    def dataset(self, evaluation: str) -> Any:
        """The test images of an evaluation, in the order of predictions (`datamodules.loaders.ImageDataset`)."""
        return self.test_set(evaluation).loader(0, 1).dataset

    def test_set(self, evaluation: str) -> Evaluation:
        """The run's evaluation of this name."""
        known = [*self.parts.protocol.evaluations(self.names["data"]), *self.cfg.targets]
        if evaluation not in known:
            raise ValueError(
                f"the protocol {self.names['protocol']} has no evaluation {evaluation!r}, which {self.folder / RESULT} has: "
                f"give those that it has with --evaluations {' '.join(known)}."
            )
        return self.parts.evaluation(evaluation)

    def some_images(self, most: int) -> Tensor:
        """At most `most` test images of the first evaluation, evenly spread over its list: (B,3,S,S)."""
        dataset = self.dataset(self.evaluations[0])
        return torch.stack([dataset[index]["image"][0] for index in spread(len(dataset), most)]).to(self.device)

    # ---- predictions

    def predictions(self, evaluation: str) -> Predictions:
        """The predictions for every test image, in order; confidence 0 where an image could not be read."""
        if evaluation not in self._predictions:
            stored = self._stored_predictions(self.folder, evaluation)
            self._predictions[evaluation] = stored or self.predict(self.parts, evaluation)
        return self._predictions[evaluation]

    def _stored_predictions(self, folder: Path, evaluation: str) -> Predictions | None:
        classes = len(self.result["metrics"][evaluation].get("per_class", []))
        return read_predictions(folder / PREDICTIONS, evaluation, classes or None)

    def predict(self, parts: Assembly, evaluation: str) -> Predictions:
        """Evaluates a model now, by the same loop as a run's test."""
        images = self.test_set(evaluation).images
        say(f"evaluating {parts.names['method']} on {evaluation}, {images:,} images ...")
        predicted = Predictions.of(parts.tested(evaluation).predicted[evaluation])  # type: ignore[arg-type, index]
        parts.model.eval().to(self.device)
        return predicted

    @cached_property
    def default_baseline(self) -> str:
        """The method that runs of this task are compared with."""
        return self.cfg.task.baseline

    @cached_property
    def baseline_name(self) -> str:
        return load_result(self.against / RESULT)["names"]["method"] if self.against else self.default_baseline

    def baseline(self, evaluation: str, evaluate: bool = True) -> Predictions | None:
        """The predictions that the run's are compared with; None where the run is of the baseline method itself or, unless
        `evaluate`, where none are stored."""
        if evaluation not in self._baselines:
            stored = self._stored_baseline(evaluation)
            if stored is None and evaluate and self.names["method"] != self.default_baseline:
                stored = self.predict(self.baseline_parts, evaluation)
            if stored is None:
                return None
            self._baselines[evaluation] = stored
        return self._baselines[evaluation]

    @cached_property
    def baseline_parts(self) -> Assembly:
        """The task's baseline on the same backbone and images."""
        return Assembly(self.config(self.default_baseline), self.names | {"method": self.default_baseline}, shared=self.parts)

    def _stored_baseline(self, evaluation: str) -> Predictions | None:
        ours = self.predictions(evaluation)
        if self.against:
            stored = self._stored_predictions(self.against, evaluation)
            if stored is None:
                raise ValueError(f"{self.against} has no predictions of {evaluation!r}: run it again with force=true.")
            data = load_result(self.against / RESULT)["names"]["data"]
            if data != self.names["data"] or not stored.is_of_the_images_of(ours):
                raise ValueError(f"{self.against} was tested on other images than {self.folder}: give a run on the same data.")
            return stored
        for folder in self._baseline_folders():
            with suppress(ValueError):  # a neighbour that cannot be read is none to compare with
                stored = self._stored_predictions(folder, evaluation)
                if stored is not None and stored.is_of_the_images_of(ours):
                    return stored
        return None

    def _baseline_folders(self) -> Iterator[Path]:
        """Runs of zero-shot CLIP as configured by default, with this run's seed, beside it in the tree of outputs."""
        if self.names["method"] == self.default_baseline or len(self.folder.parents) < 6:
            return
        cfg = self.config(self.default_baseline)
        wanted = [OmegaConf.to_container(part, resolve=True) for part in (cfg.method, cfg.clip, cfg.data.source)]
        beside = self.folder.parents[4].with_name(self.names["protocol"]) / self.names["data"] / self.names["clip"]
        for file in sorted(beside.glob(f"{self.default_baseline}/*/seed{self.result['seed']}/{RESULT}")):
            with suppress(ValueError):  # a neighbour that cannot be read is none to compare with
                config = load_result(file).get("config", {})
                data = config.get("data")
                source = data.get("source") if isinstance(data, dict) else None
                if [config.get("method"), config.get("clip"), source] == wanted:
                    yield file.parent


def spread(size: int, most: int) -> list[int]:
    """At most `most` of the indices 0..size-1, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(int).tolist()
