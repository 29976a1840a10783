"""Loggers of more than numbers: pictures, tables, confusion matrices. One interface for W&B and TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from lightning.pytorch.loggers import Logger, TensorBoardLogger, WandbLogger
from matplotlib.figure import Figure

from lightning_modules.process import is_first_rank

NAMED_CLASSES = 40  # of a confusion matrix that TensorBoard shows: beyond them names cannot be read


class Board:
    """The interface of a logger of more than numbers. A logger of a user's own that is also a Board is given the same."""

    def show_numbers(self, numbers: Mapping[str, Any]) -> None:
        """Numbers of the whole run, by name."""
        raise NotImplementedError

    def show_settings(self, settings: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        """The settings of the run beside its results, for boards that compare runs by both."""

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table, whose cells are texts, numbers, pictures (PIL) or None."""
        raise NotImplementedError

    def show_picture(self, name: str, picture: PIL.Image.Image) -> None:
        """One picture."""
        raise NotImplementedError

    def show_confusion(self, name: str, true_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> None:
        """A confusion matrix, from the true and the predicted class of each image."""
        raise NotImplementedError

    def keep_prompts(self, path: Path, name: str, alias: str, about: Mapping[str, Any]) -> dict[str, str] | None:
        """Stores saved prompts, on boards that store files.

        Args:
            path: the prompts file.
            name: of the artifact.
            alias: identifies this content among the versions of `name`.
            about: metadata of the artifact.

        Returns:
            The address by which a later run names the artifact; None where the board stores no files.
        """
        return None

    def note_origin(self, kept: Mapping[str, str]) -> None:
        """Records that this run has started from the prompts of an earlier one. `kept`: what its `keep_prompts` returned."""

    def end(self) -> None:
        """Flushes and closes the board; nothing is shown afterwards."""


class WandbBoard(Board):
    """A run of W&B."""

    def __init__(self, run: Any) -> None:
        self.run = run

    def show_numbers(self, numbers: Mapping[str, Any]) -> None:
        """The run's summary."""
        self.run.summary.update(dict(numbers))

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A table with pictures in its cells."""
        import wandb

        def cell(value: Any) -> Any:
            return wandb.Image(value) if isinstance(value, PIL.Image.Image) else value

        self.run.log({name: wandb.Table(columns=list(columns), data=[list(map(cell, row)) for row in rows])})

    def show_picture(self, name: str, picture: PIL.Image.Image) -> None:
        """An image under its name."""
        import wandb

        self.run.log({name: [wandb.Image(picture)]})

    def show_confusion(self, name: str, true_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> None:
        """W&B's own, interactive plot."""
        import wandb

        true, predicted = true_N.tolist(), predicted_N.tolist()
        title = name.replace("/", ": ") + " matrix"
        plot = wandb.plot.confusion_matrix(y_true=true, preds=predicted, class_names=list(classes), title=title)
        self.run.log({name: plot})

    def keep_prompts(self, path: Path, name: str, alias: str, about: Mapping[str, Any]) -> dict[str, str] | None:
        """An artifact of type "prompts"."""
        import wandb

        name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:128]  # what W&B admits
        artifact = wandb.Artifact(name, type="prompts", metadata=dict(about))
        artifact.add_file(str(path))
        self.run.log_artifact(artifact, aliases=["latest", alias])
        return {"entity": self.run.entity or "", "project": self.run.project or "", "artifact": f"{name}:{alias}"}

    def note_origin(self, kept: Mapping[str, str]) -> None:
        """An edge of W&B's lineage. Offline there is none: the config then names the artifact."""
        path = "/".join(filter(None, (kept["entity"], kept["project"], kept["artifact"])))
        self.run.config.update({"started_from": [*self.run.config.get("started_from", []), path]}, allow_val_change=True)
        if self.run.offline:
            return
        try:
            self.run.use_artifact(path)
        except Exception as error:  # W&B raises many types: deleted there, no rights, no network. The run goes on
            print(f"W&B has no artifact {path} to note as what this run has started from ({type(error).__name__})", flush=True)


class TensorBoard(Board):
    """TensorBoard's event files: tables are texts in Markdown, beside which their pictures stand."""

    def __init__(self, logger: TensorBoardLogger) -> None:
        self.logger, self.writer = logger, logger.experiment

    def show_numbers(self, numbers: Mapping[str, Any]) -> None:
        """A table of them."""
        self.show_table("summary", ["", "value"], list(numbers.items()))

    def show_settings(self, settings: Mapping[str, Any], numbers: Mapping[str, float]) -> None:
        """A row of the tab HPARAMS."""
        self.logger.log_hyperparams(dict(settings), dict(numbers))

    def show_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """A Markdown table; its pictures are NAME/ROW-COLUMN."""
        lines = [columns, ["---"] * len(columns)]
        for at, row in enumerate(rows):
            for column, value in zip(columns, row, strict=True):
                if isinstance(value, PIL.Image.Image):
                    self.show_picture(f"{name}/{at:02}-{column}", value)
            lines.append([f"picture {at:02}" if isinstance(value, PIL.Image.Image) else in_markdown(value) for value in row])
        self.writer.add_text(name, "\n".join(f"| {' | '.join(line)} |" for line in lines))

    def show_picture(self, name: str, picture: PIL.Image.Image) -> None:
        """An image under its name."""
        self.writer.add_image(name, np.asarray(picture.convert("RGB")), dataformats="HWC")

    def show_confusion(self, name: str, true_N: np.ndarray, predicted_N: np.ndarray, classes: Sequence[str]) -> None:
        """A picture: rows are true classes, columns predicted ones, and a row's shares add up to 1."""
        counts_CC = np.zeros((len(classes), len(classes)))
        np.add.at(counts_CC, (true_N, predicted_N), 1)
        shares_CC = counts_CC / counts_CC.sum(1, keepdims=True).clip(min=1)
        side = min(4 + 0.2 * len(classes), 12)
        figure = Figure(figsize=(side, side), layout="tight")
        axis = figure.subplots()
        axis.imshow(shares_CC, cmap="Blues", vmin=0, vmax=1)
        axis.set(xlabel="predicted", ylabel="true")
        if len(classes) <= NAMED_CLASSES:
            names = [name.replace("$", r"\$") for name in classes]
            axis.set_xticks(range(len(names)), names, rotation=90)
            axis.set_yticks(range(len(names)), names)
        self.writer.add_figure(name, figure, close=False)

    def end(self) -> None:
        """Closes the file of events."""
        self.writer.close()


def in_markdown(value: Any) -> str:
    """A cell of a Markdown table: numbers in short, and no bars or line breaks."""
    text = f"{value:.4g}" if isinstance(value, float) else "" if value is None else str(value)
    return " ".join(text.replace("|", "\\|").replace("<", "&lt;").split())


def boards_of(loggers: Iterable[Logger]) -> list[Board]:
    """The boards among a run's loggers; none but on the first rank."""
    boards: list[Board] = []
    for logger in loggers if is_first_rank() else []:
        if isinstance(logger, Board):
            boards.append(logger)
        elif isinstance(logger, WandbLogger):
            boards.append(WandbBoard(logger.experiment))
        elif isinstance(logger, TensorBoardLogger):
            boards.append(TensorBoard(logger))
    return boards
