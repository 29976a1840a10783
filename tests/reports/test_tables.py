import statistics

import pytest
from fakes import blocks, of_recipe, put

from reports.collect import read
from reports.published import published
from reports.tables import tables

HEADLINES = {  # base, new, H: averages of the papers
    "zeroshot": (69.34, 74.22, 71.70),
    "coop": (82.69, 63.22, 71.66),
    "cocoop": (80.47, 71.69, 75.83),
    "maple": (82.28, 75.14, 78.55),
    "promptsrc": (84.26, 76.10, 79.97),
}
DATASETS = published()["datasets"][:11]
CROSS = {"coop": 63.88, "cocoop": 65.74, "maple": 66.30, "promptsrc": 65.81}
SHIFTS = {"zeroshot": 57.18, "coop": 59.28, "cocoop": 59.91, "maple": 60.27, "promptsrc": 60.65}
REAL = {"clip": "vit_b16"}


def by_title(folder):
    return {table.title: table for table in tables(read([folder]))}


def row(table, label):
    return next(row for row in table.rows if row.label == label)


@pytest.fixture
def as_published(tmp_path):
    """The published accuracies as three seeds around them."""
    shifts = ((1, -0.3), (2, 0.1), (3, 0.2))
    for data in DATASETS:
        for method, recipe, figures in blocks("base_to_new", data):
            config = of_recipe("base_to_new", recipe, data)
            for seed, shift in shifts:
                metrics = {"base": figures["base"] + shift, "new": figures["new"] - shift}
                put(tmp_path, method, seed, metrics=metrics, config=config, protocol="base_to_new", data=data, **REAL)
    for protocol in ("cross_dataset", "domain_generalization"):
        for method, recipe, figures in blocks(protocol, "imagenet"):
            about = {"protocol": protocol, "data": "imagenet", "config": of_recipe(protocol, recipe, "imagenet"), **REAL}
            for seed, shift in shifts:
                metrics = {name: value + shift for name, value in figures.items() if name != "average"}
                targets = [name for name in metrics if name != "imagenet"]
                put(tmp_path, method, seed, metrics=metrics, targets=targets, **about)
    return by_title(tmp_path)


def test_published_base_to_new_averages(as_published):
    table = as_published["base_to_new, clip vit_b16, 16 shots, average over 11 datasets"]
    assert table.columns == ["base", "new", "H"]
    assert [row.label for row in table.rows] == list(HEADLINES)
    for method, headline in HEADLINES.items():
        cells = row(table, method).cells
        for column, figure in zip(table.columns, headline, strict=True):
            assert abs(cells[column].mean - figure) < 0.01
            assert abs(row(table, method).difference(column)) < 0.01
        assert cells["base"].std == pytest.approx(statistics.pstdev([-0.3, 0.1, 0.2]))


def test_h_is_that_of_the_averages_not_the_average_of_h(as_published):
    by_dataset = [as_published[f"base_to_new, clip vit_b16, {data}, 16 shots"] for data in DATASETS]
    mean_of_h = statistics.mean(row(table, "coop").cells["H"].mean for table in by_dataset)
    assert mean_of_h == pytest.approx(70.83, abs=0.01)
    assert [table.title.split(", ")[2] for table in as_published.values() if "base_to_new" in table.title][1:] == list(DATASETS)


@pytest.mark.parametrize(("protocol", "averages"), [("cross_dataset", CROSS), ("domain_generalization", SHIFTS)])
def test_published_transfer_averages_leave_the_source_out(as_published, protocol, averages):
    table = as_published[f"{protocol}, clip vit_b16, trained on imagenet, 16 shots"]
    assert table.columns[0] == "imagenet"
    assert table.columns[-1] == "average"
    assert [row.label for row in table.rows] == list(averages)
    for method, figure in averages.items():
        assert abs(row(table, method).cells["average"].mean - figure) < 0.01
        assert abs(row(table, method).difference("average")) < 0.01
    if protocol == "domain_generalization":
        assert table.columns[1:-1] == ["imagenet_v2", "imagenet_sketch", "imagenet_a", "imagenet_r"]


def test_few_shot_by_shots_and_average_over_datasets(tmp_path):
    for data, shift in (("dtd", 0), ("eurosat", 10)):
        for shots in (16, 1, -1):
            for seed in (1, 2):
                put(tmp_path, seed=seed, shots=shots, metrics={"test": 50.0 + shots + shift + seed}, data=data)
    titled = by_title(tmp_path)
    assert list(titled) == [f"few_shot, clip tiny, {what}" for what in ("average over 2 datasets", "dtd", "eurosat")]
    table = titled["few_shot, clip tiny, average over 2 datasets"]
    assert table.columns == ["1 shot", "16 shots", "all images"]
    cell = table.rows[0].cells["16 shots"]
    assert (cell.mean, cell.std, cell.seeds) == (72.5, 0.5, 2)


def test_no_average_where_a_dataset_is_missing(tmp_path):
    for data in ("dtd", "eurosat"):
        put(tmp_path, "coop", data=data)
    put(tmp_path, "maple", data="dtd")
    table = by_title(tmp_path)["few_shot, clip tiny, average over 2 datasets"]
    assert [row.label for row in table.rows] == ["coop"]
    assert "maple lacks eurosat: no average." in table.notes


def test_no_average_where_a_target_is_missing(tmp_path):
    three, two = {"shapes": 60.0, "digits": 40.0, "shapes_dark": 50.0}, {"shapes": 60.0, "digits": 40.0}
    put(tmp_path, "coop", metrics=three, targets=["digits", "shapes_dark"], protocol="cross_dataset")
    put(tmp_path, "maple", metrics=two, targets=["digits"], protocol="cross_dataset")
    (table,) = by_title(tmp_path).values()
    assert row(table, "coop").cells["average"].mean == 45.0
    assert "average" not in row(table, "maple").cells
    assert "maple lacks shapes_dark: no average." in table.notes


def test_averages_over_datasets_with_other_seeds_have_no_spread(tmp_path):
    put(tmp_path, seed=1, data="dtd", metrics={"test": 40.0})
    put(tmp_path, seed=1, data="eurosat", metrics={"test": 50.0})
    put(tmp_path, seed=2, data="eurosat", metrics={"test": 60.0})
    table = by_title(tmp_path)["few_shot, clip tiny, average over 2 datasets"]
    cell = table.rows[0].cells["16 shots"]
    assert (cell.mean, cell.std) == (47.5, None)
    assert "coop: seed 1; seeds 1, 2." in table.notes


def test_open_vocabulary_and_unknown_protocols_are_tables_too(tmp_path):
    put(tmp_path, metrics={"open": 50.0, "base": 60.0, "new": 30.0}, protocol="open")
    put(tmp_path, metrics={"morning": 50.0, "evening": 60.0}, protocol="mine")
    titled = by_title(tmp_path)
    assert titled["open, clip tiny, shapes, 16 shots"].columns == ["open", "base", "new", "H"]
    assert titled["open, clip tiny, shapes, 16 shots"].rows[0].cells["H"].mean == pytest.approx(40.0)
    assert titled["mine, clip tiny, shapes, 16 shots"].columns == ["morning", "evening"]
