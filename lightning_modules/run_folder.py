"""The folder of a run: the files of a finished run, and the state that an interrupted run leaves."""

from __future__ import annotations

import errno
import os
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer

from files.whole import remove_temporaries, write_json
from lightning_modules import loggers, shown
from lightning_modules.assembly import Assembly
from lightning_modules.boards import boards_of
from lightning_modules.callbacks import BestOnValidation, Followed, Resumable
from lightning_modules.checkpoints import BEST, PROMPTS, save_prompts
from lightning_modules.process import is_first_rank, say
from lightning_modules.results import about, brief, result_of, table
from lightning_modules.resume_state import read_state
from lightning_modules.task import TaskModule
from prompts.learner import TrainingHooks
from runs import locks, ranks, signals
from runs.jobs import LAST, RESULT, Job
from runs.search import FOLLOWED

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


def on_all_ranks(names: list[str]) -> list[str]:
    """The union of all ranks' names, sorted."""
    names_by_rank = [names]
    if torch.distributed.is_initialized():
        names_by_rank = [[]] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(names_by_rank, names)
    return sorted(set().union(*names_by_rank))


class RunFolder:
    """The folder of a run: its result, its resume state, and cleaning up after a failure.

    Args:
        save_every, save_steps: as `Resumable` takes them.
        select: "last" or "best_val", which epoch's prompts are kept.
        force: start over where a result or a resume state is there.
    """

    def __init__(self, job: Job, save_every: float, save_steps: int | None, select: str, force: bool) -> None:
        if select not in ("last", "best_val"):
            raise ValueError(f"select={select}: choose last (the published protocols) or best_val.")
        if save_steps is not None and save_steps < 1:
            raise ValueError(f"save_steps={save_steps}: give a number of optimiser steps, 1 or more, or null for none.")
        self.job, self.path, self.force = job, job.folder, force
        self.is_new = not self.path.exists()
        self.resumes = False  # whether training begins from a state that an earlier process left
        self.resumable = Resumable(self.path, save_every, save_steps, self.identity)
        self.callbacks: list[Callback] = [self.resumable]
        if select == "best_val" and job.config["fit"]:
            self.callbacks.append(BestOnValidation(self.path))
            if FOLLOWED in os.environ:
                self.callbacks.append(Followed(Path(os.environ[FOLLOWED]), job.digest))

    @property
    def identity(self) -> dict[str, Any]:
        """The identity that a resume state stores, to be compared when it is read."""
        return {"digest": self.job.digest, "seed": self.job.config["seed"]}

    def checkpoint(self, module: TaskModule, trainer: Trainer) -> Path | None:
        """The state to resume from; ValueError where it is damaged or does not fit."""
        if self.force and is_first_rank():
            for name in (LAST, BEST):  # result.json stays until it is replaced
                (self.path / name).unlink(missing_ok=True)
        path = self.path / LAST
        if not path.exists():
            return None
        if is_first_rank():
            read_state(path, module.state_dict(), self.identity, trainer.fit_loop.state_dict())
        self.resumes = True
        say(f"  resuming from {path}", in_sweep=f"resuming {self.job.title} from {path}")
        return path

    @contextmanager
    def guard(self, trainer: Trainer) -> Iterator[None]:
        """Ends loggers with the job's status; after a failure stops the other ranks and leaves nothing half-written."""
        if is_first_rank():
            remove_temporaries(self.path)  # left by a process that was killed with SIGKILL
        watch = ranks.Watch(trainer.strategy.launcher, self.give_up)
        watch.start()
        try:
            yield
        except BaseException as error:
            # a rank's connection breaks (RuntimeError) before its process has ended: allow it two seconds
            lost = ranks.lost(2.0 if isinstance(error, RuntimeError) else 0.0)
            watch.end()
            ranks.kill()
            self.abandon()
            status = 0 if isinstance(error, signals.Interrupted) and self.is_done() else 1
            loggers.finish(status, trainer.loggers, self.path)
            if signals.asked() or isinstance(error, signals.Interrupted):
                raise self.interrupted(error) from error
            if " by SIG" in lost and isinstance(error, RuntimeError):
                raise ValueError(f"{lost}; {self.then()}.") from error
            if isinstance(error, OSError) and error.errno in FULL:
                where = error.filename or self.path  # a logger's failed write does not name its file
                raise ValueError(f"{where} cannot be written ({error.strerror}): make room; {self.then()}.") from error
            restoring = self.resumes and not self.resumable.started and trainer.state.fn == "fit"
            if restoring and not isinstance(error, ValueError | OSError):
                reason = f"{type(error).__name__}: {error}".splitlines()[0]
                raise ValueError(f"{self.path / LAST} cannot be resumed from ({reason}); force=true starts over.") from error
            raise
        watch.end()
        loggers.finish(0, trainer.loggers, None if self.job.cuts else self.path)

    def interrupted(self, error: BaseException) -> signals.Interrupted:
        """The error that ends an interrupted run: where it stopped, and what the same command does next."""
        where = error.where if isinstance(error, signals.Interrupted) else ""
        return signals.Interrupted(getattr(error, "number", None), where, self.then())

    def is_done(self) -> bool:
        """Whether the folder has a result, and no later run was started there."""
        return (self.path / RESULT).exists() and not (self.path / LAST).exists()

    def then(self) -> str:
        """What the same command does after an interrupted run, as the end of a sentence."""
        if (self.path / LAST).exists():
            return f"the same command{' without force=true' if self.force else ''} resumes from {self.path / LAST}"
        if self.is_done() and not self.force:
            return f"the result is in {self.path / RESULT}"
        return "the same command starts over"

    def abandon(self) -> None:
        """Removes the folder of a failed run that left neither a result nor a state to resume from."""
        if is_first_rank() and self.is_new and not (self.path / LAST).exists() and not (self.path / RESULT).exists():
            self.remove()

    def give_up(self) -> str:
        """Cleans up before the process is ended from another thread; returns what the same command does next."""
        self.abandon()
        locks.abandon()
        return self.then()

    def remove(self) -> None:
        """Removes the folder, and its parent folders as far as they are empty."""
        shutil.rmtree(self.path, ignore_errors=True)
        with suppress(OSError):
            for folder in self.path.parents[: len(self.job.names) + 1]:
                folder.rmdir()

    @signals.held()
    def finish(self, run: Assembly, seconds: float, stages: Sequence[Mapping[str, float]] = ()) -> dict[str, Any]:
        """Writes the prompts and, last of all, result.json; prints the metrics. A debug run (`Job.cuts`) keeps nothing.

        Args:
            run: the run, trained and tested.
            seconds: how long this process took.
            stages: the main figure by evaluation of each earlier stage, the first one first.
        """
        job, module = self.job, run.module
        result = result_of(job, run, on_all_ranks(run.data.bad_images()), seconds, stages)
        if job.cuts:
            say(f"{table(module, result)}\n  no result is kept, as this was no whole run: {', '.join(job.cuts)}")
            if is_first_rank():
                self.remove()
            return result
        if is_first_rank():
            self.write(run, result)
        module.trainer.strategy.barrier()  # a later run reads what rank 0 wrote
        say(
            f"{table(module, result)}\n  {self.path / RESULT}", f"{job.title}: {brief(result)}   ({seconds:.0f} s, {self.path})"
        )
        if job.config["fit"]:
            chosen = f"method={job.names['method']} clip={job.names['clip']}"
            saved = shlex.quote(f"ckpt={self.path}")
            say(f"next: python run.py {chosen} data=NAME fit=false {saved}    # on another dataset")
        elif run.of_released:
            folder = shlex.quote(str(self.path))
            say(f"next: python -m tools.predict {folder} --images FOLDER    # with its {PROMPTS}, as tools.export and share")
        return result

    def write(self, run: Assembly, result: dict[str, Any]) -> None:
        """Writes the files of a finished run; result.json last."""
        model, module = run.model, run.module
        boards = boards_of(module.loggers)  # type: ignore[arg-type]
        shown.note_origins(boards, run.cfg)
        if self.job.config["fit"] or run.of_released:  # a released checkpoint becomes prompts with classes, settings and CLIP
            save_prompts(self.path / PROMPTS, model, about(self.job, run))
            pictures = model.learner.artifacts(self.path) if isinstance(model.learner, TrainingHooks) else []
            shown.show_pictures(boards, pictures)
            shown.show_words(boards, model)
            shown.keep_prompts(boards, self.job, self.path / PROMPTS)
        shown.show_predictions(boards, module)
        module.write_files(self.path)
        write_json(self.path / RESULT, result, indent=1, default=str)
        for name in (LAST, BEST):  # only an unfinished run needs these
            (self.path / name).unlink(missing_ok=True)
