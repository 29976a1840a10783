import pytest
from fakes import put

import report
from reports.collect import read
from reports.leaderboard import boards, head, lines, page


def two_folders(tmp_path):
    for seed in (1, 2):
        for data, ours, theirs in (("dtd", 60.0, 50.0), ("eurosat", 70.0, 80.0), ("food101", 90.0, 85.0)):
            put(tmp_path / "ours", "coop", seed, data=data, metrics={"test": ours + seed})
            put(tmp_path / "theirs", "coop", seed, data=data, metrics={"test": theirs + seed})
    put(tmp_path / "theirs", "maple", data="dtd", metrics={"test": 99.0})
    return {name: read([tmp_path / name]) for name in ("ours", "theirs")}


def test_entries_with_every_dataset_are_ranked_and_others_stand_below(tmp_path):
    (board,) = boards(two_folders(tmp_path))
    assert board.datasets == ["dtd", "eurosat", "food101"]
    assert [entry.label for entry in board.entries] == ["coop (ours)", "coop (theirs)", "maple (theirs)"]
    ours, theirs, maple = board.entries
    assert (ours.mean_rank, theirs.mean_rank) == (pytest.approx(4 / 3), pytest.approx(5 / 3))
    assert ours.average == pytest.approx((61.5 + 71.5 + 91.5) / 3)
    assert maple.mean_rank is maple.average is None
    assert maple.cells["dtd"].mean == 99  # the best figure of a dataset is no reason for a place
    assert (ours.seeds, maple.seeds) == (2, 1)
    assert lines(board)[0] == ["coop (ours)", "1", "1.33", "74.83", "61.50 ± 0.50", "71.50 ± 0.50", "91.50 ± 0.50", "2"]
    assert lines(board)[2] == ["maple (theirs)", "–", "", "", "99.00", "", "", "1"]
    assert len(head(board)) == len(lines(board)[0])


def test_equal_figures_share_a_rank_and_lower_may_be_better(tmp_path):
    figure = {"key": "median_rank", "title": "median rank", "unit": "", "higher_is_better": False}
    for method, value in (("a", 3.0), ("b", 1.0), ("c", 3.0)):
        put(tmp_path, method, metrics={"test": value}, figure=figure)
    (board,) = boards({"all": read([tmp_path])})
    assert [(entry.label, entry.mean_rank) for entry in board.entries] == [("b", 1.0), ("a", 2.5), ("c", 2.5)]


def test_the_harmonic_mean_stands_for_base_and_new(tmp_path):
    put(tmp_path, "coop", protocol="base_to_new", metrics={"base": 80.0, "new": 40.0})
    (board,) = boards({"all": read([tmp_path])})
    assert board.entries[0].cells["shapes"].mean == pytest.approx(2 * 80 * 40 / 120)
    assert board.what.startswith("H, ")


def test_the_command_writes_a_page_without_scripts(tmp_path, monkeypatch, capsys):
    two_folders(tmp_path)
    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path / "ours"), str(tmp_path / "theirs"), "--leaderboard"])
    assert report.main() == 0
    content = (tmp_path / "ours" / "leaderboard.html").read_text()
    assert "mean rank" in content
    assert "<script" not in content
    assert "leaderboard.html" in capsys.readouterr().out


def test_names_of_results_are_text_on_the_page(tmp_path):
    put(tmp_path, "<b>coop</b>")
    assert "<b>coop" not in page(boards({"all": read([tmp_path])}), "title")
