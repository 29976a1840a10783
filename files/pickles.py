"""The values that a pickle describes, computed from its opcodes without a call: a pickle is a program that may call anything.

Lists, dicts, text and numbers become themselves; every other object an inert `Node`. Nothing is imported, no tuple is hashed
(which can take for ever), and no memory is allocated for a size that the file only claims. A reader of one kind of file is a
subclass of `PickleMachine` that defines which names are known and what objects become.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, NamedTuple

MAX_NAME = 1000  # characters of the name of a class
Argument = Any  # an opcode's argument in the file
LOST = "its pickle reads a value that it has not written"


class Global(NamedTuple):
    """The name of a class or function: `module.name`."""

    name: str


@dataclass(slots=True, eq=False)
class Node:
    """An object of a pickle: the name of its class, and its state."""

    kind: str
    state: Any = None


class PickleMachine:
    """The stack machine of a pickle. Dicts take keys that are text or integers."""

    known_keys: tuple[type, ...] = (str, int)
    drops_other_keys = False  # False: other keys are refused

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def run(self, file: BinaryIO, most: int) -> Any:
        """The value of the pickle at the file's position, which is left behind it. ValueError (a phrase) for more than `most`
        opcodes, for unknown ones and for a pickle that does not end."""
        read = file.read
        for _ in range(most):
            code = read(1)
            if code == b".":
                return self.pop()
            if (step := STEPS.get(code)) is None:
                raise ValueError(f"its pickle has the opcode {NAMES[code]}" if code in NAMES else "its pickle does not end")
            read_argument, do = step
            do(self, read_argument(file) if read_argument else None)
        raise ValueError(f"its pickle has more than {most:,} opcodes")

    # ---------------------------------------------------------------- what a subclass overrides

    def look_up(self, name: str) -> Any:
        """What a pickle gets for the name of a class or function; ValueError to refuse the file."""
        return Global(name)

    def make(self, kind: str, arguments: tuple) -> Any:
        """What a pickle gets where it asks for an object of a class, or for a call. `kind`: the name, "" where it has none."""
        return Node(kind)

    def outside(self, reference: Any) -> Any:
        """What a pickle gets for an object that is kept outside of it."""
        raise ValueError("its pickle refers to an object outside of it")

    # ---------------------------------------------------------------- the stack

    def pop(self) -> Any:
        """The value on top, taken off."""
        if not self.stack:
            raise ValueError(LOST)
        return self.stack.pop()

    def top(self) -> Any:
        """The value on top, which stays."""
        if not self.stack:
            raise ValueError(LOST)
        return self.stack[-1]

    def pop_to_mark(self) -> list[Any]:
        """The values above the last mark, taken off with it."""
        if not self.marks:
            raise ValueError(LOST)
        mark = self.marks.pop()
        items = self.stack[mark:]
        del self.stack[mark:]
        return items

    def pairs(self, items: list[Any]) -> dict[str | int, Any]:
        """Keys and values in turn -> the items with keys of a known type."""
        keys, known = items[::2], self.known_keys
        if not self.drops_other_keys and not all(type(key) in known for key in keys):
            raise ValueError("its pickle has keys that are neither text nor integers")
        return {key: value for key, value in zip(keys, items[1::2], strict=False) if type(key) in known}

    # ---------------------------------------------------------------- opcodes, each with its argument in the file

    def _push(self, value: Argument) -> None:
        self.stack.append(value)

    def _mark(self, _: Argument) -> None:
        self.marks.append(len(self.stack))

    def _put(self, key: Argument) -> None:
        self.memo[key] = self.top()

    def _memoize(self, _: Argument) -> None:
        self.memo[len(self.memo)] = self.top()

    def _get(self, key: Argument) -> None:
        if key not in self.memo:
            raise ValueError(LOST)
        self.stack.append(self.memo[key])

    def _list(self, _: Argument) -> None:
        self.stack.append(self.pop_to_mark())

    def _tuple(self, _: Argument) -> None:
        self.stack.append(tuple(self.pop_to_mark()))

    def _short_tuple(self, size: int) -> None:
        self.stack.append(tuple([self.pop() for _ in range(size)][::-1]))

    def _dict(self, _: Argument) -> None:
        self.stack.append(self.pairs(self.pop_to_mark()))

    def _append(self, _: Argument) -> None:
        self._extend([self.pop()])

    def _appends(self, _: Argument) -> None:
        self._extend(self.pop_to_mark())

    def _extend(self, items: list[Any]) -> None:
        if isinstance(target := self.top(), list):
            target.extend(items)

    def _set_item(self, _: Argument) -> None:
        self._update([self.pop(), self.pop()][::-1])

    def _set_items(self, _: Argument) -> None:
        self._update(self.pop_to_mark())

    def _update(self, items: list[Any]) -> None:
        if isinstance(target := self.top(), dict):
            target.update(self.pairs(items))

    def _add_items(self, _: Argument) -> None:
        self.pop_to_mark()  # the items of a set, which no reader needs

    def _global(self, names: Argument) -> None:
        self.stack.append(self.look_up(names.replace(" ", ".", 1)))

    def _stack_global(self, _: Argument) -> None:
        name, module = self.pop(), self.pop()
        is_short = all(isinstance(part, str) and len(part) <= MAX_NAME for part in (module, name))
        self.stack.append(self.look_up(f"{module}.{name}" if is_short else ""))

    def _reduce(self, _: Argument) -> None:
        arguments, function = self.pop(), self.pop()
        self._make(function, arguments)

    def _new_with_keywords(self, _: Argument) -> None:
        self.pop()
        self._reduce(None)

    def _instance(self, names: Argument) -> None:
        arguments = tuple(self.pop_to_mark())
        self._make(self.look_up(names.replace(" ", ".", 1)), arguments)

    def _object(self, _: Argument) -> None:
        items = self.pop_to_mark()
        self._make(items[0] if items else None, tuple(items[1:]))

    def _make(self, function: Any, arguments: Any) -> None:
        kind = function.name if isinstance(function, Global) else ""
        self.stack.append(self.make(kind, arguments if isinstance(arguments, tuple) else ()))

    def _build(self, _: Argument) -> None:
        state = self.pop()
        if isinstance(target := self.top(), Node):
            target.state = state

    def _outside(self, _: Argument) -> None:
        self.stack.append(self.outside(self.pop()))

    def _pop(self, _: Argument) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def _pop_mark(self, _: Argument) -> None:
        self.pop_to_mark()

    def _duplicate(self, _: Argument) -> None:
        self.stack.append(self.top())

    def _nothing(self, _: Argument) -> None:
        pass


def _constant(make: Callable[[], Any]) -> Callable[[PickleMachine, Argument], None]:
    return lambda machine, _: machine.stack.append(make())


def _tuple_of(size: int) -> Callable[[PickleMachine, Argument], None]:
    return lambda machine, _: machine._short_tuple(size)


_M = PickleMachine
_DO: dict[str, Callable[[PickleMachine, Argument], None]] = {
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _M._put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _M._get),
    **dict.fromkeys(("REDUCE", "NEWOBJ"), _M._reduce),
    **dict.fromkeys(("PROTO", "FRAME"), _M._nothing),
    **{f"TUPLE{size}": _tuple_of(size) for size in (1, 2, 3)},
    "NONE": _constant(lambda: None),
    "NEWTRUE": _constant(lambda: True),
    "NEWFALSE": _constant(lambda: False),
    "EMPTY_TUPLE": _constant(tuple),
    "EMPTY_LIST": _constant(list),
    "EMPTY_DICT": _constant(dict),
    "EMPTY_SET": _constant(lambda: Node("set")),
    "FROZENSET": _M._tuple,
    "ADDITEMS": _M._add_items,
    "MARK": _M._mark,
    "MEMOIZE": _M._memoize,
    "TUPLE": _M._tuple,
    "LIST": _M._list,
    "DICT": _M._dict,
    "APPEND": _M._append,
    "APPENDS": _M._appends,
    "SETITEM": _M._set_item,
    "SETITEMS": _M._set_items,
    "GLOBAL": _M._global,
    "STACK_GLOBAL": _M._stack_global,
    "INST": _M._instance,
    "OBJ": _M._object,
    "NEWOBJ_EX": _M._new_with_keywords,
    "BUILD": _M._build,
    "BINPERSID": _M._outside,
    "POP": _M._pop,
    "POP_MARK": _M._pop_mark,
    "DUP": _M._duplicate,
}
_OTHERS = {"PERSID", "EXT1", "EXT2", "EXT4"}  # not known here
for _op in pickletools.opcodes:  # the literals: an argument that becomes a value
    if _op.name not in _OTHERS | set(_DO) and _op.arg is not None and not _op.stack_before and len(_op.stack_after) == 1:
        _DO[_op.name] = _M._push
# by the opcode's byte: how its argument is read, and what it does
STEPS = {op.code.encode("latin-1"): (op.arg and op.arg.reader, _DO[op.name]) for op in pickletools.opcodes if op.name in _DO}
NAMES = {op.code.encode("latin-1"): op.name for op in pickletools.opcodes}
