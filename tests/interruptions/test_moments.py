"""Signals at every moment of a run: the right status, one sentence, nothing left over, and a rerun that equals the undisturbed
run bit for bit."""

import pytest
from disturbed import DOOMED, DPL, PROBE, STATUS, log_of, outcome_of, run_disturbed

MOMENTS = [  # in this order within one folder; where, and by which variable
    ("DOOM", "setup:{}:0:20"),
    ("STRIKE", "best.safetensors:before:{}"),
    ("DOOM", "2:{}:0:20"),
    ("DOOM_IMAGE", "val/2:3:{}:0"),
    ("STRIKE", "last.ckpt:before:{}"),
    ("DOOM_IMAGE", "test/0/0:1:{}:0"),
    ("DOOM_IMAGE", "test/4/6:1:{}:0"),
    ("STRIKE", "prompts.safetensors:after:{}"),
    ("STRIKE", "result.json:before:{}"),
]


@pytest.mark.parametrize("signal_name", STATUS)
def test_at_every_moment_of_a_run(forks, undisturbed, tmp_path, signal_name):
    overrides = [*DOOMED, "epochs=4", "select=best_val", "save_steps=1"]
    whole = undisturbed(*overrides)
    for variable, where in MOMENTS:
        text = run_disturbed(forks, tmp_path, *overrides, signal_name=signal_name, **{variable: where.format(signal_name)})
        if "the result is in" in text:
            break
    assert forks.run(tmp_path, *overrides) == 0, log_of(tmp_path)
    assert ("done already" in log_of(tmp_path)) == (
        signal_name != "SIGKILL"
    )  # the rest was written before the signal was handled
    assert outcome_of(tmp_path / "outputs") == whole


@pytest.mark.parametrize("signal_name", STATUS)
def test_at_every_moment_of_a_method_of_two_stages(forks, undisturbed, tmp_path, signal_name):
    whole = undisturbed(*DPL)
    for variable, where in (
        ("DOOM_IMAGE", "train/1:2:{}:0"),  # the search, and its evaluation
        ("DOOM_IMAGE", "test/2:1:{}:0"),
        ("STRIKE", "dpl.json:before:{}"),
        ("DOOM_IMAGE", "train/1:3:{}:0"),  # the training, where the search is done; else the search again
        ("DOOM_IMAGE", "test/4/6:1:{}:0"),
        ("STRIKE", "dpl.json:after:{}"),
    ):
        text = run_disturbed(forks, tmp_path, *DPL, signal_name=signal_name, **{variable: where.format(signal_name)})
    assert signal_name == "SIGKILL" or "the result is in" in text
    assert forks.run(tmp_path, *DPL) == 0, log_of(tmp_path)
    assert outcome_of(tmp_path / "outputs") == whole


@pytest.mark.parametrize("signal_name", STATUS)
def test_at_every_moment_of_a_fit_without_gradients(forks, undisturbed, tmp_path, signal_name):
    whole = undisturbed(*PROBE)
    for variable, where in (
        ("DOOM_IMAGE", "train/2:1:{}:0"),
        ("DOOM_IMAGE", "val/4:2:{}:0"),
        ("DOOM_IMAGE", "test/2:2:{}:0"),
        ("STRIKE", "predictions.npz:before:{}"),
    ):
        run_disturbed(forks, tmp_path, *PROBE, signal_name=signal_name, **{variable: where.format(signal_name)})
    assert forks.run(tmp_path, *PROBE) == 0, log_of(tmp_path)
    assert outcome_of(tmp_path / "outputs") == whole


@pytest.mark.parametrize(
    "method",
    [
        ["coop", "select=best_val"],
        ["promptsrc", "method.depth_text=2", "method.depth_image=2", "method.mu=2"],  # averages over epochs
        ["pomp"],  # samples
        ["rpp", "clip@method.distillation.teacher=toy", "method.depth_text=2", "method.depth_image=2"],
    ],
    ids=lambda method: method[0],
)
def test_a_training_that_is_over_is_not_lost(run_here, tmp_path, monkeypatch, method):
    overrides = [f"method={method[0]}", *method[1:], "optim.lr=0.1", "shots=2", "batch_size=5", "epochs=3"]
    whole = run_here(*overrides, "output=whole")
    monkeypatch.setenv("DOOM_IMAGE", "test/3:1:raise:0")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides, "output=again")
    monkeypatch.setenv("DOOM_IMAGE", "train:1:raise:0")  # nothing is trained any more
    assert run_here(*overrides, "output=again")["metrics"] == whole["metrics"]
    assert outcome_of(tmp_path / "again") == outcome_of(tmp_path / "whole")
