"""Shows a run on its boards: its learner's pictures and words, its prompts, test images, and its result."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
from omegaconf import DictConfig, OmegaConf

from files.untrusted import read_json, text_of
from files.whole import write_json
from lightning_modules.boards import Board
from lightning_modules.evaluated import EvaluatedModule
from prompts.parts.words import context_words
from prompts.prompted_clip import PromptedCLIP
from reports.groups import Run
from runs import search
from runs.earlier import GIVES
from runs.identity import configuration, file_digest
from runs.jobs import Job
from runs.result import Result, load_result

CLASSES_DRAWN = 100  # W&B keeps a row per cell of a confusion matrix and draws 10,000 of them
BEST = "best/val"  # the best main figure on the validation images, by which a sweep of W&B's judges a run
KEPT = "kept.json"  # in a run's folder: the addresses of its prompts on the boards that have stored them
MOST_KEPT = 2**16  # bytes


def show_pictures(boards: Iterable[Board], files: Sequence[Path]) -> None:
    """The pictures among a learner's files, under their names."""
    for file in (file for file in files if file.suffix == ".png"):
        with PIL.Image.open(file) as picture:
            for board in boards:
                board.show_picture(file.stem, picture.convert("RGB"))


def show_words(boards: Sequence[Board], model: PromptedCLIP) -> None:
    """The words nearest to the learned context."""
    if boards and (rows := context_words(model)):
        for board in boards:
            board.show_table("prompt words", ["tensor", "vector", "nearest words"], [list(row) for row in rows])


def show_predictions(boards: Sequence[Board], module: EvaluatedModule) -> None:
    """Some test images of each evaluation with what was predicted, for tasks that leave no samples of their own."""
    for evaluation in module.tests if boards else []:
        columns, rows = module.shown(evaluation)
        for board in boards if rows else []:
            board.show_table(f"{evaluation.name}/predictions", columns, rows)


def keep_prompts(boards: Iterable[Board], job: Job, path: Path) -> None:
    """Gives saved prompts to the boards that store files, and writes their addresses to the run's folder."""
    name = "-".join([*(job.names[key] for key in ("method", "data", "clip", "protocol")), job.digest])
    name += f"-seed{job.config['seed']}"
    about = {**job.names, "shots": job.config["shots"], "seed": job.config["seed"], "digest": job.digest}
    about["configuration"] = configuration(job.config, job.names)
    kept = [board.keep_prompts(path, name, f"sha-{file_digest(path)[:12]}", about) for board in boards]
    if kept := [entry for entry in kept if entry]:
        write_json(path.with_name(KEPT), kept)


def note_origins(boards: Sequence[Board], cfg: DictConfig) -> None:
    """Records the stored prompts that a run has started from, by `ckpt`, by `init_from` or by an earlier run of its own."""
    keys = ["ckpt", "init_from", *([cfg.earlier[GIVES]] if boards and cfg.get("earlier") else [])]
    for key in dict.fromkeys(keys) if boards else []:
        given = OmegaConf.select(cfg, key)
        for kept in kept_in(Path(given)) if isinstance(given, str) else []:
            for board in boards:
                board.note_origin(kept)


def kept_in(folder: Path) -> list[dict[str, str]]:
    """The addresses of the stored prompts of a run's folder; empty where no board has stored them. ValueError where the file
    holds something else."""
    file = (folder if folder.is_dir() else folder.parent) / KEPT
    if not file.is_file():
        return []
    content = read_json(file, "the list of kept prompts", MOST_KEPT)
    entries = content if isinstance(content, list) else [None]
    for entry in entries:
        if not isinstance(entry, dict) or set(entry) != {"entity", "project", "artifact"}:
            raise ValueError(f"the list of kept prompts {file} is not what a run writes: remove it.")
        for key, value in entry.items():
            if value or key == "artifact":
                text_of(value, f"{file}: {key}", 300)
    return entries


def show_result(board: Board, path: Path) -> None:
    """A finished job's result.json: its summary, tables of evaluations, of classes and of samples, confusion matrices."""
    result, run = load_result(path), Run(path, load_result(path))
    metrics = result["metrics"]
    summaries = {name: summary["value"] for name, summary in result["summary"].items()} | best_of(result)
    about = {key: result[key] for key in ("trainable_parameters", "seconds", "peak_memory", "epoch", "digest")}
    board.show_numbers(about | summaries)
    keys = list(dict.fromkeys(key for numbers in metrics.values() for key in numbers if type(numbers[key]) in (int, float)))
    board.show_table(
        "evaluations", ["evaluation", *keys], [[name, *map(numbers.get, keys)] for name, numbers in metrics.items()]
    )
    main = {f"{name}/{result['figure']['key']}": numbers[result["figure"]["key"]] for name, numbers in metrics.items()}
    board.show_settings(settings_of(result), summaries | main)
    classes = [(name, entry) for name, numbers in metrics.items() for entry in numbers.get("per_class", [])]
    if classes:
        columns = list(dict.fromkeys(key for _, entry in classes for key in entry))
        board.show_table("classes", ["evaluation", *columns], [[name, *map(entry.get, columns)] for name, entry in classes])
    for name, numbers in metrics.items():
        show_evaluation(board, run, name, [entry["class"] for entry in numbers.get("per_class", [])])


def show_evaluation(board: Board, run: Run, name: str, classes: Sequence[str]) -> None:
    """The confusion matrix and the samples of an evaluation, where the run has them."""
    predictions = run.predictions(name)
    if predictions is not None and 0 < len(classes) <= CLASSES_DRAWN:
        readable = predictions.readable()
        board.show_confusion(f"{name}/confusion", readable.label_N, readable.predicted_N, classes)
    if samples := run.samples(name):
        fields, pictures = list(samples[0].fields), list(samples[0].pictures)
        rows = [
            [
                sample.why,
                *(picture_of(uri) for uri in (sample.picture, *map(sample.pictures.get, pictures))),
                *(as_cell(sample.fields.get(field)) for field in fields),
            ]
            for sample in samples
        ]
        board.show_table(f"{name}/samples", ["why", "image", *pictures, *fields], rows)


def best_of(result: Result) -> dict[str, float]:
    """The best main figure on the validation images, where the run was evaluated on them while it trained."""
    scores = search.scores_of(result.get("history") or [], result["figure"]) if "figure" in result else []
    sign = 1 if scores and result["figure"]["higher_is_better"] else -1
    return {BEST: sign * max(score for _, score in scores)} if scores else {}


def settings_of(result: Result) -> dict[str, Any]:
    """The settings by which runs are compared: names, shots, seed and the recipe's main values."""
    config: Mapping[str, Any] = result.get("config") or {}
    settings = {**result["names"], "shots": result["shots"], "seed": result["seed"]}
    if config:
        settings["configuration"] = configuration(config, result["names"])[:6]  # type: ignore[arg-type]
    settings |= {key: config[key] for key in ("epochs", "batch_size", "precision") if key in config}
    optim = config.get("optim") or {}
    return settings | ({"lr": optim["lr"]} if "lr" in optim else {})


def as_cell(value: Any) -> str:
    """A sample's entry as the text of a cell: the entries of a list on one line."""
    return "; ".join(map(str, value)) if isinstance(value, list) else str(value)


def picture_of(uri: str) -> PIL.Image.Image | None:
    """A picture from a data URI of `reports.samples`; None where there is no picture."""
    if not uri:
        return None
    with PIL.Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))) as image:
        return image.convert("RGB")
