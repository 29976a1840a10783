"""Faster imports."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports(name: str) -> Iterator[None]:
    """While the package `name` and what comes with it are imported for the first time, Python looks for no garbage.

    Hundreds of thousands of objects are made, which all stay. Walking over them again and again took a fifth of the time, so
    they are also left out of later searches. Does nothing where `name` is imported already.
    """
    if name in sys.modules or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        gc.enable()
