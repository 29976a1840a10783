"""Where the time of a run's training steps goes: Lightning's actions, the towers and the optimiser, by the wall clock."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Iterator
from typing import ClassVar
from unittest import mock

import torch
from lightning.pytorch.profilers import Profiler
from torch.optim.optimizer import register_optimizer_step_post_hook

from prompts.engine.clip import FrozenCLIP

PARTS = ("image", "text", "data", "head", "optimiser", "Lightning")


class Clock(Profiler):
    """Seconds of Lightning's actions and of ours, from the second epoch on."""

    latest: ClassVar[Clock]  # of the run that was started last

    def __init__(self) -> None:
        super().__init__()
        self.seconds: Counter[str] = Counter()
        self.started: dict[str, float] = {}
        self.epochs = self.steps = 0
        self.counts = False  # within an epoch after the first
        self.last = 0.0  # when the last action of the backward pass, or before the update, ended
        Clock.latest = self

    def now(self) -> float:
        """Seconds, when the device has done what it was given."""
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def add(self, name: str, since: float) -> None:
        """Counts the time since then, after the first epoch."""
        if self.counts:
            self.seconds[name] += self.now() - since  # type: ignore[assignment]

    def start(self, action_name: str) -> None:
        """Called by Lightning."""
        if action_name == "run_training_epoch":
            self.epochs += 1
            self.counts = self.epochs > 1
        self.steps += action_name == "run_training_batch" and self.counts
        self.started[action_name] = self.now()

    def stop(self, action_name: str) -> None:
        """Called by Lightning."""
        kind = action_name.rsplit(".", 1)[-1]
        self.add(kind if kind in ("training_step", "backward", "run_training_epoch") else "", self.started[action_name])
        self.counts &= kind != "run_training_epoch"
        if kind in ("train_dataloader_next", "batch_to_device", "transfer_batch_to_device"):
            self.add("data", self.started[action_name])
        if kind in ("backward", "on_before_optimizer_step"):
            self.last = self.now()

    def updated(self, *_) -> None:
        """Called after an optimiser's update."""
        self.add("optimiser", self.last)

    def image_gradient(self, _) -> None:
        """Called when the backward pass reaches the image tower."""
        self.image_at = self.now()
        self.add("text backward", self.started["[Strategy]SingleDeviceStrategy.backward"])

    def shares(self) -> dict[str, float]:
        """Part -> share of the time of the counted epochs (0-1)."""
        s = self.seconds
        of_image = s["backward"] - s["text backward"] if s["text backward"] else 0.0
        parts = {"image": s["image"] + of_image, "text": s["text"] + s["backward"] - of_image, "data": s["data"]}
        parts |= {"head": s["training_step"] - s["image"] - s["text"], "optimiser": s["optimiser"]}
        parts["Lightning"] = s["run_training_epoch"] - sum(parts.values())
        return {name: seconds / s["run_training_epoch"] for name, seconds in parts.items()}


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Within, the towers and the optimiser's update report to the clock of the run."""
    originals = {"image": FrozenCLIP.encode_image, "text": FrozenCLIP.encode_text}

    def reporting(part: str):
        def encode(*args, **kwargs) -> torch.Tensor:
            clock = Clock.latest
            since = clock.now()
            features = originals[part](*args, **kwargs)  # type: ignore[operator]
            clock.add(part, since)
            if part == "image" and features.requires_grad:
                features.register_hook(clock.image_gradient)
            return features

        return encode

    hook = register_optimizer_step_post_hook(lambda *args: Clock.latest.updated(*args))
    with (
        mock.patch.object(FrozenCLIP, "encode_image", reporting("image")),
        mock.patch.object(FrozenCLIP, "encode_text", reporting("text")),
    ):
        yield
    hook.remove()
