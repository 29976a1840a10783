"""The package as users install it: built as an sdist, from that a wheel, installed, and used from an empty folder.

Building fetches setuptools: `make test_installed` runs this, and the other tests need no network.
"""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
import tarfile
import zipfile

import PIL.Image
import pytest
from toys import ROOT, TESTS

pytestmark = pytest.mark.skipif("BUILD" not in os.environ, reason="builds the package: make test_installed")


@pytest.fixture(scope="session")
def dist(tmp_path_factory):
    """A folder with the sdist and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(folder), str(ROOT)], check=True, capture_output=True)
    return folder


@pytest.fixture(scope="session")
def site(dist, tmp_path_factory):
    """A folder with the installed wheel; what it needs is in this environment."""
    folder, (wheel,) = tmp_path_factory.mktemp("site"), dist.glob("*.whl")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder), str(wheel)]
    subprocess.run(pip, check=True, capture_output=True)
    return folder


@pytest.fixture
def command(site, tmp_path):
    """Runs clip-prompts in an empty folder: exit status, standard output, standard error."""

    def run(*arguments, folders=()):
        path = os.pathsep.join(map(str, (*folders, site)))
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        line = [sys.executable, str(site / "bin" / "clip-prompts"), *arguments]
        done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
        return done.returncode, done.stdout, done.stderr

    return run


def test_wheel_and_sdist_hold_all_that_runs_and_no_tests(dist):
    (wheel,), (sdist,) = dist.glob("*.whl"), dist.glob("*.tar.gz")
    in_wheel = set(zipfile.ZipFile(wheel).namelist())
    with tarfile.open(sdist) as archive:
        in_sdist = {name.partition("/")[2] for name in archive.getnames()}
    folders = ("conf", "datamodules", "files", "hydra_plugins", "lightning_modules", "prompts", "reports", "runs", "tools")
    listed = subprocess.run(["git", "ls-files", *folders, "run.py", "report.py"], cwd=ROOT, capture_output=True, text=True)
    for name in filter(None, listed.stdout.splitlines()):
        assert name in in_wheel
        assert name in in_sdist
    assert not {name for name in in_wheel if name.startswith(("tests/", "benchmarks/", ".ci/"))}


def test_trains_reports_and_looks_into_a_run_from_any_folder(command, tmp_path):
    status, output, errors = command("run", "epochs=1", "shots=1")
    assert status == 0, errors
    assert "accuracy" in output
    (result,) = tmp_path.rglob("result.json")
    assert command("report", "outputs")[0] == 0
    assert (tmp_path / "outputs" / "report.html").exists()
    assert command("insight", str(result.parent), "--only", "words")[0] == 0


def test_a_sweep_starts_its_jobs_from_the_package(command, tmp_path):
    status, _, errors = command("run", "-m", "method=zeroshot", "shots=1", "seed=1,2")
    assert status == 0, errors
    assert len(list(tmp_path.rglob("result.json"))) == 2


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (("run", "shots=x"), 1, "error: shots='x'"),
        (("doctor", "data=dtd"), 1, ""),
        (("train",), 2, "use one of run, report"),
    ],
)
def test_mistakes_are_one_sentence(command, line, status, said):
    code, _, errors = command(*line)
    assert code == status
    assert errors.startswith(said) or said in errors
    assert len(errors.splitlines()) <= 1


def test_configs_and_a_package_of_the_users_extend_it(command, tmp_path):
    conf = str(TESTS / "additions" / "conf")
    status, _, errors = command("run", "--config-dir", conf, "method=visual_adapter", "epochs=1", "shots=1", folders=(TESTS,))
    assert status == 0, errors
    assert len(list(tmp_path.rglob("result.json"))) == 1


def test_the_walkthrough(command, tmp_path):
    """Train, predict, export, share, evaluate what was shared: the commands of docs/walkthrough.md, as they stand there."""
    pytest.importorskip("onnxruntime")
    page = (ROOT / "docs" / "walkthrough.md").read_text()
    lines = [shlex.split(line) for line in re.findall(r"^    clip-prompts (.*)$", page, re.MULTILINE)]
    assert [line[0] for line in lines] == ["run", "predict", "export", "share", "run"]
    for name, colour in zip("abc", ("red", "blue", "green"), strict=True):
        PIL.Image.new("RGB", (60, 45), colour).save(tmp_path / f"{name}.png")
    run = None
    for line in lines:
        status, output, errors = command(*(run if word == "RUN" else word for word in line))
        assert status == 0, (line, errors)
        if run is None:
            run = str(next(tmp_path.rglob("result.json")).parent.relative_to(tmp_path))
            assert run in output
    trained, shared = sorted(tmp_path.rglob("result.json"), key=lambda path: path.stat().st_mtime)
    assert json.loads(trained.read_text())["metrics"] == json.loads(shared.read_text())["metrics"]
    with (tmp_path / "predictions.csv").open() as file:
        predicted = [row["class_1"] for row in csv.DictReader(file)]
    program = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL).group(1)
    elsewhere = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert elsewhere.stdout.strip() == str(predicted), elsewhere.stderr
