"""Tiny trees in the datasets' own formats."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def put_text() -> Callable[[Path, str], None]:
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return put
