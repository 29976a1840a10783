"""The notebook of docs/ runs from its first cell to its last."""

import json

import pytest
from toys import ROOT

NOTEBOOK = ROOT / "docs" / "first_steps.ipynb"


def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("OUTPUTS", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbclient.NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT / "docs")}}).execute()
    assert list(tmp_path.rglob("prompts.safetensors"))
    assert "[2, 128]" in notebook.cells[-1].outputs[0].data["text/plain"]


def test_the_notebook_is_committed_without_outputs():
    cells = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert len(cells) > 5
    assert not [cell for cell in cells if cell["outputs"] or cell["execution_count"]]
