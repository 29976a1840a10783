import time

import pytest

import report


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """report.py on the folder: status, screen, page."""

    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path), *arguments])
        begun = time.monotonic()
        status = report.main()
        assert time.monotonic() - begun < 60
        page = tmp_path / "report.html"
        return status, capsys.readouterr(), page.read_text() if page.exists() else ""

    return call
