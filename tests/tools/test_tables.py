"""The tables and claims of the documents, from made-up results; and the documents as they are committed."""

import re
import shutil
from zlib import crc32

import pytest
from fakes import put
from toys import ROOT

from reports.settings import settings_of
from runs import jobs
from tools import table_cells, tables
from tools.claims import APPEARS, CLAIMS, OPPOSITE, UNDECIDED, verdict
from tools.table_cells import SEEDS, Results, job_of, sweeps, unused
from tools.table_rows import TABLES, Column

EXPERIMENTS = sorted(path.stem for path in (ROOT / "conf/experiment").glob("table-*.yaml"))
STYLES = ("shapes21k", "shapes", "shapes_sketch", "shapes_dark")
NAMES = {"method": "coop", "data": "shapes", "clip": "tiny", "protocol": "base_to_new"}


def config(overrides):
    return {"job": " ".join(overrides), "precision": "32-true"}


@pytest.fixture
def quick(monkeypatch):
    """Jobs are known by their command lines, which takes no composing."""
    monkeypatch.setattr(table_cells, "composed", lambda overrides: (NAMES, settings_of({"config": config(overrides)})))


def all_jobs():
    return [sweep for name in EXPERIMENTS for sweep in sweeps(name)]


def made_up(folder, gain=0.0, seeds=SEEDS, only=None, tag=""):
    """A result for each job of each table; those of jobs whose command line has CoOp's name gain points on every evaluation."""
    for sweep in only or all_jobs():
        line = " ".join(sweep.overrides)
        level = 50 + crc32(line.encode()) % 1000 / 100 + gain * ("method=coop" in line)
        for seed in seeds:
            metrics = dict.fromkeys(("test", "base", "new", *STYLES), level + 0.1 * seed)
            about = {"digest": f"{crc32(line.encode())}{tag}", "trainable_parameters": 100 + len(line)} | NAMES
            put(folder, seed=seed, metrics=metrics, config=config(sweep.overrides), **about)
    return folder


@pytest.fixture
def documents(tmp_path):
    """The project's documents, to write to."""
    (tmp_path / "project/docs").mkdir(parents=True)
    for path in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        shutil.copy(path, tmp_path / "project" / path.relative_to(ROOT))
    return tmp_path / "project"


def refused(capsys, outputs, root):
    """The sentence of a command that writes nothing."""
    before = {path: path.read_text() for path in root.rglob("*.md")}
    assert tables.main([str(outputs), "--root", str(root)]) == 1
    assert {path: path.read_text() for path in root.rglob("*.md")} == before
    return capsys.readouterr().err


def test_every_cell_is_of_one_job_and_every_job_is_in_a_table():
    named = {name for table in TABLES for name in table.experiments}
    assert named == set(EXPERIMENTS)
    assert unused(TABLES, EXPERIMENTS) == []
    assert len({table.name for table in TABLES}) == len(TABLES)
    for claim in CLAIMS:
        for measure in claim.measures:
            for at in (measure.ours, *measure.other):
                table = next(table for table in TABLES if table.name == at.table)
                assert at.line in [line.label for line in table.lines], at
                assert at.column in [column.title for column in table.columns], at


def test_a_cell_of_several_jobs_is_refused():
    table = next(table for table in TABLES if table.name == "few_shot")
    with pytest.raises(ValueError, match="is of 2 jobs of table-few_shot"):
        job_of(table, table.lines[0], Column("16 shots", "test", {"shots": "16"}))


def test_made_up_results_become_the_documents(quick, tmp_path, documents, capsys):
    (documents / "docs/more.md").write_text("Before.\n\n<!-- table aape -->\nold\n<!-- end of table -->\n\nAfter.\n")
    outputs = made_up(tmp_path / "outputs", gain=30)
    assert tables.main([str(outputs), "--root", str(documents)]) == 0
    claims = (documents / "docs/claims.md").read_text()
    assert f"{5 * len(all_jobs())} runs with the seeds 1, 2, 3, 4, 5; clip tiny; precision 32-true" in claims
    for table in TABLES:
        assert (f"\n### {table.name}\n" in claims) == (not table.name.startswith("readme_"))
    assert [claims.count(f"| {claim.says} |") for claim in CLAIMS] == [1] * len(CLAIMS)
    assert {APPEARS, OPPOSITE} <= {line.split("|")[-2].strip() for line in claims.splitlines() if line.startswith("|")}
    base, new = (line.split("|")[-2].strip() for line in claims.splitlines() if "CoOp − zero-shot" in line)
    assert (base, new) == (APPEARS, OPPOSITE)  # made up: CoOp is better on both
    more = (documents / "docs/more.md").read_text()
    assert more.startswith("Before.\n\n<!-- table aape -->\n| | base |")
    assert more.endswith("<!-- end of table -->\n\nAfter.\n")
    assert "old" not in more
    readme = (documents / "README.md").read_text()
    assert "| `data=digits` | 5" in readme or "| `data=digits` | 8" in readme
    for block in re.findall(r"<!-- table \S+ -->\n(.*?)<!-- end of table -->", readme, re.DOTALL):
        assert len({line.count("|") for line in block.splitlines() if line.startswith("|")}) == 1
    capsys.readouterr()
    assert tables.main([str(outputs), "--root", str(documents)]) == 0
    assert capsys.readouterr().out == "nothing changed\n"


def test_the_verdict_follows_its_rule():
    assert verdict(1.0, 0.4, 1) == APPEARS
    assert verdict(1.0, 0.6, 1) == UNDECIDED
    assert verdict(-1.0, 0.4, 1) == OPPOSITE
    assert verdict(-1.0, 0.4, -1) == APPEARS
    assert verdict(0.0, 0.0, 1) == UNDECIDED
    assert verdict(0.1, 0.0, 1) == APPEARS
    ours, other = dict(zip(SEEDS, (1, 2, 3, 4, 5), strict=True)), dict.fromkeys(SEEDS, 1.0)
    assert table_cells.paired(ours, other) == pytest.approx((2.0, 2**0.5, (2.5 / 5) ** 0.5))


def test_lengths_are_compared_with_the_uniform_ones_of_about_their_size(quick, tmp_path):
    measure = next(measure for claim in CLAIMS for measure in claim.measures if len(measure.other) > 1)
    dpl = next(table for table in TABLES if table.name == "dpl")
    sizes = {"found lengths": 700, "2 in every block": 400, "4 in every block": 800, "6 in every block": 1200}
    for line in dpl.lines[:4]:
        sweep = job_of(dpl, line, dpl.columns[0])
        for seed in SEEDS:
            about = {"digest": line.label[0], "trainable_parameters": sizes[line.label] + seed} | NAMES
            put(tmp_path, seed=seed, metrics={"test": 60.0 + sizes[line.label] / 100}, config=config(sweep.overrides), **about)
    what, ours, other, difference, says = tables.measured(measure, Results(tmp_path))
    assert (what, says) == ("test: found lengths − 4 in every block", OPPOSITE)
    assert (ours, other, difference) == ("67.0 ± 0.0", "68.0 ± 0.0", "-1.00 ± 0.00")


def test_a_missing_result_names_the_experiment(quick, tmp_path, documents, capsys):
    outputs = made_up(tmp_path / "outputs", only=[sweep for sweep in all_jobs() if sweep.experiment != "table-transfer"])
    sentence = refused(capsys, outputs, documents)
    assert "there is no result of method=zeroshot below" in sentence
    assert sentence.endswith("run python run.py -m experiment=table-transfer.\n")
    assert "there is no result.json below" in refused(capsys, tmp_path / "nowhere", documents)


def test_fewer_than_five_seeds_are_refused(quick, tmp_path, documents, capsys):
    first, *others = all_jobs()
    made_up(tmp_path / "outputs", only=others)
    made_up(tmp_path / "outputs", only=[first], seeds=(1, 2, 4))
    assert "lacks seed 3, 5: run python run.py -m experiment=" in refused(capsys, tmp_path / "outputs", documents)


def test_two_configurations_of_one_job_are_refused(quick, tmp_path, documents, capsys):
    """Equal settings with another digest: the weights or the data have changed since."""
    made_up(tmp_path / "outputs")
    made_up(tmp_path / "outputs", only=all_jobs()[:1], tag="b")
    assert "are of several configurations" in refused(capsys, tmp_path / "outputs", documents)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("<!-- table nothing -->\n<!-- end of table -->\n", "more.md has a place for table nothing, which is none of few_shot"),
        ("<!-- table aape -->\n| a |\n", "more.md has a mark of a table without its end"),
        ("<!-- table aape -->\n<!-- table dpl -->\n<!-- end of table -->\n", "without its end"),
        ("<!-- end of table -->\n", "without its end"),
    ],
)
def test_wrong_marks_are_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        tables.filled(text, "more.md", {table.name: "" for table in TABLES})


def test_results_of_other_settings_than_the_present_ones_are_refused(tmp_path):
    """With the config that is composed now."""
    sweep = next(sweep for sweep in sweeps("table-base_to_new") if sweep.values["method"] == "coop")
    cfg, names = jobs.compose_job(sweep.overrides, ROOT / "conf")
    resolved = jobs.resolve(cfg)
    for seed in SEEDS:
        put(tmp_path / "now", seed=seed, metrics={"base": 1.0, "new": 1.0}, config=resolved | {"seed": seed}, **names)
        changed = resolved | {"optim": resolved["optim"] | {"lr": 9.0}}
        put(tmp_path / "before", seed=seed, metrics={"base": 1.0, "new": 1.0}, config=changed, **names)
    assert list(Results(tmp_path / "now").of(sweep).runs) == list(SEEDS)
    with pytest.raises(ValueError, match=r"no result of method=coop below .* \(the nearest has another optim.lr\): run python"):
        Results(tmp_path / "before").of(sweep)


def test_the_committed_documents_are_of_one_piece():
    """Either no table has been run, and every place for one is empty; or all have, and every place has its table."""
    claims = (ROOT / tables.CLAIMS_FILE).read_text()
    assert claims.startswith(tables.HEAD)
    places = [place for path in tables.documents(ROOT) for place in tables.BLOCK.findall(path.read_text())]
    assert {"readme_few_shot", "readme_transfer"} <= {name for name, _ in places}
    for path in tables.documents(ROOT):
        tables.filled(path.read_text(), path.name, {table.name: "" for table in TABLES})
    if claims == tables.HEAD + tables.NOT_RUN:
        assert [content for _, content in places if content] == []
        return
    runs = 5 * len({tuple(sweep.overrides) for sweep in all_jobs()})
    assert f"{runs} runs with the seeds 1, 2, 3, 4, 5; clip tiny; precision " in claims
    rows = [line.split(" | ") for line in claims.splitlines() if line.startswith("|")]
    verdicts = [row[-1].removesuffix(" |") for row in rows if row[-1].removesuffix(" |") in (APPEARS, OPPOSITE, UNDECIDED)]
    assert len(verdicts) == sum(len(claim.measures) for claim in CLAIMS)
    for table in TABLES:
        if not table.name.startswith("readme_"):
            part = claims.split(f"\n### {table.name}\n\n")[1].split("\n### ")[0]
            assert [row.split(" | ")[0].removeprefix("| ") for row in part.splitlines()[2 : 2 + len(table.lines)]] == [
                line.label for line in table.lines
            ]
    for name, content in places:
        assert content.startswith("| | "), f"the place for table {name} is empty: run python -m tools.tables outputs/tables"
