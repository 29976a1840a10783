"""Sharing prompts: a folder, and a hub that is a server of the test's own, from which a run then evaluates them."""

import base64
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from huggingface_hub.errors import HfHubHTTPError
from toys import ROOT

import run as entry
from runs import jobs, launch
from tools import share

OPTIONS = ["method=coop", "shots=1", "epochs=1", "logger=none", "callbacks=none", "trainer=cpu", "features.store=null"]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The folders of two seeds of one configuration, and of another configuration."""
    output = tmp_path_factory.mktemp("runs")
    for options in (["seed=1"], ["seed=2"], ["seed=1", "shots=2"]):
        entry.run(*jobs.compose_job([*OPTIONS, *options, f"output={output}"], ROOT / "conf"))
    return sorted(path.parent for path in output.rglob("result.json"))


@pytest.fixture
def command(monkeypatch, capsys):
    """Runs the command: exit status, screen, errors."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["share", *map(str, arguments)])
        status = launch.exit_status_of(share.main)
        return status, *capsys.readouterr()

    return run


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as an upload in one commit and a download need."""

    def log_message(self, *arguments):
        pass

    def answer(self, content, status=200, **headers):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("Authorization") != "Bearer secret":
            self.answer({"error": "log in"}, 401)
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self.answer({"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})
        elif "/commit/" in self.path:
            entries = [json.loads(line) for line in body.splitlines()]
            for value in (entry["value"] for entry in entries if entry["key"] == "file"):
                self.server.files[value["path"]] = base64.b64decode(value["content"])
            self.answer({"success": True, "commitOid": COMMIT, "commitUrl": f"{self.server.url}/me/birds/commit/{COMMIT}"})
        else:
            self.answer({"url": f"{self.server.url}/me/birds", "name": "me/birds", "id": "1"})

    def do_GET(self):
        name = self.path.partition("/resolve/")[2].partition("/")[2]
        if self.path.startswith("/me/birds/") and name in self.server.files:
            self.answer(self.server.files[name], X_Repo_Commit=COMMIT, ETag='"1"')
        else:
            self.answer(
                {"error": "nothing"}, 404, X_Error_Code="RepoNotFound" if "/me/birds/" not in self.path else "EntryNotFound"
            )

    do_HEAD = do_GET


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub in this process; what is downloaded goes to an empty cache."""
    from huggingface_hub import constants

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.files, server.url = {}, f"http://127.0.0.1:{server.server_port}"
    template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, server.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_TOKEN", "secret")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_folder_has_prompts_and_a_card(runs, command, tmp_path):
    status, _, errors = command(*runs[:2], "--to", f"{tmp_path}/shared")
    assert status == 0, errors
    assert sorted(path.name for path in (tmp_path / "shared").iterdir()) == ["README.md", "prompts.safetensors"]
    assert (tmp_path / "shared/prompts.safetensors").read_bytes() == (runs[0] / "prompts.safetensors").read_bytes()
    _, head, text = (tmp_path / "shared/README.md").read_text().split("---\n")
    figures = [json.loads((folder / "result.json").read_text())["metrics"]["test"]["accuracy"] for folder in runs[:2]]
    metric = yaml.safe_load(head)["model-index"][0]["results"][0]["metrics"][0]
    assert metric["value"] == pytest.approx(sum(figures) / 2, abs=1e-3)
    assert f"| test | {sum(figures) / 2:.2f} ± " in text
    assert "Seeds: 1, 2" in text
    assert str(runs[0]) not in text


def test_through_a_hub(runs, command, hub, tmp_path):
    status, screen, errors = command(runs[0], "--to", "me/birds")
    assert status == 0, errors
    assert screen.strip() == f"{hub.url}/me/birds"
    assert set(hub.files) == {"prompts.safetensors", "README.md"}
    options = [*OPTIONS, "fit=false", "ckpt=hf-hub:me/birds", f"output={tmp_path}"]
    result = entry.run(*jobs.compose_job(options, ROOT / "conf"))
    assert result["metrics"] == json.loads((runs[0] / "result.json").read_text())["metrics"]


def test_what_is_not_on_the_hub_is_one_sentence(runs, command, hub, monkeypatch):
    for ckpt, said in {
        "hf-hub:me/birds": "has no prompts.safetensors",
        "hf-hub:me/nothing": "has no such repository",
        "hf-hub:me": "is no repository",
        "hf-hub:me/../x": "is no repository",
    }.items():
        with pytest.raises(ValueError, match=said):
            jobs.compose_job([*OPTIONS, "fit=false", f"ckpt={ckpt}"], ROOT / "conf")
    monkeypatch.setenv("HF_TOKEN", "wrong")
    status, _, errors = command(runs[0], "--to", "me/birds")
    assert (status, errors.count("\n")) == (1, 1)
    assert "log in (HF_TOKEN)" in errors


def test_a_hub_out_of_reach_is_one_sentence(runs, command, hub, monkeypatch):
    def refuse(*arguments, **options):
        raise HfHubHTTPError.__bases__[0]("[Errno 111] Connection refused")  # of the client, and no OSError

    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", refuse)
    status, _, errors = command(runs[0], "--to", "me/birds")
    assert (status, errors.count("\n")) == (1, 1)
    assert "me/birds cannot be uploaded ([Errno 111] Connection refused)" in errors


def test_runs_that_have_no_mean_are_refused(runs, command, tmp_path):
    status, _, errors = command(runs[0], runs[2], "--to", f"{tmp_path}/shared")
    assert status == 1
    assert "differ in more than the seed" in errors
    assert not (tmp_path / "shared").exists()
    assert "holds no finished run" in command(tmp_path, "--to", "me/birds")[2]
