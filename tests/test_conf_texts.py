"""Options of the tasks with texts compose as they should: language models, and the rows of the experiments."""

import pytest
from omegaconf import OmegaConf
from test_conf import CONF, compose, options

from prompts.engine.language_model import load_language_model, load_tiny_language_model
from runs.arguments import import_target


@pytest.mark.parametrize("lm", options("lm"))
def test_language_models(lm):
    """Each is of one of the two constructors; a task without one has none, whatever its data choose."""
    cfg = compose("data=scenes", "task=captioning", "method=limber", f"lm={lm}")
    assert import_target(cfg.lm._target_, "lm") in (load_tiny_language_model, load_language_model)
    assert OmegaConf.is_missing(cfg.lm, "model") == (lm == "hub")
    assert compose("data=scenes", f"lm={lm}").lm is None


def test_the_rows_of_retrieval():
    """Zero-shot CLIP, two learners of class names, and h: with and without captions to learn from, and on other images."""
    experiment = OmegaConf.load(CONF / "experiment/aape_retrieval.yaml")
    rows = experiment.hydra.sweeper.params["+row"].split(",")
    assert sorted(rows) == [row for row in options("row") if row.startswith("retrieval_")]
    cfgs = {row.removeprefix("retrieval_"): compose("experiment=aape_retrieval", f"+row={row}") for row in rows}
    others = {name: cfg.data.name for name, cfg in cfgs.items() if cfg.data.name != "scenes"}
    assert others == {"aape_finetuned": "scenes_sketch"}
    targets = {name: cfg.method._target_.rpartition(".")[2] for name, cfg in cfgs.items()}
    assert targets == {
        "zeroshot": "ZeroShot",
        "coop": "CoOp",
        "maple": "MaPLe",
        **dict.fromkeys(["aape", "aape_no_distillation", "aape_finetuned"], "AAPECaptions"),
    }
    assert [cfgs[name].method.distill_weight for name in ("aape", "aape_no_distillation", "aape_finetuned")] == [5, 0, 5]
    tuned = compose("experiment=aape_retrieval_flickr30k")
    assert (tuned.earlier.data.name, tuned.earlier.gives) == ("coco", "init_from")
    assert tuned.method == compose("experiment=aape_retrieval_coco").method
    assert (tuned.epochs, tuned.batch_size, tuned.optim.lr, tuned.optim._target_) == (10, 512, 0.001, "torch.optim.AdamW")
