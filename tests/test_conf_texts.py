"""Options of the tasks with texts compose as they should: language models, and the rows of the experiments."""

import pytest
from omegaconf import OmegaConf
from test_conf import CONF, compose, options

from prompts.engine.language_model import load_language_model, load_tiny_language_model
from prompts.parts.markers import BlurCircle, Crop, Ellipse, make_markers
from runs.arguments import import_target


@pytest.mark.parametrize("lm", options("lm"))
def test_language_models(lm):
    """Each is of one of the two constructors; a task without one has none, whatever its data choose."""
    cfg = compose("data=scenes", "task=captioning", "method=limber", f"lm={lm}")
    assert import_target(cfg.lm._target_, "lm") in (load_tiny_language_model, load_language_model)
    assert OmegaConf.is_missing(cfg.lm, "model") == (lm == "hub")
    assert compose("data=scenes", f"lm={lm}").lm is None


def test_the_rows_of_grounding():
    """Crop with three markers, and three circles: two CLIPs each, on the val list."""
    experiment = OmegaConf.load(CONF / "experiment/cpt_refcoco.yaml")
    rows = experiment.hydra.sweeper.params["+row"].split(",")
    assert sorted(rows) == [row for row in options("row") if row.startswith("grounding_")]
    for row in rows:
        cfg = compose("experiment=cpt_refcoco", f"+row={row}", "data=refcoco_plus_val")
        first, second = (clip.model.removesuffix("-quickgelu") for clip in (cfg.clip, cfg.method.clips.second))
        assert (first, second) == ("ViT-L-14-336" if row == "grounding_circles" else "ViT-B-32", "RN50x16")
        assert cfg.method.subtract == (500 if row == "grounding_circles" else 0)
        markers = make_markers(OmegaConf.to_container(cfg.method.markers))
        assert any(isinstance(marker, Crop) for marker in markers) == (row != "grounding_circles")
        said = "{} is in red color." if row == "grounding_block" else "a photo of {}"  # of the crop too, in the released code
        assert {marker.text for marker in markers} == {said}
        assert {marker.at for marker in markers if isinstance(marker, (Ellipse, BlurCircle))} <= {384}
        assert (cfg.data.source.disk.text, cfg.data.source.reclip.text) == ("raw", "raw")
        assert (cfg.data.source.disk.test, cfg.shots, list(cfg.targets)) == ("val", 0, [])


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


LISTS = {"refcoco": ("testA", "refcoco"), "refcoco_plus": ("testA", "refcoco+"), "refcocog": ("test", "refcocog")}
SUFFIXES = {"_testb": "testB", "_val": "val", "_google": "val"}


@pytest.mark.parametrize("data", [data for data in options("data") if data.startswith("refcoco")])
def test_data_of_expressions_test_the_list_that_they_are_named_by(data):
    """From the official files and from ReCLIP's, with detected and with gold boxes; no list is tested and validated on."""
    plain = data.removesuffix("_gold")
    base = max((name for name in LISTS if plain.startswith(name)), key=len)
    own, files = LISTS[base]
    tested = SUFFIXES[plain.removeprefix(base)] if plain != base else own
    cfg = compose(f"data={data}")
    disk, reclip = cfg.data.source.disk, cfg.data.source.reclip
    assert (cfg.data.name, disk.test, disk.val) == (data, tested, None if tested == "val" else "val")
    if plain == "refcocog_google":  # which ReCLIP's files are not of
        assert (disk.refs, reclip.test, reclip.val) == ("refs(google).p", None, None)
    else:
        assert reclip.test == f"{files}_{tested.lower()}.jsonl"
        assert reclip.val == (None if tested == "val" else f"{files}_val.jsonl")
    assert {disk.proposals, reclip.proposals} == {"gold" if data.endswith("_gold") else "detected"}
    assert [*cfg.targets] == [f"{base}_testb{data.removeprefix(plain)}"] * (own == tested == "testA")


def test_the_experiment_on_published_lists_tests_val_from_any_files():
    """And other lists where it is asked for them."""
    for source in ("disk", "reclip"):
        cfg = compose("experiment=cpt_refcoco", "+row=grounding_circle", f"source={source}")
        swept = cfg.data.name, OmegaConf.load(CONF / "experiment/cpt_refcoco.yaml").hydra.sweeper.params.data
        assert swept == ("refcoco_val", "refcoco_val,refcoco_plus_val,refcocog_val")
        assert "val" in cfg.data.source[source].test
        other = compose("experiment=cpt_refcoco", "+row=grounding_circle", "data=refcoco_testb", f"source={source}")
        assert (other.data.name, "testb" in other.data.source[source].test.lower()) == ("refcoco_testb", True)
