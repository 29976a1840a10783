"""What a search maximises, and where it may look at test images. Searches as processes: tests/test_sweeps.py."""

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from toys import ROOT, TESTS

from runs import jobs, search, sweep

SEARCH_ONLY = "data.search_only=true"
HISTORY = [{"epoch": e, "val": {"accuracy": a}, "test": {"accuracy": 99.0}} for e, a in enumerate([10.0, 30.0, 20.0])]
RESULT = {
    "figure": {"key": "accuracy", "higher_is_better": True},
    "history": HISTORY,
    "metrics": {"base": {"accuracy": 80.0, "images": 7}, "new": {"accuracy": 60.0, "images": 5}},
    "summary": {"H": {"function": "harmonic_mean", "evaluations": ["base", "new"], "value": 68.5}, "v1.5": {"value": 3}},
}
LOWER = RESULT | {"figure": {"key": "accuracy", "higher_is_better": False}}


@pytest.mark.parametrize(
    ("result", "objective", "value"),
    [
        (RESULT, None, 30.0),
        (LOWER, None, -10.0),
        (RESULT, "summary.H.value", 68.5),
        (LOWER, "summary.H.value", -68.5),
        (RESULT, "metrics.new.accuracy", 60.0),
        (LOWER, "metrics.new.accuracy", -60.0),
        (LOWER, "metrics.new.images", 5),
        (RESULT, "summary.v1.5.value", 3),
    ],
)
def test_the_value_that_is_maximised(result, objective, value):
    assert search.value_of(result, objective) == value


@pytest.mark.parametrize("objective", ["summary.h.value", "summary.H", "summary.H.function", "summary.H.value.x", "a", "."])
def test_a_number_that_is_not_there(objective):
    with pytest.raises(ValueError, match=r"no number at objective=.*such as summary.H.value, .*, metrics.new.accuracy\."):
        search.value_of(RESULT, objective)


@pytest.mark.parametrize("history", [None, [], [{"epoch": 0, "test": {"accuracy": 99.0}}]])
def test_a_run_without_validation_images_has_no_value(history):
    with pytest.raises(ValueError, match="never evaluated on validation images"):
        search.value_of(RESULT | {"history": history}, None)


def hydra_of(sweeper):
    return OmegaConf.create({"runtime": {"choices": {"hydra/sweeper": sweeper}}})


def test_only_a_search_needs_a_value():
    without = RESULT | {"history": []}
    plain, named = OmegaConf.create({"objective": None}), OmegaConf.create({"objective": "summary.H.value"})
    assert sweep.judged(hydra_of("basic"), plain, without) is None
    assert sweep.judged(hydra_of("search"), plain, None) is None
    assert sweep.judged(hydra_of("basic"), named, without) == sweep.judged(hydra_of("search"), named, without) == 68.5
    with pytest.raises(ValueError, match="never evaluated"):
        sweep.judged(hydra_of("search"), plain, without)


def composed(*overrides):
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        swept = [override for override in overrides if "," in override and "hydra" not in override]
        cfg = compose("config", [override for override in overrides if override not in swept], return_hydra_config=True)
    cfg.hydra.overrides.task = [override for override in overrides if not override.startswith("hydra")]
    return cfg


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["select=last"], "judged by the validation images: add select=best_val, or give objective"),
        (["objective=summary.H.value"], "data=shapes: choose data whose search_only is true, or leave objective out"),
        (["objective=summary.H.value", SEARCH_ONLY, "hydra.sweeper.direction=minimize"], "direction=maximize"),
        (["objective=5", SEARCH_ONLY], "objective=5: give the dotted path"),
        (["seed=1,2"], r"varies seed selects a lucky seed: leave it out; hydra.sweeper.seeds=\[1,2,3\]"),
        (["+hydra.sweeper.params.seed='choice(1,2)'"], "varies seed selects a lucky seed"),
        (["seed=2", "hydra.sweeper.seeds=[1,2]"], "hydra.sweeper.seeds and seed contradict each other"),
        (["hydra.sweeper.seeds=[1,1]"], r"hydra.sweeper.seeds=\[1, 1\]: give different integers"),
        (["hydra.sweeper.n_jobs=0"], "hydra.sweeper.n_jobs=0: give an integer, 1 or more"),
        (["hydra/launcher=joblib"], "hydra/launcher=joblib does nothing: leave it out and give hydra.sweeper.n_jobs=N"),
        (
            ["select=last", "hydra/sweeper/pruner=median", "objective=summary.H.value", SEARCH_ONLY],
            "ended early by its validation images: add select=best_val",
        ),
    ],
)
def test_mistakes_of_a_search_are_told_before_any_job(overrides, words):
    with pytest.raises(SystemExit, match=words):
        sweep.SweepProgress().on_multirun_start(composed("experiment=search", *overrides))


def test_a_search_without_optuna_says_what_to_install(monkeypatch):
    monkeypatch.setattr(search, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="needs the package optuna, which is not installed: pip install"):
        sweep.SweepProgress().on_multirun_start(composed("experiment=search"))


def test_scores_are_those_of_the_validation_images():
    assert search.scores_of([*HISTORY, {"epoch": 3}], RESULT["figure"]) == [(0, 10.0), (1, 30.0), (2, 20.0)]
    assert search.scores_of(HISTORY[:1], LOWER["figure"]) == [(0, -10.0)]


@pytest.mark.parametrize(
    "varied", [[], ["select=choice(last,best_val)"], ["data=choice(shapes,digits)", "objective=metrics.test.accuracy"]]
)
def test_what_a_search_varies_is_left_to_its_jobs(varied):
    given = [override for override in varied if "choice" not in override]
    config = composed("experiment=search", "select=last" if varied else "select=best_val", *given)
    config.hydra.overrides.task = varied
    search.check_start(config, sweep.varied_keys(config.hydra))


def job(*overrides):
    cfg, names = jobs.compose_job([f"hydra.searchpath=[file://{TESTS / 'conf'}]", "clip=toy", *overrides], ROOT / "conf")
    return jobs.describe(cfg, names)


H = ["protocol=base_to_new", "objective=summary.H.value"]
AVERAGE = ["protocol=cross_dataset", "objective=summary.average.value"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (H, "may report those of data=shapes"),
        ([*H, "data.search_only=false"], "may report those of data=shapes"),
        ([*AVERAGE, SEARCH_ONLY], "may report those of data=digits"),
        ([*AVERAGE, SEARCH_ONLY, "protocol.targets.shapes=[shapes_dark]"], "may report those of data=shapes_dark"),
        ([*AVERAGE, SEARCH_ONLY, "data.search_only=null"], "may report those of data=shapes"),
        (
            ["protocol=base_to_new", "objective=summary.h.value", SEARCH_ONLY],
            "give one of summary.H.value, metrics.base.FIGURE",
        ),
        (["objective=metrics.test", SEARCH_ONLY], "give one of metrics.test.FIGURE"),
    ],
)
def test_a_job_whose_test_images_tables_report_has_no_objective(overrides, words):
    with pytest.raises(ValueError, match=words):
        job(*overrides)


def test_what_a_search_asks_for_does_not_change_the_run():
    assert job(*H, SEARCH_ONLY).folder == job("protocol=base_to_new", SEARCH_ONLY).folder
    assert job("objective=metrics.test.accuracy", SEARCH_ONLY).config["objective"] == "metrics.test.accuracy"


def test_targets_that_are_all_search_only(monkeypatch):
    compose_target = jobs.compose

    def also_search_only(*args, **options):
        cfg = compose_target(*args, **options)
        cfg.data.search_only = True
        return cfg

    monkeypatch.setattr(jobs, "compose", also_search_only)
    assert set(job(*AVERAGE).config["targets"]) == {"digits"}
