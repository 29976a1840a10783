"""The pickle inside a file of PyTorch's as data: tensors become `View`s of storages, every other object an inert `Node`."""

from __future__ import annotations

from math import prod
from typing import Any, BinaryIO, NamedTuple

import torch

from files.pickles import Global, Node, PickleMachine

MAX_OPCODES = 1_000_000  # a checkpoint of a thousand tensors has 60,000
MAX_SIZE = 2**48  # elements of a storage or a dimension, so that no arithmetic on sizes is slow
MAX_DIMENSIONS = 16
MAX_VALUES, MAX_DEPTH = 1_000_000, 64  # of a state's tree
DTYPES = {
    f"torch.{name}Storage": dtype
    for name, dtype in {
        "Double": torch.float64,
        "Float": torch.float32,
        "Half": torch.float16,
        "BFloat16": torch.bfloat16,
        "Long": torch.int64,
        "Int": torch.int32,
        "Short": torch.int16,
        "Char": torch.int8,
        "Byte": torch.uint8,
        "Bool": torch.bool,
    }.items()
}


class Storage(NamedTuple):
    """The numbers that tensors are views of: `numel` of them, kept in the file under `key`."""

    dtype: torch.dtype
    key: str
    numel: int


class View(NamedTuple):
    """A tensor. Its shape, strides and offset are checked when it is read (`checked_numel`)."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


def evaluate(file: BinaryIO, most: int = MAX_OPCODES, seen: dict[str, Storage] | None = None, strict: bool = False) -> Any:
    """The value of the pickle at the file's position, which then is the pickle's end. `seen` collects its storages by key.

    `strict`: ValueError for objects other than tensors and dicts, also where they are dropped again, and for keys other than
    text and integers: what remains, `torch.load` can read without hanging.
    """
    return _TensorMachine({} if seen is None else seen, strict).run(file, most)


class _TensorMachine(PickleMachine):
    """Dicts keep the items whose keys are text, as tensors need no others. A strict machine keeps integers, too, and refuses
    other keys."""

    def __init__(self, seen: dict[str, Storage], strict: bool) -> None:
        super().__init__()
        self.seen, self.strict = seen, strict
        self.known_keys, self.drops_other_keys = ((str, int), False) if strict else ((str,), True)
        self.copied = 0  # items of lists that dicts were made of: one list may serve many times

    def make(self, kind: str, arguments: tuple) -> Any:
        """A `View` for a tensor, the tensor of a parameter, a dict for an ordered one, a `Node` for anything else."""
        if kind in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor") and len(arguments) >= 4:
            return View(*arguments[:4])
        if kind.startswith("torch._utils._rebuild_parameter") and arguments:
            return arguments[0]
        if kind == "collections.OrderedDict":
            rows = arguments[0] if arguments and isinstance(arguments[0], list) else []
            self.copied += len(rows)
            if self.copied > MAX_OPCODES:
                raise ValueError(f"its pickle copies more than {MAX_OPCODES:,} items")
            return self.pairs([part for row in rows if isinstance(row, list | tuple) for part in row[:2]])
        if self.strict:
            raise ValueError(f"its pickle makes a {kind[:80] or 'nameless object'}, which no state of a run has")
        return Node(kind)

    def outside(self, reference: Any) -> Any:
        """("storage", type, key, device, numel), in the legacy format with a view's bounds behind it, which is always None in
        files of torch 0.4 and later."""
        match reference:
            case ("storage", Global(kind), str(key), _, int(numel), *rest) if kind in DTYPES and rest in ([], [None]):
                if not 0 <= numel <= MAX_SIZE:
                    raise ValueError("a storage claims an impossible number of elements")
                storage = Storage(DTYPES[kind], key, numel)
                self.seen.setdefault(key, storage)
                return storage
        return Node("")  # tensors of other types, modules with their source


def checked_numel(view: View, name: str) -> int:
    """The number of a tensor's elements; ValueError where the view says what its storage cannot hold."""
    storage, offset, size, stride = view
    if not isinstance(storage, Storage):
        raise ValueError(f"the tensor {name[:80]!r} is of a type that is not read here")
    parts = [(offset,), size, stride]
    if not all(isinstance(p, tuple) and all(type(n) is int and 0 <= n <= MAX_SIZE for n in p) for p in parts):
        raise ValueError(f"the tensor {name[:80]!r} has no valid shape")
    if len(size) != len(stride) or len(size) > MAX_DIMENSIONS:
        raise ValueError(f"the tensor {name[:80]!r} has no valid shape")
    numel = prod(size)
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True)) if numel else 0
    if numel > storage.numel or last >= max(storage.numel, 1):
        raise ValueError(f"the tensor {name[:80]!r} claims {numel:,} elements, its storage has {storage.numel:,}")
    return numel


def check_values(content: Any) -> None:
    """Visits every value as often as it is contained in another; ValueError for too many, or for a type that no state has."""
    level, left = [content], MAX_VALUES
    for _ in range(MAX_DEPTH):
        left -= len(level)
        if not level:
            return
        if left < 0:
            break
        inside: list[Any] = []
        for value in level:
            if isinstance(value, View):
                checked_numel(value, "in a state")
            elif isinstance(value, dict | list | tuple):
                inside += value.values() if isinstance(value, dict) else value
                if len(inside) > left:
                    break
            elif not (value is None or isinstance(value, str | int | float)):
                raise ValueError(f"it holds a {type(value).__name__}")
        level = inside
    raise ValueError("it repeats its parts, or nests them, without bounds")
