"""CLIP weights from a file: safetensors, a PyTorch state dict, or OpenAI's own TorchScript archive."""

from __future__ import annotations

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor

# what OpenAI's archives hold beside weights
NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def read_state_dict(path: str | Path, vocab_size: int | None = None) -> dict[str, Tensor]:
    """State dict in open_clip's (and OpenAI's) names, float32, on the CPU.

    Raises ValueError for a missing or unreadable file. `vocab_size` is needed for files that store only the token rows they
    learned (`token_embedding.rows`, the ids, beside their embeddings): other rows get the mean of the learned ones.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ValueError(f"CLIP weights {path} do not exist: give the path of a .safetensors, .pt or .bin file.")
    try:
        state = _read(path)
    except Exception as error:  # each reader has errors of its own; a user needs one sentence
        raise ValueError(f"CLIP weights {path} cannot be read ({error}): is the file complete? Download it again.") from error
    state = state.get("state_dict", state)
    state = {k.removeprefix("module."): v for k, v in state.items() if k not in NOT_WEIGHTS and isinstance(v, Tensor)}
    if (rows := state.pop("token_embedding.rows", None)) is not None:
        learned = state["token_embedding.weight"].float()
        full = learned.mean(0).repeat(vocab_size, 1)
        full[rows] = learned
        state["token_embedding.weight"] = full
    return {k: v.float() if v.is_floating_point() else v for k, v in state.items()}


def _read(path: Path) -> dict:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_openai_archive(path):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # TorchScript is deprecated, OpenAI's files are what they are
            return torch.jit.load(path, map_location="cpu").state_dict()
    return torch.load(path, map_location="cpu", weights_only=True)


def is_openai_archive(path: str | Path) -> bool:
    """Whether the file is TorchScript, as OpenAI ships CLIP; those weights need QuickGELU."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any("/code/" in name for name in archive.namelist())
