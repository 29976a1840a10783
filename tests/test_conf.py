"""Every option of every group composes and instantiates; optional groups are named after options that exist."""

import inspect
from types import MappingProxyType

import pytest
from hydra.utils import instantiate
from kinds_of_options import PROTOCOL_OF, SHOTS_OF, gives_class_logits
from omegaconf import OmegaConf
from toys import ROOT

from datamodules.shapes import CLASSES
from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs import jobs, launch
from runs.arguments import import_target
from runs.protocol import protocol_of

CONF = ROOT / "conf"


def options(group):
    return sorted(path.stem for path in (CONF / group).glob("*.yaml") if not path.stem.startswith("_"))


def compose(*overrides):
    return jobs.compose_job(list(overrides), CONF)[0]


def make(node, **arguments):
    return instantiate(node, _convert_="all", **arguments)


def make_method(cfg, lengths=MappingProxyType({"text": [2] * 12, "image": [2] * 12})):
    """The method; one that needs an earlier run gets `lengths`, two tokens in each of twelve blocks, or the sizes of an h."""
    gives = cfg.earlier.gives.removeprefix("method.") if cfg.earlier else None
    found = {"prompt_lengths": dict(lengths), "h": {"hidden": 4, "bias": True}}
    return make(cfg.method, **({gives: found[gives]} if gives in found else {}))


def make_source(data):
    assert data._target_ in {"datamodules.module.FewShotData", *PROTOCOL_OF}
    return make(data.source)


def test_every_group_is_walked_here():
    groups = {path.name for path in CONF.iterdir() if path.is_dir()}
    here = {"method", "data", "clip", "protocol", "optim", "trainer", "logger", "callbacks", "debug", "experiment", "ablation"}
    here |= {"lm"}
    assert {path.name for path in (CONF / "hydra").iterdir()} == {
        "launcher",
        "sweeper",
    }  # tests/runs
    assert groups == here | {"row", "recipe", "search_space", "task", "hydra"}  # test_tiny_recipes.py walks search_space


# Classification's methods under its protocols and on captions; the others under those of their own data.
FITTING = [
    (method, protocol)
    for method in options("method")
    for protocol in options("protocol")
    if (protocol in SHOTS_OF) != gives_class_logits(method) or protocol == "captions"
]


@pytest.mark.parametrize(("method", "protocol"), FITTING)
@pytest.mark.usefixtures("targets_once")
def test_methods_under_each_protocol(method, protocol):
    other = protocol in SHOTS_OF  # it goes on from other data than shapes, and has no recipe by shots
    for shots in (SHOTS_OF[protocol],) if other else (1, 2, 4, 8, 16):
        more = ["+protocol.targets.shapes=[]"] if other else [f"shots={shots}"]
        cfg = compose(f"method={method}", f"protocol={protocol}", *more)
        assert cfg.shots == shots
        assert isinstance(make_method(cfg), PromptLearner)
        assert cfg.epochs >= 1
        assert protocol_of(OmegaConf.to_container(cfg.protocol, resolve=True)).evaluations(cfg.data.name)


@pytest.mark.parametrize("protocol", ["cross_dataset", "domain_generalization"])
def test_protocols_that_go_on_to_other_datasets(protocol):
    for data in compose(f"protocol={protocol}").protocol.targets:
        cfg, names = jobs.compose_job([f"protocol={protocol}", f"data={data}", "data_root=elsewhere"], CONF)
        config = jobs.resolve(cfg)
        assert names["clip"] == ("tiny" if "shapes" in data else "vit_b16")
        assert [target["name"] for target in config["targets"].values()] == list(cfg.protocol.targets[data])
        assert data not in config["targets"]
        assert all(make_source(target) for target in cfg.targets.values())
    with pytest.raises(ValueError, match="no targets for data=dtd, only for imagenet, imagenet21k, shapes, shapes21k"):
        compose(f"protocol={protocol}", "data=dtd")


NOT_ON_A_HUB = ("refcoco", "scenes_refer")  # how their names begin; they are many, and have no such source
SOURCES = [(data, "disk") for data in options("data")]
SOURCES += [(data, "hub") for data in options("data") if not data.startswith(NOT_ON_A_HUB)]


@pytest.mark.parametrize(("data", "source"), SOURCES)
def test_datasets(data, source):
    cfg, names = jobs.compose_job([f"data={data}", f"source={source}"], CONF)
    assert jobs.resolve(cfg)["data"]["name"]
    drawn = "shapes" in data or "scenes" in data or data == "digits"
    assert (names["clip"] == "tiny") == drawn  # a real dataset brings the real backbone
    assert (names["protocol"], cfg.shots) == PROTOCOL_OF.get(cfg.data._target_, ("few_shot", 16))
    assert compose(f"data={data}", "protocol=few_shot", "shots=3").data.shots == 3  # the command line has the last word
    assert jobs.compose_job([f"data={data}", "clip=tiny"], CONF)[1]["clip"] == "tiny"
    if source == "disk" or "hub" in str(cfg.data.source):
        assert make_source(cfg.data)
        assert all("{}" in template for template in cfg.data.get("templates", ["{}"]))


@pytest.mark.parametrize("clip", options("clip"))
def test_backbones(clip, monkeypatch):
    """Every option gives an architecture, without weights; a CLIP of the hub needs its id, and without network a sentence."""
    import prompts.engine.clip as towers

    cfg = compose(f"clip={clip}")
    if clip in ("tiny", "tiny_large"):
        assert isinstance(make(cfg.clip), FrozenCLIP)
        return
    if clip == "hub":
        with pytest.raises(Exception, match="clip.model"):  # noqa: PT011 - a mandatory key
            make(cfg.clip)
        return
    build = towers.build
    monkeypatch.setattr(towers, "build", lambda config, empty=False: build(config, empty=True))
    assert cfg.clip.weights
    assert isinstance(make(cfg.clip, weights="random"), FrozenCLIP)


def test_optimisers(tmp_path):
    import torch

    for optim in options("optim"):
        optimiser = make(compose(f"optim={optim}", "optim.lr=0.25").optim)([torch.zeros(1, requires_grad=True)])
        assert optimiser.param_groups[0]["lr"] == 0.25


@pytest.mark.parametrize("trainer", options("trainer"))
def test_trainers(trainer):
    import torch
    from lightning.pytorch import Trainer

    cfg = compose(f"trainer={trainer}", "accumulate=3", "epochs=7")
    if trainer in ("gpu", "ddp") and not torch.cuda.is_available():
        with pytest.raises(Exception) as caught:  # noqa: PT011 - its message is looked at
            make(cfg.trainer)
        assert "gpu" in launch.error_message(caught.value).lower()
        return
    instances = make(cfg.trainer)
    assert isinstance(instances, Trainer)
    assert (instances.accumulate_grad_batches, instances.max_epochs) == (3, 7)
    assert instances.world_size == (2 if trainer == "ddp_cpu" else 1)


def test_several_devices_of_any_trainer_are_processes():
    instances = make(compose("trainer=auto", "trainer.accelerator=cpu", "trainer.devices=3").trainer)
    assert instances.world_size == 3
    assert type(instances.strategy.launcher).__name__ == "_SubprocessScriptLauncher"


def test_callbacks(tmp_path, monkeypatch):
    from lightning.pytorch import Callback

    monkeypatch.chdir(tmp_path)
    for callbacks in options("callbacks"):
        assert all(isinstance(instance, Callback) for instance in make(compose(f"callbacks={callbacks}").callbacks).values())


@pytest.mark.parametrize("group", ["debug", "experiment"])
@pytest.mark.usefixtures("targets_once")
def test_debug_and_experiments(group):
    for option in options(group):
        cfg, names = jobs.compose_job([f"{group}={option}"], CONF)
        assert jobs.resolve(cfg)
        if cfg.earlier and "." not in cfg.earlier.gives:
            cfg.earlier = None  # it gives the method nothing
        assert isinstance(make_method(cfg), PromptLearner)


def arguments_left_out(node, where):
    """The constructor's arguments, of the node and of what is nested in it, that the yaml does not show."""
    if isinstance(node, dict):
        if "_target_" in node:
            names = inspect.signature(import_target(node["_target_"], where)).parameters
            positions = SET_IN_CODE.get(node["_target_"], ())
            yield from (f"{where}.{name}" for name in names if name not in node and name not in positions)
        for key, value in node.items():
            yield from arguments_left_out(value, f"{where}.{key}")


# what a method passes itself to the parts that its yaml configures
SET_IN_CODE = {"prompts.parts.aape_aggregator.PromptAggregator": ("d", "images", "classes")}


@pytest.mark.parametrize("method", options("method"))
def test_a_methods_yaml_shows_every_argument(method):
    """So that --help and a run's result say all, and what the command line can set is seen."""
    node = OmegaConf.to_container(compose(f"method={method}", "data=dtd").method, resolve=True)
    assert not list(arguments_left_out(node, method))


def test_variants_of_the_ablation():
    variants = [option for option in options("ablation") if not option.startswith("matched_")]
    learners = [make(compose("method=rpp", f"+ablation={option}").method) for option in variants]
    assert len({(learner.streams, tuple(learner.text_lengths)) for learner in learners}) == len(learners)


@pytest.mark.parametrize("data", ["imagenet21k", "shapes21k"])
def test_the_matched_pair_of_pretraining_differs_in_the_methods_alone(data):
    pomp, rpp = (
        compose("experiment=pretrain_matched", f"+ablation=matched_{method}", f"data={data}") for method in ("pomp", "rpp")
    )
    assert (pomp.method._target_, rpp.method._target_) == ("prompts.pomp.POMP", "prompts.rpp.RPP")
    assert (rpp.method.n_image, rpp.method.n_text, rpp.method.init) == (0, pomp.method.n_ctx, pomp.method.init)
    assert pomp.method.local_contrast == rpp.method.local_contrast
    assert pomp.method.local_contrast.num_sampled_classes == (1000 if data == "imagenet21k" else 64)
    assert (pomp.data, pomp.protocol, pomp.epochs, pomp.batch_size) == (rpp.data, rpp.protocol, rpp.epochs, rpp.batch_size)
    if data == "imagenet21k":
        assert pomp.data.views == 4
        assert pomp.optim == rpp.optim


@pytest.mark.parametrize("method", options("method"))
def test_methods_fit_the_default_backbone(method):
    cfg = compose(f"method={method}")
    clip = make(cfg.clip)
    learner = make_method(cfg, {"text": [2] * clip.text_blocks, "image": [2] * clip.image_blocks})
    model = PromptedCLIP(clip, learner)
    names = list(CLASSES)[:2]  # some methods read sentences about the default dataset's classes
    model.setup(TrainInfo(names, 4, alternating=bool(cfg.data.alternating_batch_size), prefix_width=8))
    assert model.classnames == names
