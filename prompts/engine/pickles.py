"""The values that a pickle describes, computed from its opcodes without a call: a pickle is a program that may call anything.

Lists, dicts, strings and numbers are what they are, tensors become `View`s, every other object an inert `Node`.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

import torch

MAX_OPCODES = 1_000_000  # a checkpoint of a thousand tensors has 60,000
MAX_NAME = 1000  # characters of the name of a class
MAX_ELEMENTS = 2**48  # of a storage, so that no arithmetic on sizes is slow
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


class Global(NamedTuple):
    """The name of a class or function."""

    name: str


class Storage(NamedTuple):
    dtype: torch.dtype
    key: str
    numel: int


class View(NamedTuple):
    """A tensor: what it says about itself is checked when it is read (`_shape`)."""

    storage: Any
    offset: Any
    size: Any
    stride: Any


@dataclass(slots=True, eq=False)
class Node:
    """Any other object: the name of its class, and the state it was given."""

    kind: str
    state: Any = None


def evaluate(file: BinaryIO, most: int = MAX_OPCODES, seen: dict[str, Storage] | None = None, strict: bool = False) -> Any:
    """The value of the pickle at the file's position, which is left behind it. `seen` collects its storages.

    strict: ValueError for objects other than tensors and dicts, also where they are dropped again, and for keys other than
    text and integers: what remains, `torch.load` can read without hanging.
    """
    machine = _Machine({} if seen is None else seen, strict)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
        if count >= most:
            raise ValueError(f"its pickle has more than {most:,} opcodes")
        if opcode.name == "STOP":
            return machine.pop()
        machine.do(opcode.name, argument)
    raise ValueError("its pickle does not end")


class _Machine:
    """The stack machine of a pickle, without calls. Dicts keep the items whose keys are text: tensors need no others; a strict
    machine keeps integers, too, and refuses the rest."""

    def __init__(self, seen: dict[str, Storage], strict: bool = False) -> None:
        self.seen, self.strict = seen, strict
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.copied = 0  # items of lists that dicts were made of: one list may serve many times

    def pop(self) -> Any:
        if not self.stack:
            raise ValueError("its pickle takes what it has not put")
        return self.stack.pop()

    def since_mark(self) -> list[Any]:
        if not self.marks:
            raise ValueError("its pickle takes what it has not put")
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def do(self, name: str, argument: Any) -> None:
        push = self.stack.append
        if name in LITERALS:
            push(argument)
        elif name in FRESH:
            push(FRESH[name]())
        elif name == "MARK":
            self.marks.append(len(self.stack))
        elif name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
            self.memo[len(self.memo) if name == "MEMOIZE" else argument] = self.stack[-1]
        elif name in ("GET", "BINGET", "LONG_BINGET"):
            push(self.memo[argument])
        elif name in ("TUPLE", "LIST", "FROZENSET"):
            items = self.since_mark()
            push(items if name == "LIST" else tuple(items))
        elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
            push(tuple([self.pop() for _ in range(int(name[-1]))][::-1]))
        elif name == "DICT":
            push(self.pairs(self.since_mark()))
        elif name in ("APPEND", "APPENDS", "ADDITEMS", "SETITEM", "SETITEMS"):
            self.fill(name)
        elif name == "GLOBAL":
            push(Global(argument.replace(" ", ".", 1)))
        elif name == "STACK_GLOBAL":
            attribute, module = self.pop(), self.pop()
            short = all(isinstance(part, str) and len(part) <= MAX_NAME for part in (module, attribute))
            push(Global(f"{module}.{attribute}" if short else ""))
        elif name in ("REDUCE", "NEWOBJ", "NEWOBJ_EX", "INST", "OBJ"):
            self.make(name, argument)
        elif name == "BUILD":
            state, target = self.pop(), self.stack[-1]
            if isinstance(target, Node):
                target.state = state
        elif name == "BINPERSID":
            push(self.storage(self.pop()))
        elif name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        elif name == "POP":
            self.pop()
        elif name == "POP_MARK":
            self.since_mark()
        elif name == "DUP":
            push(self.stack[-1])
        elif name not in ("PROTO", "FRAME"):
            raise ValueError(f"its pickle has the opcode {name}, which no file of tensors has")

    def fill(self, name: str) -> None:
        items = self.since_mark() if name.endswith("S") else [self.pop() for _ in range(2 if name == "SETITEM" else 1)][::-1]
        target = self.stack[-1]
        if isinstance(target, dict) and name.startswith("SETITEM"):
            target.update(self.pairs(items))
        elif isinstance(target, list) and name.startswith("APPEND"):
            target.extend(items)

    def make(self, name: str, argument: Any) -> None:
        """An object where the pickle asks for a call."""
        if name == "INST":
            self.refuse(argument)
            self.since_mark()
            self.stack.append(Node(argument.replace(" ", ".", 1)))
            return
        if name == "OBJ":
            made, *arguments = self.since_mark()
        else:
            if name == "NEWOBJ_EX":
                self.pop()
            arguments, made = self.pop(), self.pop()
        kind = made.name if isinstance(made, Global) else ""
        arguments = arguments if isinstance(arguments, tuple) else ()
        if kind in ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor") and len(arguments) >= 4:
            self.stack.append(View(*arguments[:4]))
        elif kind.startswith("torch._utils._rebuild_parameter") and arguments:
            self.stack.append(arguments[0])
        elif kind == "collections.OrderedDict":
            rows = arguments[0] if arguments and isinstance(arguments[0], list) else []
            self.copied += len(rows)
            if self.copied > MAX_OPCODES:
                raise ValueError(f"its pickle copies more than {MAX_OPCODES:,} items")
            self.stack.append(self.pairs([each for row in rows if isinstance(row, list | tuple) for each in row[:2]]))
        else:
            self.refuse(kind)
            self.stack.append(Node(kind))

    def refuse(self, kind: str) -> None:
        if self.strict:
            raise ValueError(f"its pickle makes a {kind[:80] or 'nameless object'}, which no state of a run has")

    def pairs(self, items: list[Any]) -> dict[str | int, Any]:
        """Keys and values in turn -> the items whose keys are text."""
        known = (str, int) if self.strict else (str,)
        if self.strict and not all(type(key) in known for key in items[::2]):
            raise ValueError("its pickle has keys that are neither text nor integers")
        return {key: value for key, value in zip(items[::2], items[1::2], strict=False) if type(key) in known}

    def storage(self, found: Any) -> Any:
        """("storage", type, key, device, numel), in the legacy format with a view's bounds behind it, which is always None in
        files of torch 0.4 and later."""
        match found:
            case ("storage", Global(kind), str(key), _, int(numel), *rest) if kind in DTYPES and rest in ([], [None]):
                if not 0 <= numel <= MAX_ELEMENTS:
                    raise ValueError("a storage claims an impossible number of elements")
                storage = Storage(DTYPES[kind], key, numel)
                self.seen.setdefault(key, storage)
                return storage
        return Node("")  # tensors of other types, modules with their source


LITERALS = {op.name for op in pickletools.opcodes if op.arg is not None and op.stack_before == [] and len(op.stack_after) == 1}
LITERALS -= {"GLOBAL", "INST", "PERSID", "GET", "BINGET", "LONG_BINGET", "EXT1", "EXT2", "EXT4"}
FRESH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Node("set"),
}
