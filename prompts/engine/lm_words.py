"""The tokenizer of a language model, from files that anyone may have made (`prompts.engine.tokenizer_files`)."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from prompts.engine import weight_folder
from prompts.engine.tokenizer_files import check_tokenizer_files

FILES = (*weight_folder.TOKENIZER, *weight_folder.TOKENIZER_EXTRAS, weight_folder.TOKENIZER_CONFIG)


class Words:
    """Texts as tokens of a language model and back.

    `size`: tokens of the vocabulary; `start`: those that the tokenizer puts before every text; `end`: the one behind a text.

    Args:
        tokenizer: transformers'.
        digest: of its files.

    Raises:
        ValueError: it has no token for the end of a text.
    """

    def __init__(self, tokenizer: Any, digest: str):
        self.tokenizer, self.digest, self.size = tokenizer, digest, len(tokenizer)
        if tokenizer.eos_token_id is None:
            raise ValueError(
                "the language model's tokenizer has no token for the end of a text, so that no text of its would end: name one "
                "as eos_token in its tokenizer_config.json."
            )
        self.end = int(tokenizer.eos_token_id)
        begin, around = tokenizer.bos_token_id, list(tokenizer("")["input_ids"])
        self.start = around[:1] if begin is not None and around[:1] == [begin] else []
        # byte-level tokenizers glue a word to what stands before it, others begin a word by themselves
        self.space = " " if self.decode([*self.encode("a"), *self.encode("a")]) == "aa" else ""

    def encode(self, text: str) -> list[int]:
        """The tokens of a text alone; special tokens written in it are read as plain text."""
        return list(self.tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"])

    def continuation(self, text: str) -> list[int]:
        """The tokens of a text that follows another one after a space. An empty text has none."""
        text = text.strip()
        return self.encode(self.space + text) if text else []

    def decode(self, ids: list[int]) -> str:
        """The text of tokens up to the first end, without space around it."""
        ids = ids[: ids.index(self.end)] if self.end in ids else ids
        return self.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def read_words(folder: Path) -> Words:
    """The tokenizer of a language model's folder. ValueError where its files are missing, name code, or do not fit together."""
    check_tokenizer_files(folder, "copy it there")
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), trust_remote_code=False, local_files_only=True)
    except Exception as error:  # for files that do not fit together it raises many types
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the tokenizer in {folder} cannot be loaded: {why.rstrip('.')}.") from error
    digest = hashlib.sha256()
    for name in FILES:
        if (folder / name).is_file():
            digest.update(name.encode() + (folder / name).read_bytes())
    return Words(tokenizer, digest.hexdigest())
