"""A GPU that is none: tensors that say they are on CUDA, and a mode of torch that notes where Python would wait for them.

The numbers are computed by the CPU. What is shown is which operations of a step need a value on the host, copy in a way that
waits, or mix devices. What torch does behind its own functions is not seen.
"""

from __future__ import annotations

import traceback
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

CUDA, HOST = torch.device("cuda", 0), torch.device("cpu")
ROOT = Path(__file__).parents[1]
WAIT = {"item", "__bool__", "__int__", "__float__", "__index__", "__contains__", "tolist", "numpy", "cpu", "equal", "allclose"}
WAIT |= {"is_nonzero", "nonzero", "argwhere", "unique", "unique_consecutive", "masked_select", "bincount"}
INDEX = {"__getitem__", "__setitem__"}
MIX = {"to", "copy_", "as_subclass", "__get__", "__set__", *INDEX}  # operations that take tensors of two devices


class OnGPU(Tensor):
    """A tensor of the fake GPU; what is computed from it is one, too."""


def on_gpu(module: nn.Module) -> None:
    """Puts a module's parameters and buffers on the fake GPU, in place: whoever holds one sees it there."""
    for p in module.parameters():
        p.__class__, p._is_param = OnGPU, True
    for buffer in module.buffers():
        buffer.__class__ = OnGPU


def flat(values):
    for value in values:
        if isinstance(value, tuple | list):
            yield from flat(value)
        else:
            yield value


class FakeGPU(TorchFunctionMode):
    """Within it the tensors are on CUDA. `waits`: each place where the host waits for the GPU, as "function in file:line"."""

    def __init__(self):
        super().__init__()
        self.waits: list[str] = []

    def note(self, name: str) -> None:
        ours = [
            frame
            for frame in traceback.extract_stack()
            if ROOT in Path(frame.filename).parents and ".venv" not in frame.filename
        ]
        frame = next(frame for frame in reversed(ours) if frame.filename != __file__)
        self.waits.append(f"{name} in {Path(frame.filename).name}:{frame.lineno}")

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs, name = dict(kwargs or {}), getattr(func, "__name__", str(func))
        tensors = [value for value in flat((*args, *kwargs.values())) if isinstance(value, Tensor)]
        gpu = [t for t in tensors if isinstance(t, OnGPU)]
        if gpu and func in (Tensor.device.__get__, Tensor.is_cuda.__get__):
            return CUDA if func == Tensor.device.__get__ else True
        if name == "to":
            return self.move(*args, **kwargs)
        if torch.device(kwargs.get("device") or HOST).type == "cuda":
            if name in ("tensor", "as_tensor"):
                self.note(name)
            return func(*args, **kwargs | {"device": HOST}).as_subclass(OnGPU)
        if gpu and name in WAIT:
            self.note(name)
        if gpu and name in INDEX:
            self.index(name, args)
        elif gpu and name not in MIX and any(t.dim() and not isinstance(t, OnGPU) for t in tensors):
            raise AssertionError(f"{name} gets tensors of both devices")
        result = func(*args, **kwargs)
        return result.as_subclass(Tensor) if name == "cpu" else result

    def index(self, name, args):
        for index in flat([args[1]]):
            if isinstance(index, Tensor) and (index.dtype == torch.bool or not isinstance(index, OnGPU)):
                self.note(name)

    def move(self, tensor, *args, non_blocking=False, **kwargs):
        targets = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.device | str)]
        types = [a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)]
        there = isinstance(tensor, OnGPU)
        goes = torch.device(targets[0]).type == "cuda" if targets else there
        if goes != there and not non_blocking:
            self.note("to")
        moved = tensor.as_subclass(OnGPU if goes else Tensor)
        return Tensor.to(moved, *types) if types else moved


@contextmanager
def fake_gpu():
    """The mode, with what torch.cuda has to answer."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch("torch.cuda.Event"))
        stack.enter_context(mock.patch("torch.cuda.manual_seed"))
        stack.enter_context(mock.patch("torch.cuda.get_rng_state", return_value=torch.zeros(1)))
        yield stack.enter_context(FakeGPU())
