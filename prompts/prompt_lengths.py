"""How many prompt rows each block of the two towers has: what DPL's search finds, and what shapes other deep methods."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from prompts.clip import FrozenCLIP
from prompts.rows import NO_PROMPTS, Rows, TowerPrompts

FILE = "dpl.json"


@dataclass(frozen=True)
class PromptLengths:
    """One number per block, 0 where a block has no prompts."""

    text: list[int]
    image: list[int]

    def __post_init__(self) -> None:
        for tower, lengths in asdict(self).items():
            good = isinstance(lengths, list) and all(type(n) is int and n >= 0 for n in lengths)
            if not good or not lengths:
                raise ValueError(f"prompt lengths of the {tower} tower must be one integer per block, 0 or more: {lengths!r}.")

    def check(self, clip: FrozenCLIP) -> None:
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


def read_found(source: str | Path | Mapping[str, Any]) -> dict[str, Any]:
    """The content of a dpl.json, named by its path, its folder, or given as {"text": [...], "image": [...]}."""
    if isinstance(source, Mapping):
        content = source
    else:
        path = Path(source).expanduser()
        path = path / FILE if path.is_dir() else path
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"prompt_lengths={source}: {path} cannot be read ({error}): give the {FILE} of a DPL search, or its folder."
            ) from error
    if not isinstance(content, Mapping) or not {"text", "image"} <= set(content):
        raise ValueError(f"prompt_lengths={source}: it has no lists named text and image, so it is no {FILE}.")
    return dict(content)


def read_lengths(source: str | Path | Mapping[str, Any]) -> PromptLengths:
    """ValueError where the source is absent or holds no lengths."""
    found = read_found(source)
    return PromptLengths(found["text"], found["image"])


def deep_rows(rows: Mapping[str, Tensor | Rows], lengths: Sequence[int]) -> TowerPrompts:
    """Rows by block number that take the slots of each block in turn; a block of length 0 drops the slots of the one before."""
    if not any(lengths):
        return NO_PROMPTS
    given = {int(i): each if isinstance(each, Rows) else Rows(each) for i, each in rows.items()}
    some = next(iter(given.values())).q
    none = Rows(some.new_zeros(0, some.shape[-1]))
    changes = {i: given[i] if n else none for i, n in enumerate(lengths) if n or (i and lengths[i - 1])}
    return TowerPrompts(changes.pop(0, None), changes)
