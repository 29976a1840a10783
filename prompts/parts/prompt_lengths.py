"""The number of prompts in each block of both towers: the result of DPL's search, which other deep methods can use.

A dpl.json may come from anyone, so its content is checked.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from files.untrusted import read_json
from prompts.engine.clip import FrozenCLIP

FILE = "dpl.json"
MOST = 10_000  # prompts in a block: the text tower has 77 positions, image towers some hundreds
MOST_BLOCKS, MOST_OPTIONS = 200, 100
MOST_BYTES = 16 * 2**20  # of a dpl.json
LARGEST = 1e6  # absolute value of an alpha; a search's are around 1


@dataclass(frozen=True)
class PromptLengths:
    """One number per block, 0 where a block has no prompts. ValueError where they are no such lists."""

    text: list[int]
    image: list[int]

    def __post_init__(self) -> None:
        for tower, lengths in asdict(self).items():
            if not _integers(lengths) or not 0 < len(lengths) <= MOST_BLOCKS:
                raise ValueError(
                    f"prompt lengths of the {tower} tower must be one integer per block, 0 to {MOST:,}: {lengths!r:.100}."
                )

    def check(self, clip: FrozenCLIP) -> None:
        """ValueError where this CLIP's towers have other numbers of blocks."""
        for tower, lengths, blocks in (("text", self.text, clip.text_blocks), ("image", self.image, clip.image_blocks)):
            if len(lengths) != blocks:
                raise ValueError(
                    f"prompt_lengths names {len(lengths)} blocks of the {tower} tower, and this CLIP's has {blocks}: "
                    "take lengths that were found on the same backbone."
                )

    def words_that_reach(self, clip: FrozenCLIP, init: str | None) -> str | None:
        """`init`, or None (a random start) where it has fewer tokens than the first text block has prompts."""
        return init if init and len(clip.tokenizer.encode(init)) >= self.text[0] else None

    @property
    def settings(self) -> dict[str, Any]:
        """The lengths as a method's argument, so that saved prompts need no file of lengths."""
        return {"prompt_lengths": asdict(self)}


def read_search(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The content of a dpl.json, named by its path, its folder, or given as {"text": [...], "image": [...]}.

    Raises:
        ValueError: it cannot be read, or is not what a search writes.
    """
    if isinstance(source, Mapping):
        content = source
    else:
        path = Path(os.path.expanduser(source))
        path = path / FILE if os.path.isdir(path) else path  # unlike Path.is_dir: False for text that can be no path
        try:
            content = read_json(path, f"the {FILE}", MOST_BYTES)
        except ValueError as error:
            raise ValueError(
                f"method.prompt_lengths={source}: {path} cannot be read ({str(error).rstrip('.')}): give the {FILE} of a DPL "
                "search, or its folder."
            ) from error
    if not isinstance(content, Mapping) or not {"text", "image"} <= set(content):
        raise ValueError(f"method.prompt_lengths={source!s:.100}: it has no lists named text and image, so it is no {FILE}.")
    known = {key: content[key] for key in content if key in ("options", "text", "image", "alphas")}
    _check_search(known, PromptLengths(known["text"], known["image"]))
    return known


def _check_search(content: Mapping[str, Any], lengths_found: PromptLengths) -> None:
    """ValueError where the options and alphas that a search writes beside the lengths do not fit them."""
    if "alphas" not in content:
        return
    options, alphas = content.get("options"), content["alphas"]
    if not _integers(options) or not 0 < len(set(options)) == len(options) <= MOST_OPTIONS:
        raise ValueError(f"a {FILE} with alphas has options, different numbers of prompts, and this one has {options!r:.100}.")
    for tower, lengths in asdict(lengths_found).items():
        rows = alphas.get(tower) if isinstance(alphas, Mapping) else None
        good = isinstance(rows, list) and len(rows) == len(lengths) and set(lengths) <= set(options)
        if not good or not all(isinstance(row, list) and len(row) == len(options) for row in rows):
            raise ValueError(f"the alphas of the {tower} tower must be one number per block and option in a {FILE}.")
        if not all(type(alpha) in (int, float) and abs(alpha) <= LARGEST for row in rows for alpha in row):  # nor is it NaN
            raise ValueError(f"the alphas of the {tower} tower in a {FILE} must be numbers, none beyond {LARGEST:g}.")


def _integers(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n <= MOST for n in values)


def read_lengths(source: str | Path | Mapping[str, Any]) -> PromptLengths:
    """The lengths of the dpl.json that `read_search` reads."""
    content = read_search(source)
    return PromptLengths(content["text"], content["image"])
