"""The published settings of each method, copied by hand from papers and repositories, against the composed config."""

import pytest
from toys import ROOT

from runs import jobs

pytestmark = pytest.mark.usefixtures("targets_once")
MANY = {1: 50, 2: 100, 4: 100, 8: 200, 16: 200}  # CoOp's epochs by shots
WORDS = "a photo of a"
DEEP = {"n_text": 4, "n_image": 4, "depth_text": 9, "depth_image": 9, "init": WORDS}
SHALLOW = DEEP | {"depth_text": 3, "depth_image": 3}
IVLP = {"n_text": 2, "n_image": 2, "depth_text": 12, "depth_image": 12, "init": WORDS}
FOUR = {"n_ctx": 4, "init": WORDS}
KNOWLEDGE = FOUR | {"weight": 8.0, "loss": "released"}
VPT = {"n_ctx": 8, "depth": 12}
# On ViT-B/16 and a real dataset: method, protocol: epochs, batch size, rate, settings of the method
PUBLISHED = [
    ("coop", "few_shot", MANY, 32, 0.002, {"n_ctx": 16, "init": None}),
    ("coop", "base_to_new", 200, 32, 0.002, FOUR),
    ("coop", "cross_dataset", 50, 32, 0.002, FOUR),
    ("cocoop", "few_shot", 10, 1, 0.002, FOUR),
    ("cocoop", "base_to_new", 10, 1, 0.002, FOUR),
    ("cocoop", "cross_dataset", 10, 1, 0.002, FOUR),
    ("kgcoop", "few_shot", 100, 128, 0.002, KNOWLEDGE),
    ("kgcoop", "base_to_new", 100, 128, 0.002, KNOWLEDGE),
    ("kgcoop", "cross_dataset", 100, 128, 0.002, KNOWLEDGE),
    ("maple", "few_shot", 5, 4, 0.0035, {"n_ctx": 2, "depth": 9, "init": WORDS}),
    ("maple", "base_to_new", 5, 4, 0.0035, {"n_ctx": 2, "depth": 9, "init": WORDS}),
    ("maple", "cross_dataset", 2, 4, 0.0026, {"n_ctx": 2, "depth": 3, "init": WORDS}),
    ("ivlp", "few_shot", 5, 4, 0.0035, IVLP),
    ("ivlp", "base_to_new", 5, 4, 0.0035, IVLP),
    ("ivlp", "cross_dataset", 5, 4, 0.0035, IVLP),
    ("vpt", "few_shot", 5, 4, 0.0025, VPT),
    ("vpt", "base_to_new", 5, 4, 0.0025, VPT),
    ("vpt", "cross_dataset", 5, 4, 0.0025, VPT),
    ("promptsrc", "few_shot", 50, 4, 0.0025, DEEP | {"mu": 45, "sigma": 5}),  # of EuroSAT
    ("promptsrc", "base_to_new", 20, 4, 0.0025, DEEP | {"mu": 15, "sigma": 1}),
    ("promptsrc", "cross_dataset", 20, 4, 0.0025, SHALLOW | {"mu": 6, "sigma": 10}),
    ("aape", "few_shot", MANY, 32, 0.002, {"hidden": None}),
    ("aape", "base_to_new", 200, 32, 0.002, {"hidden": None}),
    ("aape", "cross_dataset", 50, 32, 0.002, {"hidden": None}),
    ("aape_residual", "few_shot", MANY, 32, 0.002, {"hidden": None, "residual": True, "distill_space": "raw"}),
    ("aape_residual", "base_to_new", 200, 32, 0.002, {"hidden": None}),
    ("aape_residual", "cross_dataset", 50, 32, 0.002, {"hidden": None}),
    ("pomp", "few_shot", 200, 32, 0.002, {"n_ctx": 4, "init": None}),
    ("pomp", "base_to_new", 200, 32, 0.002, {"n_ctx": 4, "init": None}),
    ("pomp", "cross_dataset", 50, 32, 0.002, {"n_ctx": 4, "init": None}),
    ("rpp", "few_shot", 50, 4, 0.0025, DEEP | {"init": None}),
    ("rpp", "base_to_new", 20, 4, 0.0025, DEEP | {"init": None}),
    ("rpp", "cross_dataset", 20, 4, 0.0025, DEEP | {"init": None}),
    ("dpl", "few_shot", 40, 4, 0.0035, {}),
    ("dpl", "base_to_new", 40, 4, 0.0035, {}),
    ("dpl", "cross_dataset", 40, 4, 0.0035, {}),
    ("dpl_search", "few_shot", 80, 4, 0.0035, {"alpha_lr": 0.0035}),
    ("dpl_search", "base_to_new", 80, 4, 0.0035, {"alpha_lr": 0.0035}),
]
# Other datasets: overrides, epochs, batch size, rate, settings
OTHERS = [
    ("method=coop data=imagenet shots=16", 50, 32, 0.002, {"n_ctx": 16, "init": None}),
    ("method=promptsrc data=dtd", 50, 4, 0.0025, {"mu": 45, "sigma": 5}),
    ("method=promptsrc data=food101", 50, 4, 0.0025, {"mu": 30, "sigma": 30}),
    ("method=aape data=imagenet protocol=base_to_new", 50, 32, 0.002, {}),
    ("method=pomp data=imagenet shots=1", 50, 32, 0.002, {"n_ctx": 4, "init": None}),
    ("method=pomp data=imagenet protocol=base_to_new", 50, 32, 0.002, {"n_ctx": 4, "init": None}),
    ("method=pomp data=imagenet21k", 5, 256, 0.002, {"n_ctx": 4, "init": None}),
    ("method=rpp data=imagenet21k", 5, 256, 0.002, {"depth_text": 9, "init": None}),
]


def composed(*overrides):
    return jobs.compose_job(list(overrides), ROOT / "conf")[0]


def check(cfg, epochs, batch_size, rate, settings):
    assert (cfg.epochs, cfg.batch_size, cfg.optim.lr, cfg.recipes.missing) == (epochs, batch_size, rate, None)
    assert {key: cfg.method[key] for key in settings} == settings


@pytest.mark.parametrize(("method", "protocol", "epochs", "batch_size", "rate", "settings"), PUBLISHED)
def test_as_published(method, protocol, epochs, batch_size, rate, settings):
    data = "imagenet" if protocol == "cross_dataset" else "eurosat"
    for shots in (1, 2, 16) if isinstance(epochs, dict) else (16,):
        of_shots = epochs[shots] if isinstance(epochs, dict) else epochs
        cfg = composed(f"method={method}", f"protocol={protocol}", f"data={data}", f"shots={shots}")
        check(cfg, of_shots, batch_size, rate, settings)


@pytest.mark.parametrize(("line", "epochs", "batch_size", "rate", "settings"), OTHERS)
def test_on_other_backbones_and_datasets(line, epochs, batch_size, rate, settings):
    check(composed(*line.split()), epochs, batch_size, rate, settings)


@pytest.mark.parametrize(("protocol", "other"), [("open", "base_to_new"), ("domain_generalization", "cross_dataset")])
def test_a_protocol_that_trains_as_another(protocol, other):
    data = ["data=imagenet"]
    for method in ("coop", "maple", "promptsrc", "rpp"):
        these, those = (composed(f"method={method}", f"protocol={name}", *data) for name in (protocol, other))
        assert these.recipes.used == those.recipes.used
        assert (these.epochs, these.batch_size, these.optim, these.method) == (
            (those.epochs, those.batch_size, those.optim, those.method)
        )


def test_two_readings_have_one_recipe():
    """As published; what a search finds on the embedded world may differ."""
    for protocol in ("few_shot", "base_to_new", "cross_dataset", "domain_generalization"):
        rest = (f"protocol={protocol}", "data=imagenet")
        these, those = (composed(f"method={name}", *rest) for name in ("aape", "aape_residual"))
        assert {**these.method, "residual": True, "distill_space": "raw"} == those.method
        assert all(these[key] == those[key] for key in ("epochs", "batch_size", "optim", "select"))
    batch1 = composed("experiment=aape_batch1", "data=dtd")
    assert (batch1.epochs, batch1.batch_size, batch1.optim.lr) == (10, 1, 0.002)


def test_what_recipes_set_beside_the_method():
    pomp, rpp = (composed(f"method={method}", "data=imagenet21k") for method in ("pomp", "rpp"))
    assert [(cfg.data.views, cfg.data.augmentation) for cfg in (pomp, rpp)] == [(4, "randaug2"), (1, "randaug2")]
    weights = [
        composed("method=rpp", f"data={name}").method.distillation.weight for name in ("imagenet21k", "shapes21k", "shapes")
    ]
    assert weights == [1.0, 1.0, 0.0]
    assert composed("method=linear_probe", "data=dtd").data.sampler == "numpy"
    assert composed("method=linear_probe", "data=dtd", "protocol=base_to_new").data.sampler == "coop"
    for method in ("cupl", "aape", "aape_residual"):
        for data in ("shapes", "shapes_dark", "shapes_sketch", "shapes_search"):
            assert composed(f"method={method}", f"data={data}").method.prompts
    earlier = composed("method=dpl", "data=eurosat").earlier
    assert (earlier.epochs, earlier.method.alpha_lr, earlier.data.alternating_batch_size) == (80, 0.0035, 16)


def test_the_hand_written_prompts_that_kgcoop_stays_near():
    def templates(*overrides):
        return composed("method=kgcoop", *overrides).method.templates

    assert templates("data=dtd", "protocol=base_to_new") == ["a photo of a {}, a type of texture."]
    assert templates("data=oxford_pets") == ["a photo of a {}, a type of pet."]
    assert templates("data=food101") == ["a photo of {}, a type of food."]
    for data in ("imagenet", "stanford_cars", "sun397", "caltech101", "shapes"):
        assert templates(f"data={data}") == ["a photo of a {}."]
