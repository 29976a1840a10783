"""A finished run, made again from its folder: model, test images, predictions, and those of zero-shot CLIP beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from lightning_modules import predictions, results
from lightning_modules.checkpoints import SavedPrompts, check_backbone, prompts_of
from prompts.learner import PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP
from reports.arrays import read_arrays
from reports.collect import Predictions
from runs.jobs import RESULT, compose_job
from runs.result import load_result
from runs.stored import check_names, take_over

CONF = Path(__file__).parents[2] / "conf"
BASELINE = "zeroshot"
# what a result's config says about its data and model, and where they are; interpolated keys follow the first of these
TAKEN = ("shots", "seed", "source", "data_root", "other_clip")
GROUPS = ("protocol", "clip", "data", "targets")

make = partial(instantiate, _convert_="all")


class FinishedRun:
    """What a run's folder stands for. Everything is made when it is first asked for: prompts alone need no images.

    The folder may be a stranger's. Its groups (names) must be ours, or in `config_dir`; its config's values are plain ones of
    our keys' types. Some of them say where data and weights are (data_root, clip.weights, ckpt, a hub repository): those are
    read, as data, and `places` lists them for the screen. The result never says where to
    write, nor with what to read (`stored.WITHHELD`).

    Args:
        overrides: "key=value" of the run's config that are otherwise here, such as data_root.
        against: the folder of the run to compare with; None: zero-shot CLIP on the same images, from beside the run or
            evaluated now.
        config_dir: of groups that are not the project's own, as run.py's --config-dir.

    Raises:
        ValueError: the folder holds no finished run, its prompts or data are not here, or the runs have other images.
    """

    def __init__(
        self, folder: Path, overrides: Sequence[str] = (), against: Path | None = None, config_dir: Path | None = None
    ) -> None:
        for each in filter(None, (folder, against)):
            if not (each / RESULT).is_file():
                raise ValueError(f"there is no {RESULT} in {each}: give the folder of a finished run.")
        self.folder, self.against = folder.resolve(), against
        self.result = load_result(folder / RESULT)
        for key in ("config", "classnames"):
            if key not in self.result:
                raise ValueError(f"{folder / RESULT} has no {key}: it was written by a version too old for this; run it again.")
        self.names: dict[str, str] = self.result["names"]
        check_names(self.names, [CONF, *([config_dir] if config_dir else [])], folder / RESULT)
        self.evaluations = list(self.result["metrics"])
        for name in self.evaluations:  # pictures are named after them
            if set(name) & set("/\\") or name.startswith("."):
                raise ValueError(f"{folder / RESULT} has an evaluation {name!r}, which is no name of a dataset.")
        self.overrides = list(overrides)
        self.search = [f"hydra.searchpath=[file://{config_dir.resolve()}]"] if config_dir else []
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._sets: dict[str, Any] = {}
        self._predictions: dict[str, Predictions] = {}
        self._baselines: dict[str, Predictions] = {}

    # ---- the model

    def config(self, method: str) -> DictConfig:
        """The run's config with this method in place of its own. The code's names come from our yaml files, only plain values
        from the folder: a shared result names no code."""
        names, stored = self.names | {"method": method}, self.result["config"]
        cfg, _ = compose_job([*self.search, *(f"{group}={name}" for group, name in names.items())], CONF)
        groups = (*GROUPS, "method") if method == self.names["method"] else GROUPS
        given = {key: stored[key] for key in (*TAKEN, *groups) if key in stored}
        self.places = take_over(cfg, given, str(self.folder / RESULT))
        cfg.merge_with_dotlist(self.overrides)
        return cfg

    @cached_property
    def cfg(self) -> DictConfig:
        cfg = self.config(self.names["method"])
        if self.places:
            results.say("as result.json says: " + ", ".join(f"{key}={value}" for key, value in self.places.items()))
        return cfg

    @cached_property
    def clip(self) -> Any:
        clip = make(self.cfg.clip)
        results.set_threads(self.cfg.threads, clip)
        return clip

    @cached_property
    def model(self) -> PromptedCLIP:
        """With the run's prompts, bound to the classes that it was trained on."""
        stored = self.result["config"]
        ckpt = str(self.folder) if stored.get("fit", True) is not False else stored.get("ckpt")
        if not isinstance(ckpt, str) or not os.path.exists(ckpt):
            raise ValueError(f"the prompts that this run evaluated, {str(ckpt)[:200]}, are not here: put them there again.")
        saved: SavedPrompts = prompts_of(ckpt, self.names)
        check_backbone(saved, self.clip, self.names["clip"], self.cfg.other_clip)
        learner = make(self.cfg.method, _partial_=True)(**saved.settings(self.cfg.method))
        model = self.set_up(learner, saved.classnames(self.result["classnames"]))
        saved.into(model)
        return model

    def set_up(self, learner: PromptLearner, classnames: list[str]) -> PromptedCLIP:
        model = PromptedCLIP(self.clip, learner).eval()
        model.setup(TrainInfo(classnames, num_images=0, fit=False))
        return model.to(self.device)

    # ---- the images

    @cached_property
    def data(self) -> Any:
        return self._with_images(make(self.cfg.data))

    def _with_images(self, data: Any) -> Any:
        data.setup()
        data.image_spec = self.clip.image_spec
        return data

    def test_set(self, evaluation: str) -> Any:
        """The evaluation's class names and loader, as the run had them (`datamodules.module.EvalSet`)."""
        if evaluation not in self._sets:
            own = self.cfg.protocol.evaluate
            own = {self.names["data"] if name == "source" else name: subset for name, subset in own.items()}
            if evaluation in own:
                self._sets[evaluation] = self.data.eval_set(evaluation, "test", own[evaluation])
            elif evaluation not in self.cfg.targets:
                raise ValueError(
                    f"the protocol {self.names['protocol']} has no evaluation {evaluation!r}, which {self.folder / RESULT} has:"
                    f" give those that it has with --evaluations {' '.join([*own, *self.cfg.targets])}."
                )
            else:
                other = self._with_images(make(self.cfg.targets[evaluation], shots=-1))
                self._sets[evaluation] = other.eval_set(evaluation, "test", "all")
        return self._sets[evaluation]

    def dataset(self, evaluation: str) -> Any:
        """Its test images, in the order of predictions (`datamodules.loaders.ImageDataset`)."""
        return self.test_set(evaluation).loader(0, 1).dataset

    def some_images(self, most: int) -> Tensor:
        """At most so many test images of the first evaluation, evenly spread over its list: (B,3,S,S)."""
        dataset = self.dataset(self.evaluations[0])
        places = spread(len(dataset), most)
        return torch.stack([dataset[place]["image"][0] for place in places]).to(self.device)

    # ---- predictions

    def predictions(self, evaluation: str) -> Predictions:
        """Of every test image, in order; confidence 0 where an image could not be read."""
        if evaluation not in self._predictions:
            found = self._stored_predictions(self.folder, evaluation)
            self._predictions[evaluation] = found or self.predict(self.model, self.names["method"], evaluation)
        return self._predictions[evaluation]

    def _stored_predictions(self, folder: Path, evaluation: str) -> Predictions | None:
        classes = len(self.result["metrics"][evaluation].get("per_class", []))
        found = read_arrays(folder / predictions.PREDICTIONS, evaluation, classes or None)
        return as_stored(found) if found else None

    @torch.no_grad()
    def predict(self, model: PromptedCLIP, method: str, evaluation: str) -> Predictions:
        images = self.test_set(evaluation)
        loader = images.loader(0, 1)
        results.say(f"evaluating {method} on {evaluation}, {len(loader.dataset):,} images ...")
        trained_on = model.classnames
        model.bind(images.classnames)
        metric = predictions.Predictions(len(loader.dataset))
        for batch in loader:
            readable = batch["weight"] > 0
            logits = model(batch["image"].to(self.device)).logits.float().cpu()
            metric.update(batch["index"][readable], logits[readable], batch["label"][readable])
        model.bind(trained_on)
        return as_stored(metric.compute())

    @cached_property
    def baseline_name(self) -> str:
        return load_result(self.against / RESULT)["names"]["method"] if self.against else BASELINE

    def baseline(self, evaluation: str, evaluate: bool = True) -> Predictions | None:
        """What to set the run's predictions beside; None where this is zero-shot CLIP itself or, unless `evaluate`, where
        nothing is stored."""
        if evaluation not in self._baselines:
            found = self._stored_baseline(evaluation)
            if found is None and evaluate and self.names["method"] != BASELINE:
                found = self.predict(self.zeroshot, BASELINE, evaluation)
            if found is None:
                return None
            self._baselines[evaluation] = found
        return self._baselines[evaluation]

    @cached_property
    def zeroshot(self) -> PromptedCLIP:
        return self.set_up(make(self.config(BASELINE).method), self.result["classnames"])

    def _stored_baseline(self, evaluation: str) -> Predictions | None:
        labels = self.predictions(evaluation).label_N
        if self.against:
            found = self._stored_predictions(self.against, evaluation)
            if found is None:
                raise ValueError(f"{self.against} has no predictions of {evaluation!r}: run it again with force=true.")
            if load_result(self.against / RESULT)["names"]["data"] != self.names["data"] or not np.array_equal(
                found.label_N, labels
            ):
                raise ValueError(f"{self.against} was tested on other images than {self.folder}: give a run on the same data.")
            return found
        for folder in self._zeroshot_folders():
            with suppress(ValueError):  # a neighbour that cannot be read is none to compare with
                found = self._stored_predictions(folder, evaluation)
                if found is not None and np.array_equal(found.label_N, labels):
                    return found
        return None

    def _zeroshot_folders(self) -> Iterator[Path]:
        """Runs of zero-shot CLIP as configured by default, with this run's seed, beside it in the tree of outputs."""
        if self.names["method"] == BASELINE or len(self.folder.parents) < 6:
            return
        own = self.config(BASELINE)
        wanted = [OmegaConf.to_container(part, resolve=True) for part in (own.method, own.clip, own.data.source)]
        beside = self.folder.parents[4].with_name(self.names["protocol"]) / self.names["data"] / self.names["clip"]
        for file in sorted(beside.glob(f"{BASELINE}/*/seed{self.result['seed']}/{RESULT}")):
            with suppress(ValueError):  # a neighbour that cannot be read is none to compare with
                config = load_result(file).get("config", {})
                data = config.get("data")
                source = data.get("source") if isinstance(data, dict) else None
                if [config.get("method"), config.get("clip"), source] == wanted:
                    yield file.parent


def as_stored(arrays: Mapping[str, np.ndarray]) -> Predictions:
    return Predictions(arrays["pred"].astype(int), arrays["label"].astype(int), arrays["confidence"].astype(float))


def spread(size: int, most: int) -> list[int]:
    """At most so many of the places 0..size-1, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).round().astype(int).tolist()
