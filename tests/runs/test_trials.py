"""The loop of a search, on jobs that are not run. Searches as processes: tests/test_sweeps.py."""

import functools

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toys import ROOT

optuna = pytest.importorskip("optuna")
from optuna.trial import TrialState  # noqa: E402

from runs import trials  # noqa: E402
from runs.signals import Interrupted  # noqa: E402

EPOCHS = 4


class Loader:
    """Makes what a job reads of a config."""

    def load_sweep_config(self, master, overrides):
        values = dict(override.split("=") for override in overrides)
        seed = int(values.get("seed", master.seed))
        return OmegaConf.create({"optim": {"lr": float(values["optim.lr"])}, "seed": seed, "hydra": {"job": {}}})


@functools.cache
def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", ["experiment=search", *overrides], return_hydra_config=True)


class Job:
    """A job whose curve follows from its rate: `curve(lr, seed)` has a score per epoch, an exception is its failure."""

    made: list = []

    def __init__(self, script, cfg, folder):
        self.lr, self.seed, self.known, self.stopped, self.failed = cfg.optim.lr, cfg.seed, 0, False, False
        self.is_running = False
        Job.made.append(self)

    def start(self):
        self.is_running = True

    def scores(self):
        self.known += not self.stopped
        return list(enumerate(self.curve(self.lr, self.seed)))[: self.known]

    def has_ended(self):
        return self.stopped or self.known >= EPOCHS

    def stop(self):
        self.stopped = True

    def wait(self):
        self.was_waited_for = True

    def close(self, pruned):
        scores = self.curve(self.lr, self.seed)
        self.failed = None in scores
        return None if pruned or self.failed else max(scores)


def search_of(tmp_path, *overrides, curve):
    is_swept = [("interval" in override or "choice" in override) for override in overrides]
    config = composed(*(override for override, swept in zip(overrides, is_swept, strict=True) if not swept)).copy()
    config.output, config.hydra.sweeper.storage, config.hydra.sweeper.params = str(tmp_path), f"journal:{tmp_path}/log", {}
    Job.curve, Job.made = staticmethod(curve), []
    given = ["optim.lr=interval(0.0,1.0)", *(override for override in overrides if not override.startswith("hydra"))]
    return trials.Search(Loader(), config, "run.py", given)


@pytest.fixture(autouse=True)
def _jobs(monkeypatch):
    monkeypatch.setattr(trials, "JobOfTrial", Job)
    monkeypatch.setattr(trials, "PAUSE", 0.0)


def states(search):
    return [trial.state.name for trial in search.study.trials]


def rising(lr, seed):
    return [100 * lr * (epoch + 1) / EPOCHS for epoch in range(EPOCHS)]


def test_the_best_trial_is_the_one_with_the_best_epoch(tmp_path, capsys):
    search = search_of(tmp_path, "hydra.sweeper.n_trials=5", "hydra.sweeper.n_jobs=2", curve=rising)
    search.run()
    rates = [job.lr for job in Job.made]
    assert len(set(rates)) == 5
    assert search.study.best_value == pytest.approx(100 * max(rates))
    assert f"best of the search: optim.lr={max(rates)}: " in capsys.readouterr().out
    search_of(tmp_path, "hydra.sweeper.n_trials=5", curve=rising).run()
    assert not Job.made  # the same command has nothing to do
    search_of(tmp_path, "hydra.sweeper.n_trials=7", curve=rising).run()
    assert len(Job.made) == 2
    assert not set(rates) & {job.lr for job in Job.made}


def test_a_trial_that_is_worse_than_the_median_is_stopped(tmp_path):
    pruner = ["hydra/sweeper/pruner=median", "hydra.sweeper.pruner.n_startup_trials=2", "hydra.sweeper.pruner.n_warmup_steps=1"]
    search = search_of(tmp_path, "hydra.sweeper.n_trials=8", *pruner, curve=rising)
    search.run()
    pruned = [trial for trial in search.study.trials if trial.state == TrialState.PRUNED]
    assert pruned
    assert min(trial.last_step for trial in pruned) == 1  # the warm-up over, and before the last epoch
    assert {job.lr for job in Job.made if job.stopped} == {trial.params["optim.lr"] for trial in pruned}
    best = max(job.lr for job in Job.made)
    assert search.study.best_params["optim.lr"] == best


def test_hyperband_takes_its_epochs_from_the_run(tmp_path):
    overrides = ["hydra/sweeper/pruner=hyperband", "hydra/sweeper/sampler=uniform", "epochs=4", "hydra.sweeper.n_trials=8"]
    search = search_of(tmp_path, *overrides, curve=rising)
    search.run()
    assert {"COMPLETE", "PRUNED"} == set(states(search))
    assert search.study.best_params["optim.lr"] == max(job.lr for job in Job.made if not job.stopped)


def test_each_trial_is_judged_by_its_mean_over_seeds(tmp_path):
    search = search_of(
        tmp_path, "hydra.sweeper.n_trials=2", "hydra.sweeper.seeds=[3,5]", curve=lambda lr, seed: [lr + seed] * EPOCHS
    )
    search.run()
    assert [job.seed for job in Job.made] == [3, 5, 3, 5]
    for trial, job in zip(search.study.trials, Job.made[::2], strict=True):
        assert trial.value == pytest.approx(job.lr + 4)
        assert sorted(trial.intermediate_values) == list(range(2 * EPOCHS))


def test_failed_trials_end_no_search_and_another_command_proposes_others(tmp_path):
    def fails(lr, seed):
        return [None] if len(Job.made) == 1 else rising(lr, seed)

    class Silent(Job):
        def scores(self):
            self.known = EPOCHS
            return []

    trials.JobOfTrial = Silent
    search = search_of(tmp_path, "hydra.sweeper.n_trials=3", curve=fails)
    search.run()
    assert states(search) == ["FAIL", "COMPLETE", "COMPLETE"]
    again = search_of(tmp_path, "hydra.sweeper.n_trials=3", curve=rising)
    again.run()
    assert states(again) == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_a_search_of_which_nothing_comes_says_so(tmp_path):
    class Fails(Job):
        def scores(self):
            self.known = EPOCHS
            return []

    trials.JobOfTrial = Fails
    with pytest.raises(ValueError, match="no trial of the search ended well"):
        search_of(tmp_path, "hydra.sweeper.n_trials=2", curve=lambda lr, seed: [None]).run()


def test_an_interrupted_search_stops_its_jobs_and_goes_on_with_their_values(tmp_path, monkeypatch):
    search = search_of(tmp_path, "hydra.sweeper.n_trials=3", "hydra.sweeper.n_jobs=2", curve=rising)

    slept = []

    def interrupted(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            raise Interrupted()

    monkeypatch.setattr(trials.time, "sleep", interrupted)
    with pytest.raises(Interrupted):
        search.run()
    stopped = list(Job.made)
    assert all(job.stopped and job.was_waited_for for job in stopped)
    assert states(search) == ["FAIL", "FAIL", "WAITING", "WAITING"]
    monkeypatch.setattr(trials.time, "sleep", lambda seconds: None)
    again = search_of(tmp_path, "hydra.sweeper.n_trials=3", curve=rising)
    again.run()
    assert [job.lr for job in Job.made][:2] == [job.lr for job in stopped]
    assert states(again) == ["FAIL", "FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_two_processes_share_the_trials(tmp_path):
    """Their steps alternate; together they run as many as were asked for."""
    one, other = (search_of(tmp_path, "hydra.sweeper.n_trials=5", curve=rising) for _ in range(2))
    Job.made = []
    left = [one, other]
    while left:
        left = [search for search in left if search.step()]
    assert len(Job.made) == 5
    assert states(one) == ["COMPLETE"] * 5


def test_other_settings_are_another_study(tmp_path):
    def name(*overrides):
        return search_of(tmp_path, *overrides, curve=rising).study.study_name

    plain = name()
    assert plain.startswith("coop-shapes-few_shot-")
    assert plain == name("hydra.sweeper.n_trials=9", "workers=0", "hydra.sweeper.n_jobs=2")
    others = [name("shots=4"), name("seed=2"), name("hydra.sweeper.seeds=[1,2]"), name("method.n_ctx=choice(2,4)")]
    assert len({plain, *others}) == 5
