"""A search's study in Optuna: its storage, its sampler, and the trials of processes that have died.

Several processes, also on several machines, work on one study at once. Imports Optuna, and no torch.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import BaseSampler
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from runs import search_space

SPACE, OWNER, SEEN = "space", "owner", "seen"  # attributes: of the study, and of a trial
BEAT, DEAD = 20.0, 120.0  # seconds between two heartbeats, and without one until a trial counts as abandoned
JOURNAL = "journal:"
KEPT = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.RUNNING, TrialState.WAITING)


class Numbered(BaseSampler):
    """Draws the values of trial n by a new sampler, whose seed is a function of the search's seed and n.

    So a restarted search proposes the values that it would have proposed without the interruption, and processes that share a
    study do not propose the same values.

    Args:
        make: makes a sampler of a seed.
        seed: None: everything is drawn from the system's entropy.
    """

    def __init__(self, make: Callable[[int | None], BaseSampler], seed: int | None) -> None:
        self.make, self.seed, self.inner = make, seed, make(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Optuna's hook, before anything is drawn for the trial."""
        seed = None if self.seed is None else int(np.random.SeedSequence([self.seed, trial.number]).generate_state(1)[0])
        self.inner = self.make(seed)
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The parameters that are drawn together."""
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """The values of the parameters that are drawn together."""
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """The value of a parameter that is drawn alone."""
        return self.inner.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Optuna's hook, after a trial."""
        self.inner.after_trial(study, trial, state, values)


def storage_of(url: str | None, folder: Path) -> BaseStorage:
    """The storage of an URL, of `journal:PATH`, or by default `search.db` in the folder, which is made.

    Raises:
        ValueError: it cannot be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    url = url or f"sqlite:///{folder.resolve() / 'search.db'}"
    with FileLock(folder / ".search.lock"):  # two processes cannot create the same tables at once
        try:
            if url.startswith(JOURNAL):
                return JournalStorage(JournalFileBackend(url.removeprefix(JOURNAL)))
            options = {"connect_args": {"timeout": 100}} if url.startswith("sqlite") else {}
            return RDBStorage(url, engine_kwargs=options)
        except Exception as error:  # of SQLAlchemy, of a driver, of the system
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"hydra.sweeper.storage={url} cannot be opened ({reason[:300]}): give a URL of Optuna's."
            ) from error


def open_study(
    storage: BaseStorage, name: str, space: Mapping[str, BaseDistribution], sampler: BaseSampler, pruner: Any
) -> Study:
    """The study of this name, made if there is none. ValueError where it searches another space."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(
        storage=storage, study_name=name, sampler=sampler, pruner=pruner, direction="maximize", load_if_exists=True
    )
    wanted = search_space.as_text(space)
    if study.user_attrs.setdefault(SPACE, wanted) != wanted:
        raise ValueError(f"study_name={name} is a search over other values: choose another name, or leave it out.")
    study.set_user_attr(SPACE, wanted)
    return study


def owner() -> str:
    """The host and the id of this process, which identify it on other machines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def ask(study: Study, space: Mapping[str, BaseDistribution]) -> Trial:
    """The next trial: an abandoned one, or a new one. It is marked as owned by this process."""
    trial = study.ask(dict(space))
    trial.set_user_attr(OWNER, owner())
    beat(trial)
    return trial


def beat(trial: Trial) -> None:
    """Records a heartbeat of the trial."""
    with suppress(UpdateFinishedTrialError):  # another machine has seen no heartbeat for too long and ended the trial
        trial.set_user_attr(SEEN, time.time())


def is_left(trial: FrozenTrial) -> bool:
    """Whether a running trial's process is gone: known at once on this machine, on others `DEAD` seconds after a heartbeat."""
    started = trial.datetime_start.timestamp() if trial.datetime_start else 0.0
    host, _, process = str(trial.user_attrs.get(OWNER, "")).rpartition(":")
    if host == socket.gethostname() and process.isdecimal():
        try:
            os.kill(int(process), 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # another user's
            pass
    return time.time() - max(started, float(trial.user_attrs.get(SEEN, 0.0))) > DEAD


def leave(study: Study, trial: FrozenTrial | Trial, again: bool = True) -> bool:
    """Ends a trial without a value and, with `again`, enqueues its values, which whoever asks next gets.

    Returns:
        False where another process has ended it meanwhile.
    """
    try:
        study.tell(trial.number, state=TrialState.FAIL)
    except (ValueError, UpdateFinishedTrialError):
        return False
    if again and trial.params:
        study.enqueue_trial(trial.params)
    return True


def reclaim(study: Study) -> int:
    """Enqueues again what dead processes have left; how many trials."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return sum(leave(study, trial) for trial in running if is_left(trial))


def taken(study: Study, before: int | None = None) -> int:
    """How many trials of the study are done or under way, of those numbered below `before`. Failed ones do not count."""
    trials = study.get_trials(deepcopy=False, states=KEPT)
    return sum(before is None or trial.number < before for trial in trials)


def ended(study: Study) -> int:
    """How many trials of the study have a value or were ended early."""
    return len(study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED)))


def waits(study: Study) -> bool:
    """Whether a trial that was left is enqueued."""
    return bool(study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
