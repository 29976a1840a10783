"""The cells of the declared tables: finds the results of each sweep's jobs, and refuses incomplete or outdated ones."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser

from reports.collect import read
from reports.groups import Group
from reports.rows import by_evaluation, summaries, summary_cell
from reports.settings import differences, settings_of
from reports.stats import Spread, spread
from runs import jobs
from runs.summaries import summary_value
from tools.table_rows import Column, Declared, Line

CONF = Path(__file__).parents[1] / "conf"
SEEDS = (1, 2, 3, 4, 5)
COUNTS = ("trainable_parameters", "effective_parameters")  # numbers of a result that are no figure


@dataclass(frozen=True)
class Sweep:
    """The values of a sweep's keys in one job, but the seed, as strings of the command line."""

    experiment: str
    values: Mapping[str, str]

    def has(self, where: Mapping[str, str]) -> bool:
        """Whether it has these values, `experiment` being its own name."""
        return all((self.experiment if key == "experiment" else self.values.get(key)) == value for key, value in where.items())

    @property
    def overrides(self) -> list[str]:
        """The command line of one job."""
        return [f"experiment={self.experiment}", *(f"{key}={value}" for key, value in self.values.items())]

    @property
    def command(self) -> str:
        """The command that runs all jobs of the sweep."""
        return f"python run.py -m experiment={self.experiment}"


@cache
def sweeps(experiment: str) -> tuple[Sweep, ...]:
    """The jobs of conf/experiment/NAME.yaml, without their seeds. ValueError where there is no such file, or other seeds."""
    if not (CONF / "experiment" / f"{experiment}.yaml").is_file():
        raise ValueError(
            f"there is no conf/experiment/{experiment}.yaml, whose runs a table shows: write it, or take the row out."
        )
    with initialize_config_dir(str(CONF.resolve()), version_base="1.3"):
        cfg = compose("config", [f"experiment={experiment}"], return_hydra_config=True)
    params = {key: _values(key, str(value)) for key, value in cfg.hydra.sweeper.params.items()}
    if (seeds := params.pop("seed", [])) != list(map(str, SEEDS)):
        raise ValueError(f"conf/experiment/{experiment}.yaml has the seeds {', '.join(seeds) or 'of no sweep'}: give {SEEDS}.")
    return tuple(Sweep(experiment, dict(zip(params, values, strict=True))) for values in product(*params.values()))


def _values(key: str, text: str) -> list[str]:
    """The values of one key of a sweep: of "1,2" both, of "[1,2]" the list."""
    override = OverridesParser.create().parse_override(f"{key}={text}")
    return list(override.sweep_string_iterator()) if override.is_sweep_override() else [text]


def job_of(table: Declared, line: Line, column: Column) -> Sweep:
    """The job of the table's experiments that a cell is of. ValueError unless there is exactly one."""
    where = {**line.where, **column.where}
    found = [sweep for experiment in table.experiments for sweep in sweeps(experiment) if sweep.has(where)]
    if len(found) != 1:
        raise ValueError(
            f"table {table.name}: row {line.label!r}, column {column.title!r} is of {len(found)} jobs of "
            f"{', '.join(table.experiments)}: say in tools/table_rows.py which one."
        )
    return found[0]


class Results:
    """The results below a folder, by the jobs that they are of."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.groups = read([folder])
        self.found: dict[str, Group] = {}

    def of(self, sweep: Sweep) -> Group:
        """The runs of a job, of exactly the seeds of `SEEDS`.

        Raises:
            ValueError: they are missing or of other settings than the job has now, lack a seed, or are of several
                configurations.
        """
        key = " ".join(sweep.overrides)
        if key not in self.found:
            self.found[key] = self._find(sweep, " ".join(sweep.overrides[1:]) or sweep.experiment)
        return self.found[key]

    def _find(self, sweep: Sweep, what: str) -> Group:
        names, settings = composed(tuple(sweep.overrides))
        named = [group for group in self.groups if dict(group.names) == names and not group.stages]
        found = [group for group in named if group.settings == settings]
        if not found:
            other = min((differences([settings, group.settings]) for group in named), key=len, default=None)
            near = "" if other is None else f" (the nearest has another {', '.join(other[:4])})"
            raise ValueError(f"there is no result of {what} below {self.folder}{near}: run {sweep.command}.")
        if len(found) > 1:
            digests = ", ".join(group.digest for group in found)
            raise ValueError(
                f"the results of {what} below {self.folder} are of several configurations ({digests}), which differ in their "
                f"data, weights or files: remove those that are out of date, and run {sweep.command}."
            )
        if missing := [seed for seed in SEEDS if seed not in found[0].runs]:
            raise ValueError(f"{what} below {self.folder} lacks seed {', '.join(map(str, missing))}: run {sweep.command}.")
        return replace(found[0], runs={seed: found[0].runs[seed] for seed in SEEDS})


@cache
def composed(overrides: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str]]:
    """The names and the settings of a job, as a result has them."""
    cfg, names = jobs.compose_job(list(overrides), CONF)
    return names, settings_of({"config": jobs.resolve(cfg)})  # type: ignore[typeddict-item]


def by_seed(group: Group, value: str) -> dict[int, float]:
    """An evaluation, a summary or a count of a group, by seed. ValueError where it has none of this name."""
    if value in COUNTS:
        return {seed: run.result[value] for seed, run in group.runs.items()}  # type: ignore[literal-required]
    if value in group.evaluations:
        return group.by_seed(value)
    if value not in group.summary:
        raise ValueError(
            f"the results of {group.label} have no {value}, only {', '.join([*group.evaluations, *group.summary])}."
        )
    entry = group.summary[value]
    figures = {name: group.by_seed(name) for name in entry["evaluations"]}
    return {
        seed: summary_value(entry["function"], entry["evaluations"], {name: values[seed] for name, values in figures.items()})
        for seed in group.runs
    }


def cell(group: Group, value: str) -> Spread:
    """Mean and spread over the seeds; a summary is that of the means, as the report has it."""
    if value in group.summary and value not in group.evaluations:
        return summary_cell(summaries([group])[value], by_evaluation([group]), group.figure["higher_is_better"])
    return spread(list(by_seed(group, value).values()))


def text(group: Group, value: str) -> str:
    """A cell of a table: "76.6 ± 1.3"; a count without its spread where all seeds have the same."""
    of = cell(group, value)
    if value in COUNTS:
        return f"{of.mean:,.0f}" + (f" ± {of.std:,.0f}" if of.std else "")
    return f"{of.mean:.1f} ± {of.std:.1f}"


def unused(tables: Iterable[Declared], experiments: Iterable[str]) -> list[Sweep]:
    """The jobs of these experiments that no cell is of."""
    used = [
        job_of(t, line, column) for t in tables for line in t.lines for column in t.columns if column.title not in line.lacks
    ]
    return [sweep for experiment in experiments for sweep in sweeps(experiment) if sweep not in used]


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> tuple[float, float, float]:
    """Mean, population standard deviation and standard error of the differences a minus b over the seeds."""
    differences_ = [a[seed] - b[seed] for seed in SEEDS]
    error = statistics.stdev(differences_) / len(SEEDS) ** 0.5
    return statistics.mean(differences_), statistics.pstdev(differences_), error


def common(groups: Iterable[Group]) -> dict[str, Any]:
    """Facts about all groups of the tables, for the documents: backbones, precisions and the number of runs."""
    groups = list(groups)
    return {
        "runs": sum(len(group.runs) for group in groups),
        "clip": sorted({group.names["clip"] for group in groups}),
        "precision": sorted({group.settings["precision"].strip('"') for group in groups}),
    }
