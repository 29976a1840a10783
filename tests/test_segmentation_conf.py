"""The experiments of segmentation, and the schedule's place in what a run is."""

import pytest
from omegaconf import OmegaConf
from toys import ROOT

from lightning_modules.schedule import Poly
from lightning_modules.sliding_window import TestMode
from runs import identity, jobs

CONF = ROOT / "conf"
ADE_TRAIN = 20_210


def compose(*overrides):
    return jobs.compose_job(list(overrides), CONF)


def params_of(experiment):
    return {
        key: str(value).split(",")
        for key, value in OmegaConf.load(CONF / f"experiment/{experiment}.yaml").hydra.sweeper.params.items()
    }


@pytest.mark.parametrize("method", ["clip_fpn", "denseclip"])
@pytest.mark.parametrize(("clip", "crop", "stride"), [("rn50", 512, 341), ("rn101", 512, 341), ("vit_b16", 640, 426)])
def test_published_rows(method, clip, crop, stride):
    """As the released configs have them."""
    row = f"ade20k_{clip}"
    params = params_of("denseclip_ade20k")
    assert row in params["+row"]
    assert method in params["method"]
    cfg, names = compose("experiment=denseclip_ade20k", f"+row={row}", f"method={method}")
    assert names == {"method": method, "data": "ade20k", "clip": clip, "protocol": "pixels"}
    config = OmegaConf.to_container(cfg, resolve=True)
    assert config["clip"]["trainable"] == {"image": {"all": 0.1}}
    assert (config["data"]["crop"], config["data"]["scale"], config["data"]["ratio"]) == (crop, [2048, crop], [0.5, 2.0])
    assert config["data"]["cat_max_ratio"] == 0.75
    module = {key: value for key, value in config["task"]["module"].items() if not key.startswith("_")}
    assert TestMode(**module) == TestMode(crop, stride, [1.0], False)
    assert config["optim"]["_target_"] == "torch.optim.AdamW"
    assert (config["optim"]["lr"], config["optim"]["weight_decay"]) == (1e-4, 1e-4)
    assert config["schedule"] == "poly"
    assert Poly(**{key: value for key, value in config["poly"].items() if key != "_target_"}) == Poly(0.9, 1e-6, 1500, 1e-6)
    steps = config["epochs"] * (ADE_TRAIN // config["batch_size"])
    assert 80_000 <= steps < 80_000 + ADE_TRAIN // 32


def test_every_row_is_in_its_experiment():
    here = [path.stem for path in sorted((CONF / "row").glob("ade20k_*.yaml"))]
    assert sorted(params_of("denseclip_ade20k")["+row"]) == here


def test_the_embedded_ablation():
    params = params_of("denseclip")
    assert params["method"] == ["clip_fpn", "denseclip_text", "denseclip_pre", "denseclip"]
    assert params["seed"] == ["1", "2", "3"]
    guidance = {}
    for method in params["method"]:
        cfg, names = compose("experiment=denseclip", f"method={method}")
        assert (names["data"], names["clip"], cfg.clip.trainable) == ("scenes_masks", "tiny", None)
        assert not cfg.recipes.missing
        guidance[method] = cfg.method.guidance
    assert guidance == dict(zip(params["method"], ["none", "text", "pre", "post"], strict=True))


def test_the_schedule_is_a_part_of_a_run_where_it_is_not_the_one_of_before():
    """Runs of before the key have neither it nor `poly`, and keep their digests."""

    def compared(*overrides):
        return identity.compared(OmegaConf.to_container(compose(*overrides)[0], resolve=True))

    plain = compared()
    assert "schedule" not in plain
    assert "poly" not in plain
    assert compared("poly.power=2", "poly.warmup=7") == plain
    poly = compared("schedule=poly")
    assert {key: value for key, value in poly.items() if key not in ("schedule", "poly")} == plain
    assert compared("schedule=poly", "poly.warmup=7") != poly
    assert compared("schedule=poly", "poly.min_lr=0.0") != poly
    assert compared("schedule=poly", "multistep.factor=0.5") == poly
    assert compared("schedule=multistep", "multistep.factor=0.5") != compared("schedule=multistep", "poly.power=2") != poly
