"""Any logger of Lightning's is an option, several at once, and a user's own. What W&B is sent: test_loggers.py."""

from importlib.util import find_spec

import pytest
from lightning.pytorch.loggers import Logger
from toys import ROOT, TESTS, only

from lightning_modules.loggers import make_loggers
from runs import arguments, jobs, launch

LIGHTNING = "lightning.pytorch"


def composed(*overrides):
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    return jobs.compose_job([search, "clip=toy", "data=toy", "method=toy", *overrides], ROOT / "conf")


def loggers_of(*overrides):
    cfg, names = composed(*overrides)
    job = jobs.describe(cfg, names)
    arguments.check_all(cfg)
    return make_loggers(cfg.logger, job), job


def test_each_option_makes_loggers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    types = {name: [type(logger).__name__ for logger in loggers_of(f"logger={name}")[0]] for name in ("none", "csv", "wandb")}
    assert types == {"none": [], "csv": ["CSVLogger"], "wandb": ["WandbLogger"]}
    both, job = loggers_of("logger=csv_and_wandb", "logger.wandb.tags=[mine]")
    assert [type(logger).__name__ for logger in both] == ["CSVLogger", "WandbLogger"]
    assert both[0].save_dir == str(job.folder)


def test_a_logger_of_lightnings_gets_the_runs_folder():
    [logger], job = loggers_of(f"logger._target_={LIGHTNING}.loggers.CSVLogger", "+logger.name=mine")
    assert (logger.save_dir, logger.name) == (str(job.folder), "mine")
    [logger], job = loggers_of(
        "logger=none", f"+logger.any._target_={LIGHTNING}.loggers.CSVLogger", "+logger.any.save_dir=logs"
    )
    assert logger.save_dir == "logs"  # a given folder is kept to


class Mine(Logger):
    """A logger of a user."""

    def __init__(self, name, job=None, colour="red"):
        self.title, self.job, self.colour = name, job, colour

    @property
    def name(self):
        return "mine"

    version = 0

    def log_metrics(self, metrics, step=None):
        pass

    def log_hyperparams(self, params):
        pass


def test_a_logger_of_the_users_own_gets_title_and_job():
    [logger], job = loggers_of("logger._target_=test_logger_options.Mine", "+logger.colour=blue")
    assert (logger.title, logger.job, logger.colour) == ("toy on toy, 16 shots, seed 1", job, "blue")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["logger._target_=collections.OrderedDict"], "makes a OrderedDict: name a class of Lightning's Logger"),
        (["+logger.colour=red"], "logger.colour is no argument of csv"),
        (["logger=none", "+logger.a=3"], "logger.a=3: give a mapping with the logger's _target_, or null"),
        (["logger=none", "+logger.a._target_=nowhere.Logger"], "logger.a._target_='nowhere.Logger' cannot be imported"),
    ],
)
def test_what_is_no_logger_is_one_sentence(overrides, message):
    with pytest.raises(ValueError) as caught:
        loggers_of(*overrides)
    assert message in launch.error_message(caught.value)


@pytest.mark.skipif(find_spec("mlflow") is not None, reason="mlflow is installed")
def test_a_package_that_is_missing_is_named():
    with pytest.raises(ValueError, match="needs the package mlflow, which is not installed: pip install mlflow"):
        loggers_of(f"logger._target_={LIGHTNING}.loggers.MLFlowLogger")


def test_tensorboard(run_here, tmp_path):
    if find_spec("tensorboard") is None:
        with pytest.raises(ValueError, match="needs the package tensorboard, which is not installed: pip install tensorboard"):
            run_here("logger=tensorboard")
        assert not list(tmp_path.iterdir())
        return
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    result = run_here("logger=tensorboard", "trainer.log_every_n_steps=1", "eval_every=1")
    folder = only(tmp_path, "result.json").parent / "tensorboard"
    events = EventAccumulator(str(folder)).Reload()
    assert {"loss", "lr", "test/accuracy", "test/macro_f1"} <= set(events.Tags()["scalars"])
    assert events.Scalars("test/accuracy")[-1].value == pytest.approx(result["metrics"]["test"]["accuracy"])
