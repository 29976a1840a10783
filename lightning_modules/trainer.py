"""The trainer: what every run shares, and the process group where there are several devices."""

from __future__ import annotations

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.callbacks import Checkpoint, ProgressBar
from lightning.pytorch.strategies import DDPStrategy, Strategy

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def make_trainer(
    devices: int | str | list[int],
    strategy: str | Strategy,
    precision: str = "32-true",
    num_nodes: int = 1,
    enable_progress_bar: bool | None = None,
    **options: Any,
) -> Trainer:
    """A trainer without Lightning's samplers and checkpoints, which this project replaces by its own loaders and callbacks.

    Several devices (or nodes) get one process each, started as fresh subprocesses. Buffers are not broadcast: they are
    frozen, and ranks evaluate unequal numbers of batches, so a broadcast in the forward pass would wait for ever.

    Args:
        enable_progress_bar: False removes a progress bar from the callbacks, True adds Lightning's where they have none; None
            leaves the callbacks as they are.
        options: other arguments of Lightning's Trainer.

    Raises:
        ValueError: a precision that no published number was trained with, a callback that is not Lightning's, or settings that
            Lightning refuses (more devices than there are).
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision}: choose one of {', '.join(PRECISIONS)}; the prompts stay float32 in all.")
    callbacks = list(options.pop("callbacks", None) or [])
    for callback in callbacks:
        if not isinstance(callback, Callback):
            raise ValueError(
                f"a callback is a {type(callback).__name__}: name a class of Lightning's Callback as its _target_."
            )
    if enable_progress_bar is False:  # Lightning refuses a bar among the callbacks, ours too
        callbacks = [callback for callback in callbacks if not isinstance(callback, ProgressBar)]
    if strategy == "auto" and (devices not in (1, "1", "auto") or num_nodes > 1):
        strategy = DDPStrategy(broadcast_buffers=False)
    try:
        return Trainer(
            devices=devices,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]
            num_nodes=num_nodes,
            callbacks=callbacks,
            use_distributed_sampler=False,
            # `enable_checkpointing`: True would add Lightning's ModelCheckpoint, False would refuse the user's own
            enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
            enable_progress_bar=bool(enable_progress_bar) or any(isinstance(callback, ProgressBar) for callback in callbacks),
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # class names bound in inference mode could not be trained with afterwards
            **options,
        )
    except (ValueError, MisconfigurationException) as error:
        raise ValueError(f"this machine or Lightning refuses the trainer's settings: {error}") from error


make_trainer.passes_to = Trainer  # type: ignore[attr-defined]  # whose arguments `options` are, for the check of arguments
