"""A search: asks Optuna for values, runs each trial as jobs of its own, and tells Optuna their results.

One process with one loop: several trials run at once, and each is polled five times a second. Imports no torch.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, open_dict
from optuna.samplers import BaseSampler
from optuna.trial import Trial, TrialState

from files.whole import write_text
from runs import arguments, identity, search_space, signals, study
from runs import search as rules
from runs.trial_jobs import JobOfTrial

PAUSE = 0.2  # seconds between two polls of the running trials
OUTCOME = "optimization_results.yaml"


class RunningTrial:
    """A trial that this process runs: its jobs, one per seed, one after another.

    Args:
        jobs: makes the job of each seed, in order.
    """

    def __init__(self, trial: Trial, jobs: list[Callable[[], JobOfTrial]]) -> None:
        self.trial, self.left = trial, jobs
        self.job: JobOfTrial | None = None
        self.values: list[float] = []
        self.first, self.reported = 0, -1  # the step of the job's first epoch, and the last step that was reported
        self.is_pruned = False
        self.state: TrialState | None = None  # how it ended
        self.seen = time.monotonic()

    def poll(self) -> bool:
        """Starts the next job if none runs, reports new figures, and returns whether the trial has ended."""
        if time.monotonic() - self.seen > study.BEAT:
            study.beat(self.trial)
            self.seen = time.monotonic()
        if self.job is None:
            self.job, self.first = self.left.pop(0)(), self.reported + 1
            self.job.start()
        self.report(self.job)
        if not self.job.has_ended():
            return False
        self.report(self.job)
        value = self.job.close(self.is_pruned)
        if value is None:
            self.state = TrialState.FAIL if self.job.failed else TrialState.PRUNED
            return True
        self.values.append(value)
        self.job, self.is_pruned = None, False
        self.state = None if self.left else TrialState.COMPLETE
        return not self.left

    def report(self, job: JobOfTrial) -> None:
        """Reports new figures on the validation images to the pruner, and stops the job where the pruner decides so. A job
        whose result was there already is never pruned."""
        for epoch, score in job.scores():
            if self.first + epoch <= self.reported:
                continue
            self.reported = self.first + epoch
            self.trial.report(score, self.reported)
            if job.is_running and not self.is_pruned and self.trial.should_prune():
                self.is_pruned = True
                job.stop()

    @property
    def value(self) -> float:
        """The mean over the seeds."""
        return sum(self.values) / len(self.values)


class Search:
    """A search in this process.

    Args:
        loader: composes the config of a trial from its overrides, as Hydra's launchers do.
        config: the composed config of the search, with Hydra's own.
        script: run.py.
        overrides: of the command line.
    """

    def __init__(self, loader: Any, config: DictConfig, script: str, overrides: list[str]) -> None:
        self.loader, self.config, self.script = loader, config, script
        options = config.hydra.sweeper
        given = [f"{key}={value}" for key, value in (options.params or {}).items()]
        self.fixed, self.space = search_space.space_of([*given, *overrides])
        self.n_trials, self.n_jobs, self.seeds = options.n_trials, options.n_jobs, list(options.seeds or [])
        self.folder = Path(config.hydra.sweep.dir)
        self.study = study.open_study(
            study.storage_of(options.storage, self.folder),
            options.study_name or self.name(),
            self.space,
            study.Numbered(self.sampler, options.sampler.get("seed")),
            made(options.pruner, "hydra.sweeper.pruner"),
        )
        self.running: list[RunningTrial] = []
        self.failed = 0
        self.looked = 0.0  # time of the last check for trials of dead processes

    def sampler(self, seed: int | None) -> BaseSampler:
        """The config's sampler, with this seed."""
        return made(self.config.hydra.sweeper.sampler, "hydra.sweeper.sampler", seed=seed)

    def name(self) -> str:
        """Method and data, and a digest of all that trials share: the part of the config that can change a result, the
        objective, the seeds and the search space."""
        plain = OmegaConf.masked_copy(self.config, [str(key) for key in self.config if key != "hydra"])
        common: Any = OmegaConf.to_container(OmegaConf.merge(plain, identity.EXECUTION_KEYS), resolve=False)
        common = {key: value for key, value in common.items() if key not in identity.EXECUTION_GROUPS}
        seeds = self.seeds or self.config.seed
        choices = self.config.hydra.runtime.choices
        what = [common, self.config.objective, seeds, search_space.as_text(self.space), sorted(self.fixed_counting())]
        digest = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:8]
        return f"{choices.method}-{choices.data}-{choices.protocol}-{digest}"

    def fixed_counting(self) -> list[str]:
        """The fixed overrides that can change a result."""
        ignored = (*identity.EXECUTION_KEYS, *identity.EXECUTION_GROUPS, "hydra")
        return [override for override in self.fixed if override.lstrip("+~").split("=")[0].split(".")[0] not in ignored]

    def run(self) -> None:
        """Runs trials until there are as many as wanted. After a signal the running jobs are stopped, and their values are
        kept for the next command. ValueError where no trial ended well."""
        try:
            while True:
                with signals.held():
                    if not self.step():
                        break
                time.sleep(PAUSE)
        except BaseException:
            with signals.held():
                self.abandon()
            raise
        self.finish()

    def step(self) -> bool:
        """One pass of the loop. Returns whether there is something left to do."""
        if time.monotonic() - self.looked > study.BEAT or not (self.looked or self.running):
            self.looked = time.monotonic()
            if count := study.reclaim(self.study):
                print(f"{count} trial(s) that a process left unfinished are run again", flush=True)
        for running in [running for running in self.running if running.poll()]:
            self.running.remove(running)
            self.tell(running)
        while len(self.running) < self.n_jobs and self.may_ask():
            trial = study.ask(self.study, self.space)
            if study.taken(self.study, before=trial.number) + self.failed >= self.n_trials:  # another process was faster
                study.leave(self.study, trial, again=False)
                break
            self.running.append(self.started(trial))
        return bool(self.running)

    def may_ask(self) -> bool:
        """Whether trials are still to be asked for, or abandoned ones to be run again."""
        return study.taken(self.study) + self.failed < self.n_trials or study.waits(self.study)

    def started(self, trial: Trial) -> RunningTrial:
        """The trial, with a job for each seed."""
        proposed = [search_space.override_of(key, value) for key, value in trial.params.items()]
        seeds = [[f"seed={seed}"] for seed in self.seeds] or [[]]
        jobs = [self.job_of([*self.fixed, *proposed, *seed], trial.number) for seed in seeds]
        return RunningTrial(trial, jobs)

    def job_of(self, overrides: list[str], number: int) -> Callable[[], JobOfTrial]:
        """Makes the job of these overrides."""

        def make() -> JobOfTrial:
            cfg = self.loader.load_sweep_config(self.config, overrides)
            with open_dict(cfg):
                cfg.hydra.job.id, cfg.hydra.job.num = str(number), number
            return JobOfTrial(self.script, cfg, self.folder)

        return make

    def tell(self, ended: RunningTrial) -> None:
        """Tells Optuna how a trial ended, and prints it."""
        value = ended.value if ended.state == TrialState.COMPLETE else None
        self.failed += ended.state == TrialState.FAIL
        self.study.tell(ended.trial.number, value, state=ended.state, skip_if_finished=True)
        words = {TrialState.PRUNED: f"ended early, after {ended.reported + 1} epochs,", TrialState.FAIL: "failed"}
        what = f"{value:.2f}" if value is not None else words[ended.state]
        done = study.ended(self.study) + self.failed
        chosen = search_space.in_words(ended.trial.params)
        print(f"trial {done} of {self.n_trials}: {what} with {chosen}{self.best_so_far()}", flush=True)

    def best_so_far(self) -> str:
        """The best value, for the end of a line."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        return f"; the best so far {max(trial.value for trial in done):.2f}" if done else ""

    def abandon(self) -> None:
        """Stops all jobs, and keeps the values of their trials for the next command."""
        for running in self.running:
            if running.job:
                running.job.stop()
        for running in self.running:
            if running.job:
                running.job.wait()
            study.leave(self.study, running.trial)
        self.running = []

    def finish(self) -> None:
        """Prints and writes the best trial. ValueError where there is none."""
        done = self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not done:
            raise ValueError("no trial of the search ended well; the reasons are printed above.")
        best, pruned = self.study.best_trial, len(self.study.get_trials(deepcopy=False, states=(TrialState.PRUNED,)))
        path = self.folder / OUTCOME
        content = {"study": self.study.study_name, "best_params": best.params, "best_value": best.value}
        write_text(path, OmegaConf.to_yaml(content | {"trials": len(done), "pruned": pruned}))
        maximised = rules.words(self.config.get("objective"))
        chosen = search_space.in_words(best.params)
        others = study.taken(self.study) - study.ended(self.study)
        beside = f", {others} are under way in other processes" if others else ""
        print(f"{len(done)} trials ran to their end, {pruned} were ended early{beside}", flush=True)
        print(f"best of the search: {chosen}: {best.value:.2f}, maximised: {maximised}   ({path})", flush=True)


def made(node: DictConfig, where: str, **given: Any) -> Any:
    """The object of a node with `_target_`. ValueError where its arguments do not fit."""
    arguments.check_arguments(node, where)
    with arguments.making(where):
        return instantiate(node, **given)


def search(loader: Any, config: DictConfig, script: str, overrides: list[str]) -> None:
    """Runs a search, as `Search` does."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    Search(loader, config, script, overrides).run()
