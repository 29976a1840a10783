from __future__ import annotations

import copy
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import PIL.Image
import pytest
import torch

TESTS = Path(__file__).parent
ROOT = TESTS.parent
for folder in map(
    str, (ROOT, TESTS, TESTS / "reports", TESTS / "tools")
):  # wherever pytest is started, and whether the project is installed or not
    if folder not in sys.path:
        sys.path.insert(0, folder)
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("PROMPT_CACHE", str(ROOT / ".pytest_cache" / "prompt-features"))


def pytest_configure(config):
    import faster

    faster.remember()
    faster.pause_collector()


def pytest_collection_finish(session):
    import faster

    if "open_clip" in sys.modules:
        faster.share_vocabulary()
    faster.resume_collector()


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)  # the tensors are tiny: threads that wait for each other cost more than they give


@pytest.fixture(autouse=True)
def _forget_signals():
    """A run that a test interrupts notes the signal for its process, which here goes on to other tests."""
    yield
    from runs import signals

    signals.restore(signals.install())


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    return Path(os.environ.get("GOLDEN_DIR", TESTS / "golden"))


@pytest.fixture(scope="session")
def forks():
    """The process from which runs are forked."""
    from forked import Forks

    server = Forks()
    yield server
    server.close()


@pytest.fixture
def cli(forks, tmp_path):
    """Runs run.py with the tests' groups as a process of its own, in an empty folder. It, its ranks and the jobs of a sweep are
    forked from a process that has imported everything; with `fresh` they are new interpreters, as a user's."""

    def run(*overrides: str, sweep: bool = False, fresh: bool = False, **env: str) -> subprocess.CompletedProcess[str]:
        from toys import command

        line = command(*overrides, sweep=sweep)
        if not fresh:
            return forks.complete(line[1:], tmp_path, spares=4 * sweep or int("trainer=ddp_cpu" in overrides), **env)
        paths = os.pathsep.join([str(TESTS), str(ROOT)])
        environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"} | env
        return subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)

    return run


@pytest.fixture
def run_here(tmp_path, monkeypatch):
    """Composes and runs a job within this process; with the toy clip, data and method unless overridden."""
    monkeypatch.chdir(tmp_path)

    def run(*overrides: str) -> dict:
        import run as entry
        from runs import jobs

        groups = ["clip=toy", "data=toy", "method=toy", "trainer=cpu", "callbacks=none", "logger=none", "epochs=2"]
        chosen = {override.split("=")[0] for override in overrides}
        groups = [group for group in groups if group.split("=")[0] not in chosen]
        search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
        return entry.run(*jobs.compose_job([search, *groups, *overrides], ROOT / "conf"))

    return run


@pytest.fixture(scope="session")
def one_image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.jpg"
    PIL.Image.new("RGB", (4, 3), (200, 10, 10)).save(path)
    return path


@pytest.fixture
def put_images(one_image) -> Callable[[Path, Iterable[str]], None]:
    def put(root: Path, paths: Iterable[str]) -> None:
        for path in paths:
            os.makedirs((root / path).parent, exist_ok=True)
            shutil.copyfile(one_image, root / path)

    return put


@pytest.fixture
def put_text() -> Callable[[Path, str], None]:
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return put


@pytest.fixture
def run_doctor(tmp_path, capsys):
    """Runs the doctor on tmp_path; it must change nothing. Returns (status, what it printed)."""

    from tools import doctor

    def everything() -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def run(name: str, *options: str) -> tuple[int, str]:
        before = everything()
        status = doctor.main([f"data={name}", f"data_root={tmp_path}", *options])
        assert everything() == before
        return status, "".join(capsys.readouterr()).replace(f"{tmp_path}/", "")

    return run


TARGETS = {}  # composed datasets, by the overrides that name them


@pytest.fixture
def targets_once(monkeypatch):
    """The datasets that a protocol goes on to are composed once: neither the method nor the shots enter them."""
    from runs import jobs

    compose = jobs.compose

    def remembered(config, overrides, **options):
        if options:  # a whole job
            return compose(config, overrides, **options)
        key = tuple(overrides)
        TARGETS[key] = TARGETS.get(key) or compose(config, overrides)
        return copy.deepcopy(TARGETS[key])

    monkeypatch.setattr(jobs, "compose", remembered)
