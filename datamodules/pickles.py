"""Reads the pickles that CoOp's loaders leave in a dataset's folder, and nothing else. None is ever written.

A pickle can run any code when it is loaded; this reader knows one class, a stand-in for `dassl`'s Datum.
"""

import pickle
from pathlib import Path

from datamodules.items import Item


class _Datum:
    _impath: str
    _label: int
    _classname: str


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> type:
        if name == "Datum" and module.split(".")[0] == "dassl":
            return _Datum
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def load(path: Path, root_name: str) -> dict[str, list[Item]]:
    """Lists of items by split. Absolute paths of another machine are cut after their last folder `root_name`."""
    try:
        with open(path, "rb") as file:
            content = _Reader(file).load()
        return {split: [_item(datum, root_name) for datum in data] for split, data in content.items()}
    except Exception as error:  # a hostile or truncated pickle can fail in any way, and never gets further than here
        raise ValueError(
            f"{path} is refused ({error}): it should be a dict of lists of dassl's Datum as CoOp's code writes it; "
            f"copy it again from where it was made, or set legacy=false"
        ) from error


def _item(datum: _Datum, root_name: str) -> Item:
    if type(datum) is not _Datum:
        raise TypeError(f"{type(datum).__name__} in place of Datum")
    path = str(datum._impath).replace("\\", "/")
    _, found, tail = path.rpartition(f"/{root_name}/")
    if not found:
        raise ValueError(f"the path {path} has no folder {root_name}/")
    return Item(tail, int(datum._label), str(datum._classname))
