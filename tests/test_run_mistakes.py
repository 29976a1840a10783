"""Runs within this process that fail: their message, and the files that are left."""

import os

import pytest
from toys import NAMES, ToySource

from prompts.linear_probe import LinearProbe
from runs import launch


def results(folder):
    return sorted(folder.rglob("result.json"))


class Vanishing(ToySource):
    """Its test images cannot be read."""

    def open(self, item):
        if item.path.startswith(os.environ["VANISHING"]):
            raise ValueError(f"{item.path} is truncated: fetch it again")
        return super().open(item)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["shots=many"], "shots='many': give a number of training images"),
        (["epochs=0"], "epochs=0: give a number"),
        (["select=best"], "select='best': choose last"),
        (["accumulate=0"], "accumulate"),
        (["batch_size=-1"], "batch_size=-1"),
        (["precision=bf16-true"], "precision='bf16-true': choose 32-true, bf16-mixed"),
        (["fit=false"], "ckpt=PATH"),
        (["fit=false", "ckpt=nowhere"], "there is no nowhere"),
        (["init_from=nowhere"], "init_from=nowhere: there is no nowhere"),
        (["fit=false", "init_from=nowhere"], "to evaluate saved prompts with fit=false give ckpt=PATH"),
        (["data=eurosat", "clip=toy", "data_root=nowhere"], "nowhere/eurosat"),
        (
            ["protocol=base_to_new", "method=coop", "method.class_context=true", "method.init=null"],
            "evaluate it on those it was trained on",
        ),
    ],
)
def test_a_mistake_is_one_sentence_and_leaves_nothing(run_here, tmp_path, overrides, message):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - its message is looked at
        run_here(*overrides)
    text = launch.error_message(caught.value)
    assert text is not None
    assert message in text
    assert "\n" not in text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_image_is_named_and_leaves_nothing_half_written(run_here, tmp_path, monkeypatch, split, workers):
    monkeypatch.setenv("VANISHING", f"{split}/2/")
    with pytest.raises(ValueError) as caught:
        run_here("data.source._target_=test_run_mistakes.Vanishing", "logger=csv", f"workers={workers}", "shots=2")
    assert launch.error_message(caught.value).startswith(f"{split}/2/")
    assert not results(tmp_path)
    assert not list(tmp_path.rglob("prompts.safetensors"))
    if split == "train":
        assert not list(tmp_path.rglob("*.csv"))


def test_a_long_class_name(run_here, tmp_path, monkeypatch):
    monkeypatch.setattr("toys.NAMES", [*NAMES[:4], "very " * 80 + "long"])
    with pytest.raises(ValueError) as caught:
        run_here()
    assert "shorten the name" in launch.error_message(caught.value)
    assert not list(tmp_path.iterdir())


def test_a_forced_run_that_fails_leaves_the_earlier_result(run_here, tmp_path, monkeypatch):
    overrides = ["method=doomed", "shots=4", "batch_size=6"]
    monkeypatch.setenv("DOOM", "")
    run_here(*overrides)
    [path] = results(tmp_path)
    before = path.read_bytes()
    monkeypatch.setenv("DOOM", "2:raise:0:20")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides, "force=true")
    assert path.read_bytes() == before


@pytest.mark.parametrize("method", ["toy", "coop"])
def test_a_rate_that_breaks_the_prompts_in_the_last_step_is_no_result(run_here, tmp_path, method):
    with pytest.raises(ValueError, match=r"finite .*lower optim\.lr"):
        run_here(f"method={method}", "optim.lr=1e38", "shots=1", "optim.momentum=0")
    assert not [*tmp_path.rglob("result.json"), *tmp_path.rglob("prompts.safetensors")]


def test_a_probe_that_is_not_finite_is_no_result(run_here, tmp_path, monkeypatch):
    fit = LinearProbe.fit

    def diverging(self, *args):
        fit(self, *args)
        self.weight[1, 0] = float("nan")

    monkeypatch.setattr(LinearProbe, "fit", diverging)
    with pytest.raises(ValueError, match=r"LinearProbe has learned is not finite .* in weight\)"):
        run_here("method=linear_probe", "shots=4")
    assert not list(tmp_path.rglob("*.*"))
