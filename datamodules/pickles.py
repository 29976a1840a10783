"""Reads the pickles that CoOp's loaders leave in a dataset's folder, and nothing else. None is ever written.

A pickle can run any code when it is loaded, and a few bytes of one can fill the memory or hang. This reader knows one class,
a stand-in for `dassl`'s Datum, and only the opcodes that a dict of lists of it takes: no tuple (whose hash can take for ever),
no call, no buffer whose size the file claims. It is Python's own, slower than the one in C: 15 s per million images.
"""

import io
import pickle
from collections import OrderedDict
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.items import Item, item_of
from files.untrusted import read_bytes

MAX_ITEMS = 3_000_000  # ImageNet has 1.33 million
MAX_OPCODES = 60_000_000  # ImageNet's list of 1.33 million images takes 30 million
NAMES = (
    "PROTO FRAME STOP MARK POP POP_MARK MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET NONE BININT BININT1 BININT2 LONG1 "
    "BINUNICODE SHORT_BINUNICODE EMPTY_DICT EMPTY_LIST EMPTY_TUPLE APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL "
    "NEWOBJ BUILD"
)
KNOWN = {getattr(pickle, name)[0] for name in NAMES.split()}


class _Counted(dict):
    """The known opcodes; each look-up is one step of the pickle."""

    left = MAX_OPCODES

    def __getitem__(self, opcode: int) -> Any:
        self.left -= 1
        if self.left < 0:
            raise pickle.UnpicklingError(f"it has more than {MAX_OPCODES:,} steps")
        if opcode not in self:
            raise pickle.UnpicklingError(f"it has an opcode {bytes([opcode])!r}, which lists of paths do not need")
        return super().__getitem__(opcode)


def _reader(file: io.BytesIO) -> tuple[pickle._Unpickler, type]:
    class Datum:  # anew for each file: a pickle may set attributes of the class itself
        _impath: Any = None
        _label: Any = None
        _classname: Any = None

    class Reader(pickle._Unpickler):
        def find_class(self, module: str, name: str) -> type:
            if name == "Datum" and module.split(".")[0] == "dassl":
                return Datum
            raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])

    reader = Reader(file)
    reader.dispatch = _Counted({code: call for code, call in pickle._Unpickler.dispatch.items() if code in KNOWN})
    return reader, Datum


class _Plain(pickle._Unpickler):
    """Plain data and ordered dicts. Tuples become lists, which are no keys: the hash of nested ones can take for ever."""

    def find_class(self, module: str, name: str) -> type:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        raise pickle.UnpicklingError(f"it asks for {module}.{name}"[:200])

    def load_reduce(self) -> None:
        if self.stack.pop() or self.stack.pop() is not OrderedDict:
            raise pickle.UnpicklingError("it asks for a call")
        self.append(OrderedDict())

    def load_tuple(self) -> None:
        self.append(self.pop_mark())

    def load_short_tuple(self, size: int) -> None:
        self.stack[len(self.stack) - size :] = [self.stack[len(self.stack) - size :]]


def load_plain(file: BinaryIO) -> Any:
    """The plain data of one pickle, as `torch.save` writes them; any error where it holds others."""
    reader = _Plain(file)
    own = {"TUPLE": _Plain.load_tuple, "REDUCE": _Plain.load_reduce}
    own |= {f"TUPLE{size}": partial(_Plain.load_short_tuple, size=size) for size in (1, 2, 3)}
    names = {*NAMES.split(), "BINFLOAT", "NEWTRUE", "NEWFALSE"} - {"NEWOBJ", "BUILD"}
    known = {code: pickle._Unpickler.dispatch[code] for code in (getattr(pickle, name)[0] for name in names)}
    reader.dispatch = _Counted(known | {getattr(pickle, name)[0]: call for name, call in own.items()})
    return reader.load()


def load(path: Path, root_name: str) -> dict[str, list[Item]]:
    """Lists of items by split. Absolute paths of another machine are cut after their last folder `root_name`."""
    try:
        reader, datum = _reader(io.BytesIO(read_bytes(path, "the file")))
        content = reader.load()
        if type(content) is not dict or not all(type(k) is str and type(v) is list for k, v in content.items()):
            raise TypeError("it is no dict of lists")
        if sum(map(len, content.values())) > MAX_ITEMS:  # one list may stand there many times
            raise ValueError(f"its lists have more than {MAX_ITEMS:,} images")
        return {split: [_item(each, datum, root_name, split) for each in data] for split, data in content.items()}
    except Exception as error:  # a hostile or truncated pickle can fail in any way, and never gets further than here
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{path} is refused ({reason}): it should be a dict of lists of dassl's Datum as CoOp's code writes it; "
            f"copy it again from where it was made, or set legacy=false"
        ) from error


def _item(each: Any, datum: type, root_name: str, split: str) -> Item:
    if type(each) is not datum:
        raise TypeError(f"{type(each).__name__} in place of Datum")
    if not isinstance(each._impath, str):
        raise TypeError(f"a path of {split} is {type(each._impath).__name__}, not text")
    path = each._impath.replace("\\", "/")
    _, found, tail = path.rpartition(f"/{root_name}/")
    if not found:
        raise ValueError(f"the path {path[:200]!r} has no folder {root_name}/")
    return item_of((tail, each._label, each._classname), f"{path[:200]!r} of {split}")
