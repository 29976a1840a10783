"""Reads the pickles that CoOp's loaders write into a dataset's folder, and plain data of `torch.save`, without running anything
in them (`files.pickles`).

CoOp's are dicts of lists of `dassl`'s Datum, an image with path, label and class name: 12 s per million images.
"""

import io
from pathlib import Path
from typing import Any, BinaryIO

from datamodules.items import Item, item_of
from files.pickles import Global, Node, PickleMachine
from files.untrusted import read_bytes

MAX_ITEMS = 3_000_000  # ImageNet has 1.33 million
MAX_OPCODES = 60_000_000  # ImageNet's list of 1.33 million images takes 30 million


class _DatumMachine(PickleMachine):
    """Computes pickles that use one class, `dassl`'s Datum."""

    def look_up(self, name: str) -> Global:
        """Datum, from any module of `dassl`. ValueError for any other name."""
        if name.startswith("dassl.") and name.endswith(".Datum"):
            return Global(name)
        raise ValueError(f"it asks for {name[:200]}")


class _PlainMachine(PickleMachine):
    """Computes pickles whose only class is the ordered dict, which becomes a dict."""

    def look_up(self, name: str) -> Global:
        """The ordered dict. ValueError for any other name."""
        if name == "collections.OrderedDict":
            return Global(name)
        raise ValueError(f"it asks for {name[:200]}")

    def make(self, kind: str, arguments: tuple) -> dict:
        """An empty dict. ValueError for any other call."""
        if not kind or arguments:
            raise ValueError("it asks for a call")
        return {}


def read_plain(file: BinaryIO) -> Any:
    """The plain data of the pickle at the file's position, as `torch.save` writes it. ValueError (a phrase) for any other."""
    return _PlainMachine().run(file, MAX_OPCODES)


def read_item_lists(path: Path, root_name: str) -> dict[str, list[Item]]:
    """Lists of items by split. Absolute paths of another machine are cut after their last folder `root_name`.

    Raises:
        ValueError: one sentence, where the file is anything but what CoOp's code writes.
    """
    try:
        content = _DatumMachine().run(io.BytesIO(read_bytes(path, "the file")), MAX_OPCODES)
        if type(content) is not dict or not all(type(k) is str and type(v) is list for k, v in content.items()):
            raise TypeError("it is no dict of lists")
        if sum(map(len, content.values())) > MAX_ITEMS:  # a pickle can repeat one list many times
            raise ValueError(f"its lists have more than {MAX_ITEMS:,} images")
        return {split: [_item(datum, root_name, split) for datum in data] for split, data in content.items()}
    except Exception as error:  # a hostile or truncated pickle can raise any error
        reason = str(error).rstrip(".") or type(error).__name__
        raise ValueError(
            f"{path} is refused ({reason}): it should be a dict of lists of dassl's Datum as CoOp's code writes it; "
            f"copy it again from where it was made, or set legacy=false"
        ) from error


def _item(datum: Any, root_name: str, split: str) -> Item:
    """The item of one Datum of a split."""
    if not isinstance(datum, Node) or not datum.kind:
        raise TypeError(f"{type(datum).__name__} in place of Datum")
    state = datum.state if isinstance(datum.state, dict) else {}
    path = state.get("_impath")
    if not isinstance(path, str):
        raise TypeError(f"a path of {split} is {type(path).__name__}, not text")
    path = path.replace("\\", "/")
    _, root, tail = path.rpartition(f"/{root_name}/")
    if not root:
        raise ValueError(f"the path {path[:200]!r} has no folder {root_name}/")
    return item_of((tail, state.get("_label"), state.get("_classname")), f"{path[:200]!r} of {split}")
