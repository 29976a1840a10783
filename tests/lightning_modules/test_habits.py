"""EarlyStopping and ModelCheckpoint work as users of Lightning expect. Loggers: test_logger_options.py."""

import pytest
import torch
from safetensors.torch import load_file
from toys import only

from runs import launch, signals
from runs.signals import Interrupted

LIGHTNING = "lightning.pytorch"
# accuracy on the validation images stays as it is from the first epoch on: the rate is too small
STOPPING = [
    f"+callbacks.early._target_={LIGHTNING}.callbacks.EarlyStopping",
    "+callbacks.early.monitor=val/accuracy", "+callbacks.early.mode=max", "+callbacks.early.patience=2",
    "select=best_val", "eval_every=1", "epochs=6", "shots=4", "batch_size=5", "optim.lr=1e-6", "method=doomed",
]  # fmt: skip
KEEPING = [
    f"+callbacks.keep._target_={LIGHTNING}.callbacks.ModelCheckpoint",
    "+callbacks.keep.monitor=val/accuracy", "+callbacks.keep.mode=max",
    "select=best_val", "eval_every=1", "epochs=4", "shots=4", "batch_size=5", "optim.lr=0.2", "method=doomed",
]  # fmt: skip


def same(result, other):
    """Whether two runs gave the same result, apart from times."""
    keys = ("metrics", "history", "train_loss", "epoch", "summary", "digest")
    return {key: result[key] for key in keys} == {key: other[key] for key in keys}


def interrupted_and_resumed(run_here, monkeypatch, doom, *overrides):
    """The result of a run that the environment variables `doom` send a signal, and which is then resumed."""

    def run():
        handlers = signals.install()  # as run.py does
        try:
            return run_here(*overrides, "output=resumed")
        finally:
            signals.restore(handlers)

    with monkeypatch.context() as context:
        for key, value in doom.items():
            context.setenv(key, value)
        with pytest.raises(Interrupted, match="resumes from"):
            run()
    return run()


# ---- EarlyStopping


def test_an_early_stopped_run_is_the_start_of_a_whole_one(run_here, tmp_path):
    """Its schedule is that of all epochs; its result names the epoch whose prompts it keeps."""
    stopped = run_here(*STOPPING, "output=stopped")
    whole = run_here(*(override for override in STOPPING if "early" not in override), "output=whole")
    assert len(stopped["train_loss"]) == len(stopped["history"]) == 3  # one to compare with, two without improvement
    assert len(whole["train_loss"]) == 6
    assert stopped["train_loss"] == whole["train_loss"][:3]
    assert stopped["history"] == whole["history"][:3]
    assert stopped["epoch"] == 0  # the first of equals
    assert stopped["digest"] != whole["digest"]
    assert not list(tmp_path.rglob("last.ckpt"))


def test_without_a_best_epoch_the_last_one_that_was_trained_is_kept(run_here):
    overrides = [override for override in STOPPING if not override.startswith("select")]
    overrides[1] = "+callbacks.early.monitor=test/accuracy"
    assert run_here(*overrides)["epoch"] == 2


@pytest.mark.parametrize(
    "doom",
    [
        {"DOOM": "6:SIGTERM:0:20"},  # in the second epoch
        {"DOOM_IMAGE": "val/:41:SIGTERM:0"},  # in the evaluation after which EarlyStopping ends the training
        {"DOOM_IMAGE": "test/:110:SIGTERM:0"},  # in the test after it: three evaluations of 35 images came before
    ],
)
@pytest.mark.parametrize("select", ["best_val", "last"])
def test_a_resumed_run_stops_at_the_same_epoch(run_here, tmp_path, monkeypatch, doom, select):
    overrides = [*STOPPING, f"select={select}"]
    if select == "last":
        overrides[1] = "+callbacks.early.monitor=test/accuracy"
        doom = {key: value.replace("val/:41", "test/:71") for key, value in doom.items()}
    reference = run_here(*overrides, "output=reference")
    assert same(interrupted_and_resumed(run_here, monkeypatch, doom, *overrides), reference)
    prompts = [load_file(only(tmp_path / name, "prompts.safetensors")) for name in ("reference", "resumed")]
    assert all(torch.equal(tensor, prompts[1][name]) for name, tensor in prompts[0].items())


def test_a_figure_that_is_not_measured_is_one_sentence(run_here, tmp_path):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its message is looked at
        run_here(*STOPPING[:2])
    message = launch.error_message(caught.value)
    assert message.startswith("a callback monitors val/accuracy, which this run does not measure while it trains: add ")
    assert not list(tmp_path.iterdir())


# ---- ModelCheckpoint


def test_a_model_checkpoint_lies_in_the_runs_folder_without_the_frozen_clip(run_here, tmp_path):
    result = run_here(*KEEPING)
    path = only(tmp_path, "*.ckpt")
    assert path.parent == only(tmp_path, "result.json").parent / "checkpoints"
    state = torch.load(path, weights_only=True)
    assert set(state["state_dict"]) == {"model.learner.down", "model.learner.up"}
    assert path.stat().st_size < 20_000
    assert state["epoch"] == result["epoch"]  # as our own choice of the best epoch
    prompts = load_file(only(tmp_path, "prompts.safetensors"))
    assert all(torch.equal(prompts[name], state["state_dict"][f"model.learner.{name}"]) for name in prompts)


@pytest.mark.parametrize("logger", ["csv", "none"])
def test_a_given_folder_of_checkpoints_is_kept_to(run_here, tmp_path, logger):
    run_here(*KEEPING, f"+callbacks.keep.dirpath={tmp_path / 'kept'}", "+callbacks.keep.save_last=true", f"logger={logger}")
    assert (tmp_path / "kept/last.ckpt").is_file()
    assert {path.parent for path in tmp_path.rglob("*.ckpt")} == {tmp_path / "kept"}


@pytest.mark.parametrize("doom", [{"DOOM": "6:SIGTERM:0:20"}, {"DOOM_IMAGE": "val/:45:SIGTERM:0"}])
def test_a_resumed_run_keeps_the_same_checkpoint(run_here, tmp_path, monkeypatch, doom):
    """Also where the signal comes at the end of an epoch: the state is saved after the checkpoint."""
    reference = run_here(*KEEPING, "output=reference")
    assert same(interrupted_and_resumed(run_here, monkeypatch, doom, *KEEPING), reference)
    paths = [only(tmp_path / name, "*.ckpt") for name in ("reference", "resumed")]
    assert paths[0].name == paths[1].name
    first, second = (torch.load(path, weights_only=True)["state_dict"] for path in paths)
    assert all(torch.equal(tensor, second[name]) for name, tensor in first.items())
