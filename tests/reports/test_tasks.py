"""A task's sections: the module that makes them is named by a yaml file of the project or the user, never by a result."""

import sys

import pytest
from fakes import full_set, put
from markupsafe import Markup

import report
from reports.collect import read
from reports.page import page
from reports.style import Palette
from reports.tasks import task_reports

RECALL = {"key": "recall", "title": "recall at 1", "unit": "%", "higher_is_better": True}
MODULE = """
from reports.pieces import note

def sections(groups, tables, palette):
    marked = [group.label for group in groups if group.is_baseline]
    return [("Toys", note(f"{len(tables)} tables, against {marked}")), ("Empty", "")]
"""


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A folder of configs with a task, whose report is a module beside it."""
    folder = tmp_path / "conf"
    (folder / "task").mkdir(parents=True)
    (folder / "task" / "toy.yaml").write_text("name: toy\nreport: toy_sections\nbaseline: coop\n")
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_sections.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "toy_sections", raising=False)
    return folder


@pytest.fixture
def results(tmp_path):
    """Of a task that the project does not know, beside one that it knows."""
    folder = tmp_path / "outputs"
    for method, value in (("coop", 40.0), ("maple", 50.0)):
        history = [{"epoch": epoch, "test": {"recall": value - epoch}} for epoch in range(2)]
        about = {"history": history, "train_loss": [2.0, 1.0], "seconds": 1.0, "trainable_parameters": 5}
        put(folder, method, metrics={"test": {"recall": value}}, task="toy", figure=RECALL, digest=method, **about)
    put(folder, "zeroshot")
    return folder


def test_the_project_says_what_is_classifications():
    known = task_reports(["classification"])["classification"]
    assert known.module.__name__ == "reports.classification"
    assert known.baseline == "zeroshot"
    assert known.item_test is known.module.item_test


def test_results_of_a_task_that_is_not_known_have_the_sections_of_all(results, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report.py", str(results)])
    assert report.main() == 0
    output = capsys.readouterr()
    assert output.err == ""
    for words in ("toy, few_shot, clip tiny, shapes", "classification, few_shot, clip tiny", "accuracy in %, recall at 1 in %"):
        assert words in " ".join(output.out.split())
    text = (results / "report.html").read_text()
    for heading in ("toy: Recall at 1", "toy: Learning curves", "toy: Cost", "toy: All results", "classification: Accuracy"):
        assert f"<h2>{heading}</h2>" in text
    assert "Toys" not in text
    assert "test recall at 1 in %" in text


def test_a_task_of_ones_own(results, toy, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report.py", str(results), "--config-dir", str(toy)])
    assert report.main() == 0
    text = (results / "report.html").read_text()
    assert "<h2>toy: Toys</h2>" in text
    assert "1 tables, against [&#39;coop&#39;]" in text
    assert "Empty" not in text
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["report.py", str(results), "--compare", "maple", "coop", "--config-dir", str(toy)])
    assert report.main() == 0
    assert "+10.00" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["toy_sections", "../conf/task/toy", "os", "classification.yaml", "toy/../toy", "_x"])
def test_a_result_chooses_no_module(tmp_path, toy, task):
    put(tmp_path / "outputs", task=task)
    (known,) = task_reports((group.task for group in read([tmp_path / "outputs"])), toy).values()
    assert known.module is None
    assert "toy_sections" not in sys.modules


def test_the_projects_own_yaml_goes_first(toy):
    (toy / "task" / "classification.yaml").write_text("report: toy_sections\n")
    assert task_reports(["classification"], toy)["classification"].module.__name__ == "reports.classification"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("report: [", "toy.yaml cannot be read"),
        ("report: 5", "report is 5, not the name of a module"),
        ("report: not.there", "cannot be imported"),
        ("report: ''", "cannot be imported"),
        ("report: json", "has no function sections"),
        ("baseline: [a]", "baseline is"),
    ],
)
def test_a_yaml_that_is_wrong_is_one_sentence(toy, content, sentence):
    (toy / "task" / "toy.yaml").write_text(content)
    with pytest.raises(ValueError, match=sentence) as caught:
        task_reports(["toy"], toy)
    assert len(str(caught.value).splitlines()) == 1


def test_a_task_without_sections_of_its_own(toy):
    (toy / "task" / "toy.yaml").write_text("name: toy\n")
    assert task_reports(["toy"], toy)["toy"].sections([], [], Palette([])) == []


def test_sections_of_a_task_are_escaped_like_others(results):
    class Module:
        @staticmethod
        def sections(groups, tables, palette):
            return [("<b>", "<i>text</i>"), ("Fine", Markup("<em>x</em>"))]

    known = task_reports(["toy"])["toy"]
    text = page(read([results]), "x", reports={"toy": type(known)(Module)})
    assert "<b>" not in text
    assert "<i>text" not in text
    assert "<em>x</em>" in text


def test_the_frame_has_no_section_of_a_task(tmp_path):
    text = page(read([full_set(tmp_path)]), "x")
    assert "<h2>Significance</h2>" in text
    for heading in ("Base against new classes", "Classes gained and lost", "Confusions", "Calibration"):
        assert heading not in text
    assert "McNemar" not in text
