import time

import pytest
import torch

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


@pytest.fixture
def no_torch_load(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a stranger's file reached torch's own loaders")

    monkeypatch.setattr(torch, "load", refused)
    monkeypatch.setattr(torch.jit, "load", refused)
