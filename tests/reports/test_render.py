import csv
import io

import pytest
from fakes import of_recipe, put
from rich.console import Console

from reports import render
from reports.collect import read
from reports.sections import figure_tables
from reports.tables import tables


@pytest.fixture
def shown(tmp_path):
    for seed, accuracy in ((1, 50.0), (2, 60.0)):
        put(tmp_path, "coop", seed, 4, {"test": accuracy})
    put(tmp_path, "zeroshot", 1, 4, {"test": 40.25})
    where = {"protocol": "base_to_new", "data": "dtd", "config": of_recipe("base_to_new", "MaPLe, depth 9", "dtd")}
    put(tmp_path, "maple", 1, 16, {"base": 83.0, "new": 75.0}, clip="vit_b16", **where)
    return tables(read([tmp_path]))


def terminal(tables, width):
    console = Console(width=width, record=True, file=io.StringIO())
    render.to_terminal(tables, 1, console)
    return console.export_text()


def test_terminal_says_mean_spread_and_seeds(shown):
    text = terminal(shown, 100)
    assert "55.0 ± 5.0" in text
    assert "Seed 1." in text
    assert "coop: seeds 1, 2." in text
    assert text.index("zeroshot") < text.index("coop")


def test_what_is_wider_than_the_terminal_goes_on_below(tmp_path):
    for method in ("coop", "maple"):
        metrics = {f"dataset_number_{at}": 50.5 + at for at in range(12)}
        put(tmp_path, method, metrics=metrics, targets=metrics, protocol="cross_dataset")
    text = terminal(tables(read([tmp_path])), 80)
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    assert all(words.count(f"dataset_number_{at}") == 1 for at in range(12))
    rows = [line.split()[1:] for line in text.splitlines() if line.strip().startswith("coop")]
    assert len(rows) > 1
    assert sorted(sum(rows, [])) == sorted([*(f"{50 + at}.5" for at in range(12)), "56.0"])


def test_published_figures_stand_below_with_the_difference(shown):
    text = render.to_markdown(shown, 1)
    lines = [line for line in text.splitlines() if line.startswith("|")]
    at = lines.index("| maple | 83.00 | 75.00 | 78.80 |")  # two decimals, as published
    assert lines[at + 1] == "| *published* | 80.36† | 59.18† | 68.16† |"
    assert lines[at + 2] == "| *difference* | +2.64 | +15.82 | +10.63 |"
    assert "† Published, but not compared with a text by us: MaPLe's paper, typed from memory" in text
    assert "The published runs were in fp16" in text


def test_the_mark_of_unverified_figures_is_in_every_form(shown):
    assert "80.36†" in terminal(shown, 100)
    assert "† Published, but not compared with a text" in " ".join(terminal(shown, 100).split())
    assert r"$80.36^{\dagger}$" in render.to_latex(shown, 1)
    assert r"\textdagger{} Published, but not compared" in render.to_latex(shown, 1)
    assert "80.36†" in figure_tables(shown)
    assert "† Published, but not compared" in figure_tables(shown)
    row = next(row for row in csv.DictReader(io.StringIO(render.to_csv(shown))) if row["published"])
    assert row["unverified"] == "True"


def test_verified_figures_have_no_mark(tmp_path):
    for seed in (1, 2, 3):
        config = of_recipe("few_shot", "CoOp, 16 tokens", "caltech101")
        put(tmp_path, seed=seed, data="caltech101", clip="rn50", config=config)
    text = render.to_markdown(tables(read([tmp_path])), 1)
    assert "| *published* | 92.00 |" in text
    assert "Published: COOP.md of CoOp's repository." in text
    assert "†" not in text


def test_markdown_tables_have_equally_many_cells(shown):
    for block in render.to_markdown(shown, 1).split("\n\n"):
        counts = {line.count("|") for line in block.splitlines() if line.startswith("|")}
        assert len(counts) <= 1


def test_latex_escapes_and_marks_the_best(shown):
    text = render.to_latex(shown, 1)
    assert r"$\mathbf{55.0} \pm 5.0$" in text
    assert r"few\_shot" in text
    assert "±" not in text
    for line in text.splitlines():
        assert line.count("_") == line.count(r"\_")
        assert line.count("%") == line.count(r"\%")
    assert text.count(r"\begin{table}") == text.count(r"\end{table}") == len(shown)


def test_csv_is_unrounded_with_a_line_per_figure(shown):
    rows = list(csv.DictReader(io.StringIO(render.to_csv(shown))))
    zeroshot = next(row for row in rows if row["row"] == "zeroshot")
    assert (zeroshot["mean"], zeroshot["std"], zeroshot["seeds"]) == ("40.25", "", "1")
    base = next(row for row in rows if row["row"] == "maple" and row["column"] == "base")
    assert float(base["published"]) == 80.36
    assert float(base["difference"]) == pytest.approx(2.64)
    coop = next(row for row in rows if row["row"] == "coop")
    assert float(coop["interval_95"]) == pytest.approx(1.96 * 5 / 2**0.5)
