"""Faster imports."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def heavy_imports(name: str) -> Iterator[None]:
    """Disables garbage collection while the package `name` and its dependencies are imported for the first time.

    The import makes hundreds of thousands of objects that stay alive, and traversing them took a fifth of the time, so they are
    also excluded from later collections. Does nothing where `name` is imported already.
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
