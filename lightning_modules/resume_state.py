"""The resume state `last.ckpt`: writing it atomically, and reading it as data that may be damaged or hostile."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from torch import Tensor

from files.whole import write_bytes
from prompts.engine.archives import check_state

PROGRESS = {"history": list, "losses": list, "seconds": float}  # types of the entries that the module writes
LOOPS = {"loops", "optimizer_states", "epoch", "global_step"}  # entries that Lightning writes


class WholeFiles(TorchCheckpointIO):
    """Writes a checkpoint atomically, through a temporary file in the same folder: Lightning would use the system's temporary
    folder, which may be full or on another disk."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:
        """Writes a checkpoint; OSError, which names the path, where the disk is full."""
        content = io.BytesIO()  # on a full disk torch's own file writer fails with an internal error, not an OSError
        torch.save(checkpoint, content)
        write_bytes(path, content.getvalue())


def read_state(path: Path, wanted: Mapping[str, Tensor], run: Mapping[str, Any], loops: Mapping[str, Any]) -> dict[str, Any]:
    """A `last.ckpt`, read without running any code in it.

    Args:
        wanted: the tensors that the module saves, by name.
        run: the run that the state must belong to.
        loops: the state of training loops that have not begun: the keys that a state must have. Lightning itself takes any.

    Raises:
        ValueError: it is damaged, or of another run or learner.
    """
    then = "the same command with force=true starts the run over"
    try:
        check_state(path)  # a hostile file can make torch's reader hang or fill the memory, though it runs no code
        state = torch.load(path, map_location="cpu", weights_only=True)
        tensors, known = state["state_dict"], state["run"] == dict(run)
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        finite = all(bool(torch.isfinite(tensor).all()) for tensor in tensors.values())
        progress = state["progress"]
        whole = all(isinstance(progress[key], kind) for key, kind in PROGRESS.items())
        whole = whole and set(state) >= LOOPS and alike(state["loops"]["fit_loop"], loops)
        whole = whole and all(math.isfinite(total) and isinstance(steps, int) for total, steps in progress["losses"])
    except OSError as error:
        raise ValueError(f"{path} cannot be read ({error.strerror or error}): {then}.") from error
    except Exception as error:  # torch's reader raises many types for damaged files
        raise ValueError(f"{path} is damaged, or no state of a run that was interrupted: {then}.") from error
    if not known:
        raise ValueError(f"{path} is the state of another run: {then}.")
    differ = sorted(set(shapes.items()) ^ {(name, tuple(tensor.shape)) for name, tensor in wanted.items()})
    if differ:
        raise ValueError(f"{path} belongs to another learner: {differ[0][0]} is not in both or has another shape; {then}.")
    if not finite or not whole:
        raise ValueError(f"{path} is damaged{'' if finite else ': its tensors are not finite'}: {then}.")
    return state


def alike(state: Any, example: Mapping[str, Any]) -> bool:
    """Whether nested dicts have every key of the example, with values of its types."""
    if not isinstance(state, dict) or not set(example) <= set(state):
        return False
    return all(
        alike(state[key], value) if isinstance(value, dict) else type(state[key]) is type(value)
        for key, value in example.items()
    )
