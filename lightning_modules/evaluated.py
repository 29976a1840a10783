"""The evaluation loop that every task shares: loaders, batches, metrics, logging and history."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader

from datamodules.evaluation import Evaluation
from datamodules.known_features import FEATURES, IMAGE, TEACHER
from lightning_modules.features import ONLINE
from prompts.learner import ClassSample, Outputs
from prompts.prompted_clip import PromptedCLIP


@dataclass(frozen=True)
class Figure:
    """The main figure of a task, such as accuracy: the metrics of every evaluation have it."""

    key: str  # its entry in the metrics
    title: str
    unit: str
    higher_is_better: bool = True

    def text(self, value: float) -> str:
        """The value with its title and unit, as on the screen."""
        return f"{self.title} {value:6.2f} {self.unit}".rstrip()


class EvaluatedModule(LightningModule):
    """Evaluates a model. A task sets `figure` and overrides `start_evaluation`, `evaluate_batch` and `metrics_of`;
    `finish_evaluations` and `write_files` where it has something to do there.

    Every number of an evaluation is logged as NAME/KEY, "val/accuracy" for one, so that Lightning's callbacks can monitor it.

    Args:
        tests: what is evaluated at the end; results in `self.metrics`, by name.
        vals: what is evaluated during training; results in `self.history`, one entry per epoch that is evaluated.
    """

    figure: ClassVar[Figure]
    takes_features: ClassVar[bool] = False  # whether the task's batches go through `outputs` alone, so that they need no pixels
    features = ONLINE  # the run's use of stored image features

    def __init__(self, model: PromptedCLIP, tests: Sequence[Evaluation], vals: Sequence[Evaluation] = ()) -> None:
        super().__init__()
        # an evaluation may have fewer images than ranks; Lightning's constructor sets it to False
        self.allow_zero_length_dataloader_with_multiple_devices = True
        self.model, self.tests, self.vals = model, list(tests), list(vals)
        self.metrics: dict[str, dict[str, Any]] = {}
        self.history: list[dict[str, Any]] = []
        self._evaluated: Evaluation | None = None  # the evaluation of the last batch

    # ---- what a task overrides

    def start_evaluation(self, evaluation: Evaluation) -> None:
        """Makes `evaluation.metrics`, the torchmetrics of this task. Called on every rank, before any batch."""
        raise NotImplementedError

    def evaluate_batch(self, evaluation: Evaluation, batch: dict[str, Tensor], first: bool) -> None:
        """Updates `evaluation.metrics`.

        Args:
            batch: as `datamodules.loaders.collate` makes it.
            first: whether this is the evaluation's first batch on this rank.
        """
        raise NotImplementedError

    def metrics_of(self, evaluation: Evaluation) -> dict[str, Any]:
        """The numbers of a finished evaluation as result.json holds them, `figure.key` among them. ValueError where the
        evaluation has no result."""
        raise NotImplementedError

    def line(self, metrics: Mapping[str, Any]) -> str:
        """An evaluation's metrics in one line of the screen."""
        return self.figure.text(metrics[self.figure.key])

    def finish_evaluations(self) -> None:
        """Called after the last batch of the last evaluation, on every rank."""

    def write_files(self, folder: Path) -> None:
        """Writes the task's files of the test, beside result.json."""

    def shown(self, evaluation: Evaluation) -> tuple[list[str], list[list[Any]]]:
        """Columns and rows of a table of some test images and their predictions, for loggers; cells may be pictures (PIL).
        Empty for tasks that write samples.json."""
        return [], []

    def outputs(self, batch: dict[str, Tensor], sample: ClassSample | None = None) -> Outputs:
        """The model's outputs for a batch, from the features of its images where it holds these."""
        features = batch.get(FEATURES)
        assert features is None or self.model.images_are_frozen
        return self.model(batch.get(IMAGE), sample, features, batch.get(TEACHER))

    @property
    def learner(self) -> Any:
        """The method; a task may use whatever its `needs` guarantee."""
        return self.model.learner

    def store_towers(self) -> None:
        """On a GPU under bf16 autocast, stores the frozen weights in bf16: autocast would cast them anew at each call."""
        if self.device.type == "cuda" and str(self.trainer.precision).startswith("bf16"):
            self.model.clip.store_bf16()
            if self.model.language_model is not None:
                self.model.language_model.store_bf16()

    @property
    def what_to_lower(self) -> str:
        """The advice for numbers that overflow."""
        return f"lower optim.lr{'' if self.trainer.precision == '32-true' else ', or try precision=32-true'}"

    # ---- what Lightning calls

    def val_dataloader(self) -> list[DataLoader]:
        """This rank's share of each evaluation during training."""
        return self._loaders(self.vals)

    def test_dataloader(self) -> list[DataLoader]:
        """This rank's share of each evaluation at the end."""
        return self._loaders(self.tests)

    def _loaders(self, evaluations: list[Evaluation]) -> list[DataLoader]:
        most = max((evaluation.images for evaluation in evaluations), default=self.trainer.world_size)
        if most < self.trainer.world_size:  # Lightning skips a rank's evaluation without a batch, and the others would wait
            raise ValueError(
                f"{evaluations[0].name} has fewer images ({most}) than this run has ranks ({self.trainer.world_size}): run on "
                "fewer devices."
            )
        loaders = [evaluation.loader(self.trainer.global_rank, self.trainer.world_size) for evaluation in evaluations]
        # where a debug run evaluates only a part of the images, encoding all of them would cost more than it saves
        whole = self.trainer.limit_test_batches == self.trainer.limit_val_batches == 1.0
        if not (whole and self.takes_features and self.model.images_are_frozen):
            return loaders
        context = self.trainer.precision_plugin.forward_context
        return [
            self.features.evaluation(loader, self.model.clip, context, evaluation.name)
            for loader, evaluation in zip(loaders, evaluations, strict=True)
        ]

    def _start(self, evaluations: list[Evaluation]) -> None:
        self.model.check_finite()
        self._evaluated = None
        # All are started before the first batch: a rank without images of an evaluation still takes part in its reduction.
        for evaluation in evaluations:
            self.start_evaluation(evaluation)

    def _step(self, evaluation: Evaluation, batch: dict[str, Tensor]) -> None:
        self.evaluate_batch(evaluation, batch, first=evaluation is not self._evaluated)
        self._evaluated = evaluation

    def _finish(self, evaluations: list[Evaluation]) -> dict[str, dict[str, Any]]:
        self.finish_evaluations()
        results = {evaluation.name: self.metrics_of(evaluation) for evaluation in evaluations}
        for name, metrics in results.items():
            self.log_dict({f"{name}/{key}": value for key, value in numbers_of(metrics).items()})  # the same on every rank
        return results

    def on_test_start(self) -> None:
        self.store_towers()
        self._start(self.tests)

    def test_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._step(self.tests[dataloader_idx], batch)

    def on_test_epoch_end(self) -> None:
        self.metrics = self._finish(self.tests)

    def on_validation_epoch_start(self) -> None:
        self._start(self.vals)

    def validation_step(self, batch: dict[str, Tensor], batch_idx: int, dataloader_idx: int = 0) -> None:
        self._step(self.vals[dataloader_idx], batch)

    def on_validation_epoch_end(self) -> None:
        results = self._finish(self.vals)
        numbers = {name: numbers_of(metrics) for name, metrics in results.items()}
        self.history.append({"epoch": self.current_epoch, **numbers})

    @property
    def figures(self) -> dict[str, float]:
        """The task's main figure by test."""
        return {name: metrics[self.figure.key] for name, metrics in self.metrics.items()}

    def lines(self) -> dict[str, Any]:
        """What result.json holds of the task."""
        return {"figure": asdict(self.figure), "metrics": self.metrics, "history": self.history}


def numbers_of(metrics: Mapping[str, Any]) -> dict[str, float]:
    """The measurements among an evaluation's metrics: counts and lists are left out."""
    return {key: value for key, value in metrics.items() if type(value) is float}
