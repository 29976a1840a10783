"""Files of the colours that a search has found: for each word the colour that a CLIP recognises best by it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.untrusted import is_plain, read_json, text_of
from files.whole import write_json

Appearance = tuple[float, float, float, float]  # red, green, blue and alpha, 0 to 255
MOST_WORDS, LONGEST = 1000, 60


def write_colours(path: Path, found: Mapping[str, Any]) -> None:
    """Writes the result of a search: {"colours": {word: [r, g, b, alpha], ...}, and further entries about the search}."""
    write_json(path, found, indent=1)


def read_found(path: Path) -> dict[str, Any]:
    """Reads a file of `write_colours`, with its colours as tuples. ValueError where it is another kind of file."""
    content = read_json(path, "the file of colours", most=2**24)
    if not isinstance(content, dict) or not isinstance(content.get("colours"), dict) or not is_plain(content):
        raise ValueError(f'{path} is no file of colours: it must hold {{"colours": {{word: [red, green, blue, alpha]}}}}.')
    if len(content["colours"]) > MOST_WORDS:
        raise ValueError(f"{path} has more than {MOST_WORDS} colours: no search finds so many.")
    colours = {}
    for word, numbers in content["colours"].items():
        text_of(word, f"a colour of {path}", LONGEST)
        fits = isinstance(numbers, list) and len(numbers) == 4 and all(type(n) in (int, float) for n in numbers)
        if not fits or not all(0 <= n <= 255 for n in numbers):
            raise ValueError(f"{path}: the colour {word!r} must be red, green, blue and alpha, four numbers from 0 to 255.")
        colours[word] = tuple(numbers)
    return content | {"colours": colours}


def read_colours(path: Path) -> dict[str, Appearance]:
    """The colours of such a file by their words, in its order."""
    return read_found(path)["colours"]
