"""Reads `conf/task/NAME.yaml` for the report: the module with a task's sections, and the baseline that these compare with.

The yaml files are the project's and those of the user's --config-dir, which are trusted as code. A result only names its task;
it cannot choose which module is imported.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml
from markupsafe import Markup

from reports.compare import ItemTest
from reports.groups import Group
from reports.style import Palette
from reports.tables import Table

CONF = Path(__file__).parents[1] / "conf"

Sections = list[tuple[str, Markup]]
"""Headings and bodies; one whose body is empty is left out."""


@dataclass(frozen=True)
class TaskReport:
    """A task's part in the report. Its module has `sections(groups, tables, palette) -> Sections`, and may have
    `item_test`, a `reports.compare.ItemTest`."""

    module: ModuleType | None = None
    baseline: str | None = None  # a method

    def sections(self, groups: Sequence[Group], tables: Sequence[Table], palette: Palette) -> Sections:
        """The task's own sections; none without a module."""
        marked = [replace(group, is_baseline=group.names["method"] == self.baseline) for group in groups]
        return self.module.sections(marked, tables, palette) if self.module else []

    @property
    def item_test(self) -> ItemTest | None:
        """The task's paired test over items, if it has one."""
        return getattr(self.module, "item_test", None)


def task_reports(tasks: Iterable[str], config_dir: Path | None = None) -> dict[str, TaskReport]:
    """The reports by task; a task without a yaml file here gets one without sections of its own.

    Args:
        config_dir: a folder of more configs, as run.py's --config-dir.

    Raises:
        ValueError: a yaml file names no module, or one that cannot be imported or has no `sections`.
    """
    files: dict[str, Path] = {}
    for folder in filter(None, (CONF, config_dir)):
        files = {file.stem: file for file in sorted(folder.glob("task/*.yaml"))} | files  # ours go first, as in Hydra
    return {task: _report_of(files[task]) if task in files else TaskReport() for task in dict.fromkeys(tasks)}


def _report_of(file: Path) -> TaskReport:
    try:
        content: Any = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read ({' '.join(str(error).split())[:200]}).") from error
    entries = content if isinstance(content, dict) else {}
    name, baseline = entries.get("report"), entries.get("baseline")
    if baseline is not None and not isinstance(baseline, str):
        raise ValueError(f"{file}: baseline is {baseline!r:.80}, not the name of a method.")
    if name is None:  # a task without sections of its own
        return TaskReport(baseline=baseline)
    if not isinstance(name, str):
        raise ValueError(f"{file}: report is {name!r:.80}, not the name of a module.")
    try:
        module = importlib.import_module(name)
    except (ImportError, ValueError, TypeError) as error:
        raise ValueError(f"{file}: its report, the module {name!r}, cannot be imported ({error}).") from error
    if not callable(getattr(module, "sections", None)):
        raise ValueError(f"{file}: its report, the module {name!r}, has no function sections(groups, tables, palette).")
    return TaskReport(module, baseline)
