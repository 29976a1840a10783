"""What a job is and where it goes; each job of a multirun as a fresh process; one sentence for a user's mistake.

Imports neither torch nor lightning: a sweep's parent and the check for a finished run start in a second.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.singleton import Singleton
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

RESULT = "result.json"
FAILURES = "PROMPTS_SWEEP_FAILURES"  # environment: the file to which failed jobs of a sweep add their command
NAMED = ("method", "data", "clip", "protocol")
# Keys that say how or where something is run, not what: they change no result. With the value that stands in for them, as
# other keys interpolate them.
MACHINE = {
    "data_root": "data", "output": "outputs", "workers": 0, "threads": "auto", "accumulate": 1, "eval_batch_size": 100, "save_every": 60,
    "force": False, "ckpt": None, "seed": 0,
}  # fmt: skip
MACHINE_GROUPS = ("trainer", "logger", "callbacks", "hydra")


def by_shots(table: Any, shots: int) -> Any:
    """`${by_shots:{1:50,16:200},${shots}}`: the entry for this number of shots."""
    table = {int(key): value for key, value in table.items()}
    if shots not in table:
        known = ", ".join(str(key) for key in sorted(table))
        raise ValueError(f"there is no recipe for shots={shots}, only for {known}: choose one of these, or give epochs=N")
    return table[shots]


OmegaConf.register_new_resolver("by_shots", by_shots, replace=True)


@dataclass(frozen=True)
class Job:
    """A run: its names, its resolved config, its folder. Without ranks, devices, paths and clock."""

    names: dict[str, str]
    config: dict[str, Any]
    digest: str
    folder: Path

    @property
    def title(self) -> str:
        config = self.config
        return f"{self.names['method']} on {self.names['data']}, {config['shots']} shots, seed {config['seed']}"

    def result(self) -> dict[str, Any] | None:
        """What a finished run of exactly this left."""
        try:
            result = json.loads((self.folder / RESULT).read_text())
        except (OSError, json.JSONDecodeError):
            return None
        return result if result.get("digest") == self.digest else None


def describe(cfg: DictConfig, names: dict[str, str]) -> Job:
    """Resolves the config; ValueError where an interpolation or a mandatory key fails."""
    cfg = OmegaConf.create({key: cfg._get_node(key) for key in cfg if key != "hydra"})
    try:
        config = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
        neutral = OmegaConf.merge(cfg, MACHINE)
        what = OmegaConf.to_container(neutral, resolve=True)
    except OmegaConfBaseException as error:
        raise ValueError(str(error.__cause__ or error).splitlines()[0]) from error
    what = {key: value for key, value in what.items() if key not in MACHINE_GROUPS}
    if not config["fit"]:
        what["ckpt"] = content(config["ckpt"])
    digest = hashlib.sha256(json.dumps([what, names], sort_keys=True, default=str).encode()).hexdigest()[:8]
    kind = "" if config["fit"] else "eval-"
    leaf = [kind + names["protocol"], names["data"], names["clip"], names["method"]]
    folder = Path(config["output"], *leaf, f"shots{config['shots']}-{digest}", f"seed{config['seed']}")
    return Job(names, config, digest, folder)


def content(ckpt: str | None) -> str | None:
    """A digest of the file: the same prompts are the same wherever they lie."""
    path = Path(ckpt or "")
    path = path / "prompts.safetensors" if path.is_dir() else path
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def names_of(hydra_config: Any) -> dict[str, str]:
    return {key: hydra_config.runtime.choices[key] for key in NAMED}


def compose_job(overrides: list[str], conf: str | Path) -> tuple[DictConfig, dict[str, str]]:
    """The config and the names of a command line, for those that run jobs within their own process."""
    with initialize_config_dir(str(Path(conf).resolve()), version_base="1.3"):
        cfg = compose("config", list(overrides), return_hydra_config=True)
    state = Singleton.get_state()
    try:
        HydraConfig.instance().set_config(cfg)
        names = names_of(HydraConfig.get())
    finally:
        Singleton.set_state(state)
    del cfg.hydra
    return cfg, names


# ---- a multirun: each job a fresh process


class Interrupted(Exception):
    """A signal asked the run to stop; its state is in last.ckpt."""


class JobFailed(Exception):
    """A job of a multirun ended with a non-zero status; it has told why."""


def in_multirun() -> bool:
    return HydraConfig.get().mode == RunMode.MULTIRUN


def run_fresh(script: str) -> None:
    """Runs this job as its own process, forwards signals to it, and notes its command if it fails."""
    hydra = HydraConfig.get()
    folders = [source.path for source in hydra.runtime.config_sources if source.provider == "command-line"]
    options = [arg for folder in folders for arg in ("--config-dir", folder)]
    searched = [override for override in hydra.overrides.hydra if override.startswith("hydra.searchpath")]
    if hydra.job.config_name != "config":
        options += ["--config-name", hydra.job.config_name]
    command = [sys.executable, os.path.abspath(script), *options, *searched, *hydra.overrides.task]
    print("$ " + shlex.join(["python", *command[1:]]), flush=True)
    process = subprocess.Popen(command, env=os.environ | {"PYTHONUNBUFFERED": "1"})
    with forwarding(process) as asked:
        status = process.wait()
    if asked:
        raise KeyboardInterrupt
    if status:
        if FAILURES in os.environ:
            with open(os.environ[FAILURES], "a") as file:
                file.write(f"{shlex.join(['python', *command[1:]])}    # status {status}\n")
        raise JobFailed(f"status {status}: {shlex.join(command)}")


@contextmanager
def forwarding(process: subprocess.Popen):
    """Passes SIGTERM and SIGINT on to a process; yields a list of those that came."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def forward(signum: int, frame: Any) -> None:
        asked.append(signum)
        process.send_signal(signum)

    before = {number: signal.signal(number, forward) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---- the entry point's edge

_error: list[BaseException] = []


def keeping_error(call: Callable[..., Any], *args: Any) -> None:
    """Calls, and keeps an exception for `guarded`: Hydra would add lines of its own to what it sees pass."""
    try:
        call(*args)
    except BaseException as error:
        _error.append(error)


def guarded(main: Callable[[], Any]) -> int:
    """Runs a Hydra main; the exit status. A user's mistake becomes one message; HYDRA_FULL_ERROR=1 shows tracebacks."""
    full = os.environ.get("HYDRA_FULL_ERROR") == "1"
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors come through: they are shown here
    failures = None
    if FAILURES not in os.environ and {"-m", "--multirun"} & set(sys.argv):
        handle, failures = tempfile.mkstemp(prefix="failed-jobs-")
        os.close(handle)
        os.environ[FAILURES] = failures
    status = 0
    try:
        main()
        if _error:
            raise _error.pop()
    except JobFailed:
        status = 1
    except Interrupted as error:
        status = 0 if os.environ.get("LOCAL_RANK", "0") != "0" else 143  # the first rank speaks for all
        print(error if status else "", end="\n" if status else "", flush=True)
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        status = 1
        message = None if full else told(error)
        if message is None:
            traceback.print_exc()
        else:
            print(f"error: {message}", file=sys.stderr)
    finally:
        if not full:
            del os.environ["HYDRA_FULL_ERROR"]
    if failures:
        failed = Path(failures).read_text()
        os.unlink(failures)
        if failed:
            print(
                f"\n{len(failed.splitlines())} job(s) of the sweep failed; to repeat them:\n{failed}", file=sys.stderr, end=""
            )
            status = status or 1
    return status


def told(error: BaseException) -> str | None:
    """The message of a mistake that we or Hydra name, without what frameworks put around it; None for a bug."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip()
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r} as a key and its value: {text.splitlines()[0]}"
    if isinstance(error, HydraException | OmegaConfBaseException):
        cause = error.__cause__ or error
        if isinstance(cause, ConfigKeyError | ConfigAttributeError) and cause.parent_node is not None:
            return unknown_key(cause)
        text += f"\n{cause}" if isinstance(error.__cause__, OmegaConfBaseException) else ""
        options = text.split("\nConfig search path:")[0].splitlines()
        return "\n".join(line for line in options if not line.startswith("\t_"))  # _base.yaml and the like are parts
    if isinstance(error, RuntimeError) and "by peer" in text:
        return "another rank ended; the cause is in its message"
    if not isinstance(error, ValueError):
        return None
    if "Original Traceback" in text:  # from a worker process of a loader
        return text.splitlines()[-1].removeprefix("ValueError: ")
    # Ours if a line of this project says `raise`; any other ValueError is a bug, whose traceback is wanted.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    path = Path(frame.filename)
    ours = path.is_relative_to(Path(__file__).parents[1]) and "site-packages" not in path.parts
    return text if ours and (frame.line or "").startswith("raise ") else None


def unknown_key(error: ConfigKeyError | ConfigAttributeError) -> str:
    known = sorted(str(key) for key in error.parent_node if key != "hydra")
    close = difflib.get_close_matches(str(error.key), known, n=1)
    hint = f" Did you mean {close[0]}?" if close else ""
    return f"there is no key {error.full_key!r}.{hint} Keys here: {', '.join(known)}. (+{error.full_key}=... adds one.)"
