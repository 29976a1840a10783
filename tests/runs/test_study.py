"""The study of a search: several processes at one, what dead ones leave, and proposals that a restart repeats."""

import os
import socket
import subprocess
import sys

import pytest

optuna = pytest.importorskip("optuna")
from optuna.distributions import FloatDistribution  # noqa: E402
from optuna.samplers import RandomSampler, TPESampler  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from runs import study  # noqa: E402

SPACE = {"x": FloatDistribution(0.0, 1.0)}


def opened(folder, seed=1, url=None, space=SPACE, make=RandomSampler):
    sampler = study.Numbered(lambda seed: make(seed=seed), seed)
    return study.open_study(study.storage_of(url or f"journal:{folder / 'log'}", folder), "s", space, sampler, None)


def values_of(opened_study):
    return [trial.params["x"] for trial in opened_study.trials]


def test_a_restart_goes_on_with_the_same_proposals(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    whole = opened(tmp_path / "a", make=TPESampler)
    for _ in range(14):  # past the startup trials
        trial = study.ask(whole, SPACE)
        whole.tell(trial, trial.params["x"])
    for _ in range(14):
        again = opened(tmp_path / "b", make=TPESampler)
        trial = study.ask(again, SPACE)
        again.tell(trial, trial.params["x"])
    assert values_of(whole) == values_of(again)
    assert len(set(values_of(whole))) == 14


def test_processes_at_one_study_propose_different_values(tmp_path):
    one, other = opened(tmp_path), opened(tmp_path)
    values = [study.ask(process, SPACE).params["x"] for process in (one, other, one)]
    assert len(set(values)) == 3
    assert study.taken(one) == 3
    assert study.taken(one, before=2) == 2


def test_another_space_under_the_same_name_is_refused(tmp_path):
    opened(tmp_path)
    with pytest.raises(ValueError, match="study_name=s is a search over other values"):
        opened(tmp_path, space={"x": FloatDistribution(0.0, 2.0)})


def test_what_a_dead_process_left_is_proposed_again_once(tmp_path):
    here = opened(tmp_path)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    trial, mine = study.ask(here, SPACE), study.ask(here, SPACE)
    trial.set_user_attr(study.OWNER, f"{socket.gethostname()}:{dead.pid}")
    assert study.reclaim(here) == 1
    assert study.reclaim(opened(tmp_path)) == 0
    assert study.taken(here) == 2  # mine, and the one that waits
    assert study.waits(here)
    again = study.ask(here, SPACE)
    assert again.params == trial.params
    assert not study.waits(here)
    assert [t.state for t in here.trials] == [TrialState.FAIL, TrialState.RUNNING, TrialState.RUNNING]
    assert mine.params != trial.params


@pytest.mark.parametrize(("silent", "left"), [(10.0, False), (study.DEAD + 10, True)])
def test_another_machines_trial_is_left_when_it_was_silent_for_long(tmp_path, monkeypatch, silent, left):
    here = opened(tmp_path)
    trial = study.ask(here, SPACE)
    trial.set_user_attr(study.OWNER, f"elsewhere:{os.getpid()}")
    now = study.time.time()
    monkeypatch.setattr(study.time, "time", lambda: now + silent)
    assert study.reclaim(here) == left
    study.beat(trial)  # of a trial that is over: no error


def test_a_trial_that_was_told_is_not_left(tmp_path):
    here = opened(tmp_path)
    trial = study.ask(here, SPACE)
    here.tell(trial, 1.0)
    assert not study.leave(here, trial)
    assert not study.waits(here)


def test_the_default_storage_is_a_file_that_sqlite_keeps(tmp_path):
    here = opened(tmp_path / "sweep", url=f"sqlite:///{tmp_path / 'sweep'}/search.db")
    here.tell(study.ask(here, SPACE), 0.5)
    again = study.open_study(study.storage_of(None, tmp_path / "sweep"), "s", SPACE, RandomSampler(), None)
    assert again.best_value == 0.5


def test_a_storage_that_cannot_be_opened_is_one_sentence(tmp_path):
    with pytest.raises(ValueError, match="hydra.sweeper.storage=nowhere://x cannot be opened .*give a URL of Optuna's"):
        study.storage_of("nowhere://x", tmp_path)
