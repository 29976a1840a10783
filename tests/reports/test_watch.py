import os

import pytest
from fakes import put

import report
from reports.watch import stamps, unfinished, watch


class Looks:
    """Waits that act between two looks; the one after the last is Ctrl-C."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def __call__(self, seconds):
        if not self.actions:
            raise KeyboardInterrupt
        self.actions.pop(0)()


def test_the_report_is_made_again_for_every_new_result_and_only_then(tmp_path, capsys):
    shown = []
    looks = Looks(lambda: put(tmp_path, "coop"), lambda: None, lambda: put(tmp_path, "maple"), lambda: None)
    with pytest.raises(KeyboardInterrupt):
        watch([tmp_path], 5, lambda: shown.append(len(stamps([tmp_path]))), looks)
    assert shown == [1, 2]
    assert capsys.readouterr().out == "no result yet: waiting for the first\n"


def test_a_result_that_is_run_again_is_shown_again(tmp_path):
    file = put(tmp_path)
    shown = []
    with pytest.raises(KeyboardInterrupt):
        watch([tmp_path], 5, lambda: shown.append(1), Looks(lambda: file.write_text(file.read_text() + " ")))
    assert shown == [1, 1]


def test_runs_that_have_begun_are_counted(tmp_path):
    done = put(tmp_path)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".seed1.lock").touch()  # before its first checkpoint
    (tmp_path / "run" / "seed2").mkdir()
    (tmp_path / "run" / "seed2" / "last.ckpt").touch()
    (done.parent.parent / f".{done.parent.name}.lock").touch()  # left by a kill after its end
    (tmp_path / "study" / ".sweep").mkdir(parents=True)
    (tmp_path / "study" / ".sweep" / ".search.lock").touch()  # of a search, which is no run
    assert unfinished([tmp_path]) == 2
    (tmp_path / "run" / "seed2" / "ended_early.txt").touch()  # by a search
    assert unfinished([tmp_path]) == 1
    os.utime(tmp_path / "run" / "seed2" / "last.ckpt", ns=(2**62, 2**62))  # the same command runs it on
    assert unfinished([tmp_path]) == 2


def test_a_run_that_begins_or_ends_without_a_new_result_is_shown(tmp_path):
    state = put(tmp_path).parent / "last.ckpt"
    shown = []
    with pytest.raises(KeyboardInterrupt):
        watch([tmp_path], 5, lambda: shown.append(unfinished([tmp_path])), Looks(state.touch, state.unlink, lambda: None))
    assert shown == [0, 1, 0]


def test_the_command_ends_with_a_page_that_does_not_load_itself_again(tmp_path, monkeypatch, capsys):
    put(tmp_path, "coop")
    pages = []

    def sleep(seconds):
        pages.append((tmp_path / "report.html").read_text())
        raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    monkeypatch.setattr("reports.watch.watch.__defaults__", (sleep,))
    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path), "--watch", "2"])
    assert report.main() == 0
    refresh = '<meta http-equiv="refresh" content="2">'
    assert refresh in pages[0]
    assert refresh not in (tmp_path / "report.html").read_text()
    assert "finished runs: 1, unfinished: 0" in capsys.readouterr().out


@pytest.mark.parametrize("also", [["--csv"], ["--watch", "0"]])
def test_what_cannot_be_watched_is_one_sentence(tmp_path, monkeypatch, capsys, also):
    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path), "--watch", "5", *also])
    with pytest.raises(SystemExit):
        report.main()
    assert "--watch" in capsys.readouterr().err.splitlines()[-1]
