"""The recipes of the tiny CLIP: what is written by hand follows from rules (docs/embedded.md); the rest is searched for."""

import pytest
from omegaconf import OmegaConf
from toys import ROOT

from runs import jobs, recipe_files

CONF = ROOT / "conf"
RULED = {"batch_size", "epochs", "method", "data", "earlier"}
WORDS = {"n_ctx": 4, "init": "a photo of a"}
# method: what the published structure for base to new is in proportion to three text and four image blocks
STRUCTURE = {
    "coop": WORDS,
    "cocoop": WORDS,
    "kgcoop": WORDS,
    "pomp": {"n_ctx": 4, "init": None},
    "maple": {"n_ctx": 2, "depth": 3, "init": "a photo of a"},  # one depth for both towers: that of the images
    "ivlp": {"n_text": 2, "n_image": 2, "depth_text": 3, "depth_image": 4, "init": "a photo of a"},
    "vpt": {"n_ctx": 8, "depth": 4},
    "promptsrc": {"n_text": 4, "n_image": 4, "depth_text": 2, "depth_image": 3, "init": "a photo of a"},
    "rpp": {"n_text": 4, "n_image": 4, "depth_text": 2, "depth_image": 3, "init": None},
    "dpl": {},
    "dpl_search": {},
    "aape": {},
    "aape_residual": {},
}
SEARCHED = {"embedded_search": "clip.tiny", "embedded_search_pretraining": "data.shapes21k"}


def composed(*overrides):
    return jobs.compose_job(list(overrides), CONF)[0]


def written(method):
    return OmegaConf.to_container(OmegaConf.load(CONF / f"recipe/{method}.yaml"))


def params(experiment, method):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        overrides = [f"experiment={experiment}", f"method={method}"]
        return set(compose("config", overrides, return_hydra_config=True).hydra.sweeper.params)


# their rate was found on validation images of drawn scenes: docs/language_models.md
OF_OTHER_TASKS = {"limber", "limber_aape", "limber_aape_finetuned"}
OF_OTHER_TASKS |= {"denseclip", "denseclip_pre", "denseclip_text", "clip_fpn"}  # on those of placed things: docs/denseclip.md
# sizes that fit small pictures, a rate from a few runs on validation images: docs/detection.md
OF_OTHER_TASKS |= {f"{maps}_{head}" for maps in ("clip", "denseclip") for head in ("retinanet", "maskrcnn")}


def with_tiny():
    files = {file.stem: recipe_files.read_recipes(file) for file in (CONF / "recipe").glob("*.yaml")}
    return {method for method, recipes in files.items() if recipes and "tiny" in recipes.sections["clip"]} - OF_OTHER_TASKS


def test_every_method_that_trains_is_here():
    assert with_tiny() == set(STRUCTURE)


@pytest.mark.parametrize(
    ("method", "protocol"),
    [
        *((method, "base_to_new") for method in STRUCTURE),
        ("coop", "few_shot"),
        ("maple", "cross_dataset"),
        ("promptsrc", "few_shot"),
    ],
)
def test_structure_epochs_and_batches_follow_from_the_rule(method, protocol):
    cfg = composed(f"method={method}", f"protocol={protocol}")
    assert (cfg.epochs, cfg.batch_size) == (20, 32)
    assert {key: cfg.method[key] for key in STRUCTURE[method]} == STRUCTURE[method]
    if method == "promptsrc":
        assert (cfg.method.mu, cfg.method.sigma) == (15, 1)  # of 20 epochs, as published
    runs = [cfg, *([cfg.earlier] if cfg.earlier else [])]
    assert {run.epochs for run in runs} == {20}


@pytest.mark.parametrize("method", STRUCTURE)
def test_digits_take_four_times_the_epochs(method):
    digits = written(method)["data"]["digits"]
    assert digits["epochs"] == 80
    assert digits.get("earlier", {}).get("epochs", 80) == 80
    assert ("earlier" in digits) == (method == "dpl")
    assert digits.get("method", {}) == ({"mu": 60, "sigma": 4} if method == "promptsrc" else {})


@pytest.mark.parametrize("data", ["shapes21k", "shapes21k_search"])
def test_pretraining_on_drawn_images(data):
    pomp, rpp = (composed(f"method={method}", f"data={data}", "protocol=cross_dataset") for method in ("pomp", "rpp"))
    assert [(cfg.epochs, cfg.batch_size) for cfg in (pomp, rpp)] == [(5, 128)] * 2
    assert pomp.method.local_contrast.num_sampled_classes == 60  # a tenth
    assert rpp.method.distillation.weight == 1.0


@pytest.mark.parametrize("method", sorted(with_tiny()))
def test_nothing_that_a_search_finds_is_written_by_hand(method):
    """Rates, widths and the like: what stands here would look chosen, and be hidden by what is found."""
    recipes = written(method)
    sections = [recipes["clip"]["tiny"], *(recipes["data"].get(name, {}) for name in ("digits", "shapes21k", "shapes"))]
    for section in sections:
        assert set(section) <= RULED
        assert not {"hidden", "alpha_lr"} & {*section.get("method", {}), *section.get("earlier", {}).get("method", {})}


@pytest.mark.parametrize("method", sorted(with_tiny() - {"dpl_search"}))
def test_a_search_sets_all_that_an_earlier_search_has_found(method):
    """Else the same command would ask for other trials once the found recipes are there."""
    file = CONF / f"recipe/found/{method}.yaml"
    found = OmegaConf.load(file) if file.exists() else {}
    for section, entries in found.items():
        for name, entry in entries.items():
            assert f"{section}.{name}" in SEARCHED.values()
            for experiment in SEARCHED:
                if experiment == "embedded_search" or method in ("pomp", "rpp"):
                    assert dotted(entry) <= params(experiment, method)


def dotted(node, above=""):
    keys = set()
    for key, value in node.items():
        keys |= dotted(value, f"{above}{key}.") if OmegaConf.is_dict(value) else {above + key}
    return keys


def test_what_methods_search_for():
    assert params("embedded_search", "coop") == {"optim.lr"}
    assert params("embedded_search", "dpl") == {"optim.lr", "earlier.method.alpha_lr"}
    assert params("embedded_search", "aape") == {"optim.lr", "method.hidden"}
    assert params("embedded_search_pretraining", "rpp") == {"optim.lr"}
    for file in (CONF / "search_space").glob("*.yaml"):
        assert file.stem in with_tiny(), file


def test_make_searches_for_every_method():
    text = (ROOT / "Makefile").read_text()
    [methods] = [line.partition(":=")[2].split() for line in text.splitlines() if line.startswith("SEARCHED :=")]
    assert set(methods) == with_tiny() - {"dpl_search"}  # which dpl's trials run
