"""Hydra's entry to a search: Hydra finds sweepers in the namespace package `hydra_plugins` alone. `runs.trials` runs the
search.

Hydra imports this module in every process, so it imports neither Optuna nor torch.
"""

from __future__ import annotations

import inspect
from typing import Any

from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig


class SearchSweeper(Sweeper):
    """Proposes values by Optuna and runs each trial as a job of its own: `hydra/sweeper=search`.

    Args:
        options: the keys of conf/hydra/sweeper/search.yaml, of which `runs.trials` reads what it needs.
    """

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Hydra's hook: stores the composer of configs, the search's config, and the script that runs a trial."""
        self.loader, self.config = hydra_context.config_loader, config
        self.script = inspect.getsourcefile(inspect.unwrap(task_function)) or ""

    def sweep(self, arguments: list[str]) -> None:
        """Runs the search. `arguments`: the overrides of the command line."""
        from runs import trials

        trials.search(self.loader, self.config, self.script, arguments)
