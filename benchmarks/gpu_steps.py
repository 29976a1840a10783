"""Measurements of `benchmarks.gpu`: the time of steps, their FLOPs, and the time in which a GPU was idle."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterable
from typing import Any

import torch
from lightning.pytorch import Callback
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

WARM = 3  # steps before the timed ones; FLOPs are counted in the last of them


def sync(device: torch.device) -> None:
    """Waits for a GPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """FLOP a second of a plain product of square matrices, the median of 10."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    seconds = []
    for _ in range(12):
        sync(device)
        start = time.perf_counter()
        a @ b
        sync(device)
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[2:])


def idle_share(events: Iterable[Any]) -> float | None:
    """The share of the time between the first and the last kernel in which none ran, of a profiler's events; None where there
    is no kernel."""
    spans = sorted((e.time_range.start, e.time_range.end) for e in events if e.device_type == DeviceType.CUDA)
    if not spans:
        return None
    busy, reached = 0.0, spans[0][0]
    for start, end in spans:
        busy += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return 1 - busy / (reached - spans[0][0])


class Measure(Callback):
    """Times steps, counts the FLOPs of one, and profiles as many steps as were timed."""

    def __init__(self, device: torch.device, steps: int) -> None:
        self.device, self.steps, self.done = device, steps, 0
        self.counter, self.profiler = FlopCounterMode(display=False), None
        self.marks: list[float] = []

    def on_train_batch_start(self, *_) -> None:
        """Called by Lightning."""
        if self.done == WARM - 1:
            self.counter.__enter__()

    def on_train_batch_end(self, *_) -> None:
        """Called by Lightning."""
        self.done += 1
        if self.done == WARM:
            self.counter.__exit__(None, None, None)
            if self.device.type == "cuda":
                torch.cuda.reset_peak_memory_stats(self.device)
        if self.done in (WARM, WARM + self.steps):
            sync(self.device)
        if WARM <= self.done <= WARM + self.steps:
            self.mark()
        if self.done == WARM + self.steps and self.device.type == "cuda":
            self.profiler = profile(activities=[ProfilerActivity.CUDA])  # type: ignore[assignment]
            self.profiler.__enter__()  # type: ignore[attr-defined]

    def mark(self) -> None:
        """Notes when the device gets here."""
        mark = time.perf_counter() if self.device.type == "cpu" else torch.cuda.Event(enable_timing=True)
        if self.device.type == "cuda":
            mark.record()  # type: ignore[union-attr]
        self.marks.append(mark)  # type: ignore[arg-type]

    def on_train_end(self, *_) -> None:
        """Called by Lightning."""
        sync(self.device)
        if self.profiler:
            self.profiler.__exit__(None, None, None)

    @property
    def seconds(self) -> list[float]:
        """Of each timed step."""
        pairs = zip(self.marks, self.marks[1:], strict=False)
        return [b - a if self.device.type == "cpu" else a.elapsed_time(b) / 1e3 for a, b in pairs]  # type: ignore[attr-defined]

    @property
    def batches(self) -> int:
        """How many steps are to be run."""
        return WARM + 2 * self.steps
