"""Tiny trees in the datasets' own formats."""

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

import PIL.Image
import pytest


@pytest.fixture(scope="session")
def one_image(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("image") / "image.jpg"
    PIL.Image.new("RGB", (4, 3), (200, 10, 10)).save(path)
    return path


@pytest.fixture
def put_images(one_image) -> Callable[[Path, Iterable[str]], None]:
    def put(root: Path, paths: Iterable[str]) -> None:
        for path in paths:
            os.makedirs((root / path).parent, exist_ok=True)
            shutil.copyfile(one_image, root / path)

    return put


@pytest.fixture
def put_text() -> Callable[[Path, str], None]:
    def put(path: Path, text: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    return put
