"""The experiments that repeat published rows."""

import json
import re

import pytest
from omegaconf import OmegaConf
from toys import ROOT

from runs import jobs

pytestmark = pytest.mark.usefixtures("targets_once")
PUBLISHED = json.loads((ROOT / "reports/published.json").read_text())
METHODS = ("coop", "cocoop", "maple", "promptsrc")
PRETRAINED, FEW = ("pomp", "rpp"), "method.local_contrast.negative_groups=8"
LENGTHS = "earlier.method.lengths=[0,1,2,3,4,5,6]"
# by name, what the row says beside the method, the protocol and its sweep
ROWS = {
    **{f"{method}-base_to_new": [] for method in (*METHODS, "zeroshot", "vpt", "ivlp", "kgcoop", "aape")},
    **{f"{method}-cross_dataset": [] for method in (*METHODS, "kgcoop", "rpp")},
    **{f"{method}-domain_generalization": [] for method in (*METHODS, "zeroshot", "rpp", "aape")},
    **{f"{method}-few_shot": [] for method in ("coop", "linear_probe", "promptsrc", "zeroshot")},
    **{f"pomp-{protocol}": [FEW] for protocol in ("cross_dataset", "domain_generalization")},
    **{f"dpl-{protocol}": [LENGTHS] for protocol in ("few_shot", "base_to_new")},
    "kgcoop-few_shot4": ["shots=4"],
    "coop_csc-few_shot": ["method.class_context=true"],
    "coop_middle-few_shot": ["method.position=middle"],
    "ivlp4-base_to_new": [
        "epochs=20", "optim.lr=0.0025", "method.n_text=4", "method.n_image=4", "method.depth_text=9", "method.depth_image=9",
    ],
    "deep_language-base_to_new": ["optim.lr=0.0025", "method.n_text=4", "method.n_image=0"],
}  # fmt: skip
BASES = {"coop_csc": "coop", "coop_middle": "coop", "ivlp4": "ivlp", "deep_language": "ivlp"}  # of a row's name, its method
RN50 = ("coop-few_shot", "coop_csc-few_shot", "coop_middle-few_shot", "linear_probe-few_shot", "zeroshot-few_shot")
UNCHECKED = ("kgcoop", "rpp", "dpl", "zeroshot-few_shot", "aape-domain", "coop_")  # no figure, or none of this form
OF_VARIANTS = {"ivlp4-base_to_new": [84.21, 71.79, 77.51], "deep_language-base_to_new": [81.72, 73.81, 77.56]}


def params_of(row):
    """The sweep's parameters of the row, by key."""
    folder = ROOT / "conf/experiment"
    row_cfg = OmegaConf.load(folder / f"{row}.yaml")
    params = OmegaConf.merge(OmegaConf.load(folder / f"{row_cfg.defaults[0]}.yaml"), row_cfg).hydra.sweeper.params
    return {key: str(value).split(",") for key, value in params.items()}


def test_every_row_is_here():
    rows = {path.stem for path in (ROOT / "conf/experiment").glob("[a-z]*-*.yaml")}
    assert set(ROWS) == {row for row in rows if not row.startswith("table-")}


@pytest.mark.parametrize("row", ROWS)
def test_row(row):
    """Its name says method and protocol, its jobs have the recipe's settings and what it is named after."""
    start, protocol = row.rstrip("4").split("-")
    method = BASES.get(start, start)
    params = params_of(row)
    pretrains = method in PRETRAINED
    assert len(params["data"]) == (1 if protocol in ("cross_dataset", "domain_generalization") else 11)
    assert params["seed"] == (["1"] if method == "zeroshot" else ["42"] if pretrains else ["1", "2", "3"])
    job = [f"{key}={values[-1]}" for key, values in params.items()]
    cfg, names = jobs.compose_job([f"experiment={row}", *job], ROOT / "conf")
    plain, _ = jobs.compose_job([f"method={method}", f"protocol={protocol}", *job, *ROWS[row]], ROOT / "conf")
    assert (names["method"], names["protocol"]) == (method, protocol)
    assert names["data"] == params["data"][-1]
    assert names["clip"] == ("rn50" if row in RN50 else "vit_b16")
    assert {**cfg, "output": 0} == {**plain, "output": 0}


@pytest.mark.parametrize("row", ROWS)
def test_the_comment_of_a_row(row):
    """It has the command, and the figures of the report."""
    text = (ROOT / f"conf/experiment/{row}.yaml").read_text()
    header = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert f"python run.py -m experiment={row}" in header
    figures = [float(figure) for figure in re.findall(r"(?<![\d.])\d\d\.\d{1,2}(?!\d)", header)]
    assert figures == published_figures(row)
    assert bool(figures) == bool(re.search("^# Published, ", header, re.MULTILINE))


def published_figures(row):
    """The figures of the report that the comment of a row quotes, in its order."""
    method, protocol = row.split("-")
    if row in OF_VARIANTS:
        return OF_VARIANTS[row]
    if row.startswith(UNCHECKED):
        return []
    if row == "aape-base_to_new":
        return [80.97]  # of a paper whose recipe is not public in full: no run has the figure beside it
    if protocol == "base_to_new":
        return list(figures_of(protocol, "average", method, ROWS[row]).values())
    if protocol != "few_shot":
        source = "imagenet21k" if method in PRETRAINED else "imagenet"
        known = figures_of(protocol, source, method, ROWS[row])
        return [known[source], known["average"]]
    data = ("imagenet", "caltech101") if method == "coop" else ()
    return [figures_of(protocol, name, method, ROWS[row])["16 shots"] for name in data]


def figures_of(protocol, data, method, overrides):
    """The published figures by column, of the recipe that the method has with these overrides."""
    known = PUBLISHED["recipes"].items()
    recipes = [name for name, of in known if (of["method"], of["overrides"].split()) == (method, overrides)]
    blocks = [block for block in PUBLISHED["protocols"][protocol]["blocks"] if block["recipe"] in recipes]
    return {column: figure for block in blocks for column, figure in block["figures"].get(data, {}).items()}
