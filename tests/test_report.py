import pytest
from fakes import guessed, put

import report


@pytest.fixture
def command(monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["report.py", *map(str, arguments)])
        return report.main(), capsys.readouterr()

    return call


def two_methods(folder):
    for method, skill in (("coop", 0.8), ("zeroshot", 0.5)):
        for shots in (1, 16):
            metrics, arrays = guessed(skill, seed=shots)
            put(folder, method, shots=shots, metrics={"test": metrics}, predictions={"test": arrays})


def test_the_table_comes_first_then_where_the_plots_are(tmp_path, command):
    two_methods(tmp_path)
    status, shown = command(tmp_path)
    assert status == 0
    order = ["few_shot, clip tiny, shapes", "coop", "accuracy.png", "report.html", "result.json"]
    assert sorted(order, key=shown.out.index) == order
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert "Classes gained and lost" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("form", "start"), [("--markdown", "| few_shot"), ("--latex", r"\begin{table}"), ("--csv", "table,row")]
)
def test_other_forms_print_the_tables_and_write_nothing(tmp_path, command, form, start):
    two_methods(tmp_path)
    status, shown = command(tmp_path, form)
    assert status == 0
    assert shown.out.startswith(start)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"result.json", "predictions.npz"}


def test_many_datasets_are_their_average_on_the_screen(tmp_path, command):
    for at in range(5):
        put(tmp_path, data=f"data{at}")
    _, shown = command(tmp_path)
    assert "average over 5 datasets" in shown.out
    assert "data3" not in shown.out
    assert "5 tables by dataset: on the page, or with --all" in shown.out
    _, shown = command(tmp_path, "--all")
    assert "few_shot, clip tiny, data3" in shown.out
    assert "data3" in (tmp_path / "report.html").read_text()


def test_compare(tmp_path, command):
    two_methods(tmp_path)
    status, shown = command(tmp_path, "--compare", "coop", "zeroshot")
    assert status == 0
    assert "coop minus zeroshot" in shown.out
    status, shown = command(tmp_path, "--compare", "coop", "maple")
    assert status == 1
    assert "no result of 'maple'" in shown.err


def test_several_folders_and_a_page_elsewhere(tmp_path, command):
    put(tmp_path / "a", "coop")
    put(tmp_path / "b", "maple")
    status, shown = command(tmp_path / "a", tmp_path / "b", "--page", tmp_path / "both.html")
    assert status == 0
    assert "coop" in shown.out
    assert "maple" in shown.out
    assert "maple" in (tmp_path / "both.html").read_text()


def test_a_page_that_cannot_be_written_is_one_sentence(tmp_path, command):
    path = put(tmp_path)
    status, shown = command(tmp_path, "--page", path / "report.html")
    assert status == 1
    assert shown.err.startswith(f"error: the page cannot be written to {path}/report.html")
    assert shown.err.count("\n") == 1


def test_an_empty_folder_is_one_sentence(tmp_path, command):
    status, shown = command(tmp_path)
    assert status == 1
    assert shown.err.count("\n") == 1
    assert "no result.json" in shown.err


@pytest.mark.parametrize(
    ("form", "option"),
    [
        (["--leaderboard"], ["--decimals", "4"]),
        (["--leaderboard"], ["--wandb", "x"]),
        (["--leaderboard"], ["--config-dir", "."]),
        (["--csv"], ["--wandb", "x"]),
        (["--csv"], ["--decimals", "1"]),
        (["--markdown"], ["--all"]),
        (["--latex"], ["--page", "x.html"]),
        (["--compare", "coop", "zeroshot"], ["--wandb", "x"]),
    ],
)
def test_an_option_without_effect_is_refused(tmp_path, command, capsys, form, option):
    with pytest.raises(SystemExit):
        command(tmp_path, *form, *option)
    assert f"{option[0]} has no effect with {form[0]}" in capsys.readouterr().err
