"""Sweeps as processes: launchers, kills, a search. The expected result of a job is computed within the test's process."""

import json
import os
import re
import signal
import subprocess
import time

import pytest
from forked import none_alive
from safetensors.torch import load_file
from toys import ROOT, TESTS, command

from reports.watch import unfinished
from runs.shots import shots_text

TOY = ["clip=toy", "data=toy", "method=toy", "optim.lr=0.2", "epochs=2", "batch_size=6"]


def results(folder):
    """The results of the runs below a folder without times and paths, by digest and seed."""
    outcomes = {}
    for path in sorted(folder.rglob("result.json")):
        result = json.loads(path.read_text())
        tensors = load_file(path.with_name("prompts.safetensors"))
        what = {name: result[name] for name in ("metrics", "train_loss", "selected", "shots")}
        outcomes[result["digest"], result["seed"]] = what | {key: tensor.tolist() for key, tensor in tensors.items()}
    return outcomes


@pytest.fixture
def one_by_one(run_here, tmp_path):
    def run(*overrides, shots=(1,), seeds=(1,)):
        for k in shots:
            for seed in seeds:
                run_here(*TOY, *overrides, f"shots={k}", f"seed={seed}", "output=one")
        return results(tmp_path / "one")

    return run


class Sweep:
    def __init__(self, folder, name, *overrides):
        self.log = folder / f"{name}.log"
        environment = os.environ | {"PYTHONPATH": f"{TESTS}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        with self.log.open("w") as log:  # a file: jobs that outlive the sweep go on writing
            self.process = subprocess.Popen(
                command(*overrides, sweep=True), cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT,
                process_group=0,
            )  # fmt: skip

    def wait_until(self, condition, seconds=120):
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.05)

    def finished(self):
        return re.findall(r"^(toy on toy, .*): test [\d.]+ %", self.log.read_text(), flags=re.M)


def test_killed_twice_and_started_again(one_by_one, tmp_path):
    """After SIGKILL the running jobs go on and the next sweep waits for them; after SIGTERM the sweep stops them."""
    out = tmp_path / "out"
    overrides = [*TOY, "output=out", "shots=1,2,4", "seed=1,2", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]

    def done():
        return len(list(out.rglob("result.json")))

    first = Sweep(tmp_path, "first", *overrides)
    first.wait_until(lambda: done() >= 1)
    first.process.kill()
    first.process.wait()
    second = Sweep(tmp_path, "second", *overrides)
    second.wait_until(lambda: len(second.finished()) >= 1)
    second.process.send_signal(signal.SIGTERM)
    assert second.process.wait(60) == 143, second.log.read_text()
    none_alive(second.process.pid)
    none_alive(first.process.pid)  # its jobs have ended, and with them joblib's workers
    assert "the same command does what is missing" in second.log.read_text()
    before = done()
    assert before < 6
    third = Sweep(tmp_path, "third", *overrides)
    assert third.process.wait(120) == 0, third.log.read_text()
    assert third.log.read_text().count("done already") == before
    assert "job 6 of 6 ended" in third.log.read_text()
    assert sorted(first.finished() + second.finished() + third.finished()) == sorted(
        f"toy on toy, {shots_text(shots)}, seed {seed}" for shots in (1, 2, 4) for seed in (1, 2)
    )
    assert results(out) == one_by_one(shots=(1, 2, 4), seeds=(1, 2))


def test_a_job_that_ends_well_but_leaves_no_result_has_failed(cli, tmp_path):
    """The second is stopped by a signal that the sweep does not get."""
    doom = {"DOOM": "2:exit:0:5 setup:SIGTERM:0:10"}
    sweep = cli(*TOY, "method=doomed", "shots=1,2,4", "output=out", "trainer=cpu", sweep=True, **doom)
    assert sweep.returncode == 1
    assert "error: doomed on toy, 1 shot, seed 1 ended with status 0 and left no result" in sweep.stderr
    assert "Stopped by SIGTERM" in sweep.stderr
    failed = sweep.stderr.split("2 job(s) of the sweep failed")[1]
    assert re.findall(r"shots=(\d).*# status (\d+)", failed) == [("1", "1"), ("2", "143")]
    assert "job 3 of 3 ended, 2 failed" in sweep.stdout
    assert [result["shots"] for result in results(tmp_path / "out").values()] == [4]


def test_two_at_once_by_submitit(cli, one_by_one, tmp_path):
    """Each job has two ranks, in the environment of one SLURM task, to which Lightning would give one rank alone. The job of
    4 shots is to fail on its second rank."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    slurm = {"SLURM_NTASKS": "1", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NODEID": "0", "SLURM_JOB_NAME": "sweep"}
    ranks = [*TOY, "method=doomed", "shots=1,4", "trainer=ddp_cpu", "hydra/launcher=submitit_local", "output=out"]
    sweep = cli(*ranks, sweep=True, fresh=True, DOOM="1:raise:1:20", **slurm)
    logs = "".join(path.read_text() for path in (tmp_path / "out").rglob("*_log.*"))
    assert sweep.returncode == 1, sweep.stderr + logs
    assert re.findall(r"shots=(\d)", sweep.stderr.split("1 job(s) of the sweep failed")[1]) == ["4"]
    assert "doomed" in logs
    assert "job 2 of 2 ended, 1 failed" in sweep.stdout
    apart, together = one_by_one("method=doomed", shots=(1,)), results(tmp_path / "out")
    assert apart.keys() == together.keys()
    for key, one in apart.items():
        assert together[key]["metrics"] == one["metrics"]
        assert together[key]["selected"] == one["selected"]
        assert together[key]["train_loss"] == pytest.approx(one["train_loss"], rel=1e-4)


def test_a_search_on_validation_images(cli, tmp_path):
    """Two trials at once; then the same command, which has nothing to do, and the same without the study."""
    pytest.importorskip("optuna")
    search = [*TOY[:3], "experiment=search", "epochs=2", "shots=4", "output=out", "hydra.sweeper.n_trials=3", "method=coop"]
    run = cli(*search, "hydra.sweeper.n_jobs=2", sweep=True)
    assert run.returncode == 0, run.stderr
    assert "trial 3 of 3: " in run.stdout
    assert "best of the search: optim.lr=" in run.stdout
    assert ", maximised: the main figure on the validation images   (" in run.stdout
    best = (tmp_path / "out/.sweep/optimization_results.yaml").read_text()
    trials = [json.loads(path.read_text()) for path in (tmp_path / "out").rglob("result.json")]
    assert len({result["config"]["optim"]["lr"] for result in trials}) == 3
    scores = [max(entry["val"]["accuracy"] for entry in result["history"]) for result in trials]
    assert f"best_value: {max(scores)}" in best
    again = cli(*search, sweep=True)
    assert again.returncode == 0, again.stderr
    assert "trial" not in again.stdout.replace("3 trials ran to their end", "")
    assert (tmp_path / "out/.sweep/optimization_results.yaml").read_text() == best
    (tmp_path / "out/.sweep/search.db").unlink()  # the results stay: the proposals are the same, and nothing is run again
    anew = cli(*search, "hydra.sweeper.n_trials=1", sweep=True)
    assert anew.stdout.count("done already") == 1, anew.stdout + anew.stderr


def test_a_trial_that_is_ended_early_leaves_a_state_and_no_result(cli, tmp_path):
    """The pruner of the tests ends each trial after its second epoch, by a signal to its process."""
    pytest.importorskip("optuna")
    search = [*TOY[:3], "experiment=search", "epochs=400", "shots=1", "method=coop", "output=out", "hydra.sweeper.n_trials=1"]
    prune = "hydra.sweeper.pruner._target_=early.AfterTwo"
    run = cli(*search, prune, sweep=True)
    assert run.returncode == 1
    assert "trial 1 of 1: ended early, after " in run.stdout, run.stdout + run.stderr
    assert "Stopped by SIGTERM in epoch " in run.stderr
    assert "no trial of the search ended well" in run.stderr
    assert not list((tmp_path / "out").rglob("result.json"))
    assert list((tmp_path / "out").rglob("last.ckpt"))
    assert list((tmp_path / "out").rglob("ended_early.txt"))
    assert unfinished([tmp_path / "out"]) == 0  # `report.py --watch` waits for it no longer
    assert not list((tmp_path / "out/.sweep").glob("figures-*"))


def test_a_search_on_data_that_no_table_reports(cli, tmp_path):
    pytest.importorskip("optuna")
    chosen = ["experiment=search", "select=last", "method=coop", "epochs=1", "shots=1", "hydra.sweeper.n_trials=1"]
    run = cli(*TOY[:2], *chosen, "data.search_only=true", "objective=metrics.test.accuracy", sweep=True)
    assert run.returncode == 0, run.stderr
    [result] = [json.loads(path.read_text()) for path in tmp_path.rglob("result.json")]
    value = result["metrics"]["test"]["accuracy"]
    assert f": {value:.2f}, maximised: metrics.test.accuracy   (" in run.stdout
    assert f"best_value: {value}" in (tmp_path / "outputs/search/.sweep/optimization_results.yaml").read_text()
    lacking = cli(*TOY[:2], *chosen, "data.search_only=true", "objective=metrics.test.accurate", sweep=True)
    assert lacking.returncode == 1
    assert "done already" in lacking.stdout
    assert "its result.json has no number at objective=metrics.test.accurate: give the dotted path" in lacking.stderr
    assert "1 job(s) of the sweep failed" in lacking.stderr
    assert "Traceback" not in lacking.stderr


def test_a_search_of_which_nothing_comes(cli):
    pytest.importorskip("optuna")
    run = cli(*TOY[:2], "method=coop", "experiment=search", "shots=3", "hydra.sweeper.n_trials=2", sweep=True)
    assert run.returncode == 1
    assert "error: no trial of the search ended well" in run.stderr
    assert "2 job(s) of the sweep failed" in run.stderr
    assert "Traceback" not in run.stderr
