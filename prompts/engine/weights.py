"""CLIP weights from a file: safetensors (in one file or by its index in several), a PyTorch state dict, a checkpoint of
open_clip's training, or OpenAI's own TorchScript archive. Numbers of any type (float16, bfloat16, ...) become float32.

open_clip reads such files by `torch.load` and runs TorchScript; here they are data (`prompts.engine.archives`)."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError
from torch import Tensor

from files.untrusted import read_json, regular_file
from prompts.engine.archives import TensorFile, read_tensors
from prompts.engine.layouts import unwrapped
from prompts.engine.transformers_config import tensor_files
from prompts.engine.weight_folder import INDEX_END

# what OpenAI's archives hold beside weights
OPENAI_INTEGERS = {"input_resolution", "context_length", "vocab_size"}
MAX_INDEX_BYTES = 16 * 2**20  # of the list of tensors of a model in several files
MAX_EMBEDDING = 2**28  # elements of the token embedding, 1 GB; the largest published ones have 2**26


class Weights(NamedTuple):
    """A state dict; `is_openai`: it comes from an archive of OpenAI's, whose towers have QuickGELU."""

    state: dict[str, Tensor]
    is_openai: bool


def read_weights(path: str | Path, vocab_size: int | None = None, what: str = "CLIP weights") -> Weights:
    """The tensors of a file, float32, on the CPU, under the file's own names (`prompts.engine.layouts` translates them). Runs
    no code of the file (`prompts.engine.archives`).

    Raises ValueError for a missing or unreadable file. `vocab_size` is needed for files that store only the token rows they
    learned (`token_embedding.rows`, the ids, beside their embeddings): other rows get the mean of the learned ones.
    `what`: whose weights, for the sentence.
    """
    path = regular_file(Path(path).expanduser(), f"the file of {what}")
    try:
        file = _in_parts(path) if path.name.endswith(INDEX_END) else _read(path)
        state = unwrapped(file.tensors)
        is_openai = file.is_script and set(state) >= OPENAI_INTEGERS
        state = {k: v for k, v in state.items() if k not in OPENAI_INTEGERS}
        if (rows := state.pop("token_embedding.rows", None)) is not None:
            state["token_embedding.weight"] = _all_rows(rows, state.get("token_embedding.weight"), vocab_size or 0)
        return Weights({k: v.float() if v.is_floating_point() else v for k, v in state.items()}, is_openai)
    except (ValueError, RuntimeError, MemoryError) as error:  # RuntimeError: a number type that torch cannot convert
        raise ValueError(
            f"{what} {path} cannot be read ({str(error)[:200]}): is the file complete? Download it again."
        ) from error


def _read(path: Path) -> TensorFile:
    return TensorFile(_safetensors(path), False) if path.suffix == ".safetensors" else read_tensors(path)


def _in_parts(path: Path) -> TensorFile:
    """The tensors of a model in several files beside its index, each from the file that the index names."""
    index = read_json(path, "the index of CLIP weights", MAX_INDEX_BYTES)
    tensors: dict[str, Tensor] = {}
    for name, wanted in tensor_files(index, "the index").items():
        part = regular_file(path.parent / name, "the part of the weights")
        held = _read(part).tensors
        if lacking := [key for key in wanted if key not in held]:
            raise ValueError(f"{name} lacks {lacking[0][:80]!r}, which the index says it holds")
        tensors |= {key: held[key] for key in wanted}
    return TensorFile(tensors, False)


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
