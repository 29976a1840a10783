"""Functions that the benchmarks share: runs of both sides in turn, medians with their spread, peak memory, the machine's
name."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

Side = Callable[[], Any]  # does the work once


def where(device: torch.device) -> str:
    """The name of the device that computes."""
    return torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"


def seconds_of(work: Side, device: torch.device) -> float:
    """Seconds of the wall clock until the work, and the device, are done."""
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def in_turns(
    sides: Mapping[Any, Side], repeats: int, device: torch.device | None = None, at_least: float = 0.0
) -> dict[Any, list[float]]:
    """Seconds of each run of each side: one after the other, `repeats` times over, so that a noisy machine disturbs them alike.
    In its turn a side runs again until it has taken `at_least` seconds, as a short one would otherwise be seen too rarely."""
    device = device or torch.device("cpu")
    times: dict[Any, list[float]] = {name: [] for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            taken = [seconds_of(work, device)]
            while sum(taken) < at_least:
                taken.append(seconds_of(work, device))
            times[name] += taken
    return times


def summary(values: Sequence[float], form: str) -> str:
    """Median (smallest to largest)."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def ratio(slow: Sequence[float], fast: Sequence[float], form: str = ".1f") -> str:
    """Ratio of the medians, and its spread: the fastest slow one against the slowest fast one, to the reverse."""
    middle = statistics.median(slow) / statistics.median(fast)
    return f"{middle:{form}} ({min(slow) / max(fast):{form}} to {max(slow) / min(fast):{form}})"


class PeakMemory:
    """Most memory held beyond what was held on entering, in MiB (`mib`): the allocator's count on a GPU; on a CPU resident
    pages, by Linux's high-water mark. NaN where the system has none."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def _mib(self, line: str) -> float:
        """VmRSS or VmHWM of this process; of a GPU the peak."""
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        try:
            status = Path("/proc/self/status").read_text()
        except OSError:
            return float("nan")
        return int(status.split(line + ":")[1].split()[0]) / 1024

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # free memory that the heap keeps from earlier steps would hide what this step needs
            Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts anew
        self.start = self._mib("VmRSS")
        return self

    def __exit__(self, *_) -> None:
        self.mib = self._mib("VmHWM") - self.start


def peak_mib(work: Side, device: torch.device) -> float:
    """Peak memory of running the work once, in MiB. Apart from timed runs, which it would disturb, and a warm-up for them."""
    with PeakMemory(device) as memory:
        work()
    return memory.mib
