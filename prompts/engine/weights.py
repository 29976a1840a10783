"""CLIP weights from a file: safetensors, a PyTorch state dict, or OpenAI's own TorchScript archive."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from files.untrusted import regular_file
from prompts.engine.archives import TensorFile, read_tensors

# what OpenAI's archives hold beside weights
OPENAI_INTEGERS = {"input_resolution", "context_length", "vocab_size"}
MAX_EMBEDDING = 2**28  # elements of the token embedding, 1 GB; the largest published ones have 2**26


class Weights(NamedTuple):
    """A state dict in open_clip's names; `is_openai`: it comes from an archive of OpenAI's, whose towers have QuickGELU."""

    state: dict[str, Tensor]
    is_openai: bool


def read_weights(path: str | Path, vocab_size: int | None = None) -> Weights:
    """State dict in open_clip's (and OpenAI's) names, float32, on the CPU. Runs nothing of it (`prompts.engine.archives`).

    Raises ValueError for a missing or unreadable file. `vocab_size` is needed for files that store only the token rows they
    learned (`token_embedding.rows`, the ids, beside their embeddings): other rows get the mean of the learned ones.
    """
    path = regular_file(Path(path).expanduser(), "the file of CLIP weights")
    try:
        file = TensorFile(_safetensors(path), False) if path.suffix == ".safetensors" else read_tensors(path)
        state = {name.removeprefix("module."): tensor for name, tensor in file.tensors.items()}
        is_openai = file.is_script and set(state) >= OPENAI_INTEGERS
        # the text tower's mask is no weight, though TorchScript of some versions lists it among them
        state = {k: v for k, v in state.items() if k not in OPENAI_INTEGERS and k.rpartition(".")[2] != "attn_mask"}
        if (rows := state.pop("token_embedding.rows", None)) is not None:
            state["token_embedding.weight"] = _all_rows(rows, state.get("token_embedding.weight"), vocab_size or 0)
        return Weights({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, is_openai)
    except (ValueError, RuntimeError, MemoryError) as error:  # RuntimeError: a number type that torch cannot convert
        raise ValueError(
            f"CLIP weights {path} cannot be read ({str(error)[:200]}): is the file complete? Download it again."
        ) from error


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError) as error:  # KeyError: a number type that torch does not have
        raise ValueError(" ".join(str(error).split())) from error


def _all_rows(rows: Tensor, learned: Tensor | None, vocab_size: int) -> Tensor:
    """The token embedding of the whole vocabulary, from some of its rows."""
    if learned is None or learned.dim() != 2 or rows.shape != learned.shape[:1] or rows.is_floating_point() or not len(rows):
        raise ValueError("token_embedding.rows does not number the rows of token_embedding.weight")
    if rows.min() < 0 or rows.max() >= vocab_size:
        raise ValueError(f"token_embedding.rows holds {rows.min()} to {rows.max()}, ids lie between 0 and {vocab_size - 1:,}")
    if vocab_size * learned.shape[1] > MAX_EMBEDDING:  # a small file must not allocate a huge table
        raise ValueError(f"{vocab_size:,} token embeddings of {learned.shape[1]:,} numbers are more than any CLIP has")
    full = learned.float().mean(0).repeat(vocab_size, 1)
    full[rows.long()] = learned.float()
    return full
