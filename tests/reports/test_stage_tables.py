"""Tables of results that follow from their content alone: stages and forgetting, other figures, other tasks."""

import pytest
from fakes import ACCURACY, put

from reports.collect import read
from reports.tables import parts, tables

GROUPS = ["group1", "group2", "group3"]
SUMMARY = {
    "forgetting": {"function": "forgetting", "evaluations": ["group1", "group2"], "value": 0.0},
    "average": {"function": "mean", "evaluations": GROUPS, "value": 0.0},
}
LOSS = {"key": "loss", "title": "loss", "unit": "", "higher_is_better": False}


def learned(folder, method, last, seed=1, stages=((90.0,), (60.0, 80.0)), **about):
    """A result of three groups of classes learned one after the other."""
    named = [dict(zip(GROUPS, stage, strict=False)) for stage in stages]
    metrics = dict(zip(GROUPS, last, strict=True))
    summary = SUMMARY if stages else {"average": SUMMARY["average"]}
    put(folder, method, seed, metrics=metrics, stages=named, summary=summary, protocol="three", **about)


def by_title(folder):
    return {table.title: table for table in tables(read([folder]))}


def cells(row):
    return {column: cell.mean for column, cell in row.cells.items()}


def test_evaluations_by_stage_and_forgetting(tmp_path):
    learned(tmp_path, "coop", (50.0, 70.0, 75.0))
    learned(tmp_path, "maple", (80.0, 75.0, 70.0))
    both = by_title(tmp_path)
    assert list(both) == ["three, clip tiny, shapes, 16 shots", "three, clip tiny, shapes, 16 shots, by stage"]
    table, stages = both.values()
    assert table.columns == stages.columns == [*GROUPS, "forgetting", "average"]
    assert cells(table.rows[0]) == {"group1": 50, "group2": 70, "group3": 75, "forgetting": 25, "average": 65}
    assert [row.label for row in stages.rows][:3] == ["coop, stage 1 of 3", "coop, stage 2 of 3", "coop, stage 3 of 3"]
    assert cells(stages.rows[0]) == {"group1": 90}
    assert cells(stages.rows[1]) == {"group1": 60, "group2": 80}
    assert cells(stages.rows[2]) == cells(table.rows[0])
    assert table.best("forgetting") == 7.5  # the less, the better
    assert table.best("average") == 75


def test_an_earlier_stage_stands_within_the_last_one(tmp_path):
    """Each stage is a run with a result of its own."""
    stages = [(90.0, 10.0, 11.0), (60.0, 80.0, 12.0)]
    for at, last in enumerate([*stages, (50.0, 70.0, 75.0)]):
        learned(tmp_path, "coop", last, stages=stages[:at], digest=f"stage{at}")
    learned(tmp_path, "coop", stages[0], seed=2, stages=(), digest="stage0")  # whose later stages have not been run
    table = by_title(tmp_path)["three, clip tiny, shapes, 16 shots"]
    labels = {group.label: (group.digest, list(group.runs)) for group in read([tmp_path])}
    assert labels == {"coop (#stage0)": ("stage0", [2]), "coop (#stage2)": ("stage2", [1])}
    assert [row.label for row in table.rows] == list(labels)


def test_forgetting_is_of_the_means(tmp_path):
    """Over seeds whose best stages differ: the best of the means, not the mean of the bests."""
    learned(tmp_path, "coop", (50.0, 70.0, 75.0), seed=1, stages=((90.0,), (60.0, 80.0)))
    learned(tmp_path, "coop", (50.0, 70.0, 75.0), seed=2, stages=((60.0,), (90.0, 80.0)))
    row = by_title(tmp_path)["three, clip tiny, shapes, 16 shots"].rows[0]
    assert row.cells["forgetting"].mean == ((75 - 50) + (80 - 70)) / 2
    assert (row.cells["forgetting"].std, row.cells["forgetting"].seeds) == (0, 2)


def test_forgetting_of_the_average_over_datasets(tmp_path):
    learned(tmp_path, "coop", (50.0, 70.0, 75.0), data="dtd")
    learned(tmp_path, "coop", (60.0, 60.0, 75.0), data="eurosat", stages=((70.0,), (60.0, 90.0)))
    table = by_title(tmp_path)["three, clip tiny, 16 shots, average over 2 datasets"]
    assert cells(table.rows[0]) == {"group1": 55, "group2": 65, "group3": 75, "forgetting": (25 + 20) / 2, "average": 65}


def test_the_best_of_a_figure_may_be_the_lowest(tmp_path):
    for method, value in (("coop", 2.0), ("maple", 3.0)):
        put(tmp_path, method, metrics={"a": value, "b": value}, figure=LOSS, task="toy")
    (table,) = tables(read([tmp_path]))
    assert table.best("a") == 2
    assert table.figure == LOSS


def test_tasks_and_figures_have_tables_of_their_own(tmp_path):
    put(tmp_path)
    put(tmp_path, digest="a", task="toy", figure=LOSS)
    put(tmp_path, digest="b", task="toy", metrics={"test": 40.0})
    groups = read([tmp_path])
    assert [part.title for part in parts(groups)] == ["classification", "toy, loss", "toy, accuracy"]
    titles = [table.title for table in tables(groups)]
    assert titles == [f"{part.title}, few_shot, clip tiny, shapes" for part in parts(groups)]
    assert all(len(table.rows) == 1 for table in tables(groups))
    assert parts(groups)[0].figure == ACCURACY


def test_a_name_with_two_functions_is_no_column(tmp_path):
    for method, function in (("coop", "mean"), ("maple", "harmonic_mean")):
        summary = {"S": {"function": function, "evaluations": ["base"], "value": 0.0}}
        put(tmp_path, method, metrics={"base": 40.0, "new": 60.0}, summary=summary)
    (table,) = tables(read([tmp_path]))
    assert table.columns == ["base", "new"]


@pytest.mark.parametrize("name", ["H", "average", "16 shots", "base"])
def test_an_evaluation_that_bears_a_summarys_name(tmp_path, name):
    put(tmp_path, "coop", metrics={"base": 40.0, "new": 60.0})
    put(tmp_path, "maple", metrics={name: 1.0, "b": 2.0}, data="shapes")
    (table,) = tables(read([tmp_path]))
    assert cells(table.rows[1])[name] == 1.0
    assert len(set(table.columns)) == len(table.columns)
