"""Jobs, lanes, progress and failures of a sweep. Sweeps as processes: tests/test_sweeps.py."""

import subprocess
import sys

import pytest
from hydra import compose, initialize_config_dir
from toys import ROOT

from runs import journal, sweep


def test_how_far_a_sweep_is():
    done = {"status": 0, "seconds": 60.0}
    assert journal.progress_line([done], 4, 1) == "job 1 of 4 ended, about 3 min 0 s left"
    assert journal.progress_line([done], 5, 2) == "job 1 of 5 ended, about 2 min 0 s left"
    assert (
        journal.progress_line([done], 2, 8) == "job 1 of 2 ended, about 1 min 0 s left"
    )  # one job is no faster on eight lanes
    skipped = {"status": 0}  # done before: it says nothing about how long a job takes
    failed = {"status": 1, "seconds": 1.0}
    assert journal.progress_line([skipped, failed, done], 4, 1) == "job 3 of 4 ended, 1 failed, about 1 min 0 s left"
    assert journal.progress_line([skipped, failed], 4, 1) == "job 2 of 4 ended, 1 failed"
    assert journal.progress_line([done, done], 2, 1) == "job 2 of 2 ended"


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        return compose("config", list(overrides), return_hydra_config=True)


def hydra_of(task, *overrides):
    config = composed(*overrides)
    config.hydra.overrides.task = task
    return config.hydra


def test_jobs_are_counted_as_hydra_will_make_them():
    assert sweep.count_jobs(hydra_of(["method=coop,maple", "seed=range(1,4)", "shots=1", "epochs=choice(1,2)"])) == 12
    assert sweep.count_jobs(hydra_of([], "experiment=demo")) == 16
    assert sweep.count_jobs(hydra_of(["seed=1"], "experiment=demo")) == 8  # the command line goes before the experiment


def test_jobs_at_once():
    def lanes(*overrides):
        return sweep.count_lanes(composed(*overrides).hydra)

    assert lanes() == 1
    assert lanes("hydra/launcher=joblib", "hydra.launcher.n_jobs=3") == 3
    assert lanes("hydra/launcher=joblib", "hydra.launcher.n_jobs=-1") >= 1
    assert lanes("hydra/launcher=slurm") == 64
    assert lanes("hydra/launcher=submitit_local") >= 1


def test_slurm_asks_for_the_gpus_of_a_job():
    launcher = composed("hydra/launcher=slurm", "trainer.devices=4", "hydra.launcher.partition=long").hydra.launcher
    assert (launcher.gpus_per_node, launcher.tasks_per_node, launcher.partition) == (4, 1, "long")
    assert launcher._target_.endswith("SlurmLauncher")


def test_a_signal_and_an_error_end_the_process():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with pytest.raises(RuntimeError), sweep.forwarding(process):
        raise RuntimeError
    assert process.returncode == -15


def test_a_sweep_that_cannot_write_says_so(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="is a file: give a folder"):
        sweep.SweepProgress().on_multirun_start(composed(f"output={tmp_path / 'file'}"))


def test_a_line_of_the_journal_that_a_full_disk_cut_short_is_left_out(tmp_path):
    file = tmp_path / "journal"
    file.write_text('{"status": 0}\n{"sta{"status": 1}\n{"status": 2}\n{"st')
    assert journal.read_entries(file) == [{"status": 0}, {"status": 2}]
