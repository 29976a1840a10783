"""The sweeps behind the table of docs/aape.md: what is run, each combination once."""

from itertools import product

from omegaconf import OmegaConf
from toys import ROOT

from runs import jobs

FOLDER = ROOT / "conf/experiment"
FIRST = OmegaConf.load(FOLDER / "table-aape.yaml")
SWEEPS = sorted(path.stem for path in FOLDER.glob("table-aape*.yaml"))
PLAIN = {
    "method.aggregator.kind": "attention",
    "method.aggregator.query": "per_image",
    "method.head": "bottleneck",
    "epochs": 0,
}


def runs(sweep):
    """The runs of a sweep, as the settings that differ between rows."""
    own = OmegaConf.load(FOLDER / f"{sweep}.yaml")
    merged = OmegaConf.merge(FIRST, own)
    assert merged.output == "outputs/tables/aape"
    params = {key: str(value).split(",") for key, value in merged.hydra.sweeper.params.items()}
    fixed = PLAIN | {"epochs": own.get("epochs", 0)}
    return [fixed | dict(zip(params, values, strict=True)) for values in product(*params.values())]


def test_each_run_once_and_few_enough():
    """A run with 16 shots takes about 13 s on one core, one with a single shot 9 s, one of batch 1 about 35 s."""
    found = [tuple(sorted(map(str, run.items()))) for sweep in SWEEPS for run in runs(sweep)]
    assert len(found) == len(set(found)) == 160
    assert sum(35 if run["epochs"] else 13 if run["shots"] == "16" else 9 for s in SWEEPS for run in runs(s)) < 45 * 60


def test_what_the_table_shows():
    everything = [run for sweep in SWEEPS for run in runs(sweep) if run["seed"] == "5"]
    for method in ("aape", "aape_residual"):
        ours = [run for run in everything if run["method"] == method]
        assert {(run["shots"], run["method.distill_weight"]) for run in ours} == set(product(("1", "16"), "0159"))
        assert {run["method.aggregator.kind"] for run in ours} == {"attention", "weights", "mlp", "mean", "random"}
        assert {run["method.aggregator.query"] for run in ours} == {"per_image", "per_class", "image_conditioned"}
        assert {run["epochs"] for run in ours} == {0, 10}
    assert [run["shots"] for run in everything if run["method.head"] == "h_only"] == ["1", "16"]


def test_the_sweeps_compose():
    for sweep in SWEEPS:
        cfg, names = jobs.compose_job([f"experiment={sweep}", "method=aape_residual", "shots=1"], ROOT / "conf")
        assert (names["data"], names["protocol"], names["clip"]) == ("shapes", "base_to_new", "tiny")
        assert cfg.method.prompts
        assert (cfg.epochs == 10 and cfg.batch_size == 1) == sweep.endswith("batch1")
