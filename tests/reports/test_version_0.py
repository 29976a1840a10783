"""Results that were written before result.json had a version: real ones of commit 057befe, shortened."""

import json
from pathlib import Path

import pytest

from reports.collect import read
from reports.tables import tables

OLD = Path(__file__).with_name("version_0")
TABLES = {  # title -> column -> mean and standard deviation, as the report of that commit had them
    "base_to_new, clip tiny, shapes, 4 shots": {
        "base": (75.27777777777777, None),
        "new": (71.66666666666667, None),
        "H": (73.42785129174543, None),
    },
    "cross_dataset, clip tiny, trained on shapes, 4 shots": {
        "shapes": (61.527777777777786, 0.13888888888888928),
        "digits": (34.576757532281206, 0.14347202295552464),
        "average": (34.576757532281206, 0.14347202295552464),
    },
    "few_shot, clip tiny, shapes": {"4 shots": (61.66666666666667, None)},
}


def test_they_were_written_without_a_version():
    files = list(OLD.rglob("result.json"))
    assert len(files) == 4
    assert all({"version", "task", "figure", "summary"}.isdisjoint(json.loads(file.read_text())) for file in files)


def test_the_report_finds_them_and_has_the_same_tables():
    left_out = []
    by_title = {table.title: table for table in tables(read([OLD], left_out))}
    assert left_out == []
    assert list(by_title) == list(TABLES)
    for title, columns in TABLES.items():
        (row,) = by_title[title].rows
        assert by_title[title].columns == list(columns)
        for column, (mean, std) in columns.items():
            assert row.cells[column].mean == pytest.approx(mean, abs=1e-9)
            assert row.cells[column].std == (None if std is None else pytest.approx(std, abs=1e-9))
    assert "The average leaves shapes out." in by_title["cross_dataset, clip tiny, trained on shapes, 4 shots"].notes
