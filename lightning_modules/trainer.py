"""The trainer: what every run shares, and the process group where there are several devices."""

from __future__ import annotations

from typing import Any

from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, Trainer
from lightning.pytorch.strategies import DDPStrategy, Strategy

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")


def make_trainer(
    devices: int | str | list[int],
    strategy: str | Strategy,
    precision: str = "32-true",
    num_nodes: int = 1,
    **options: Any,
) -> Trainer:
    """A trainer that leaves sampling to our loaders and checkpoints to our callback.

    Several devices (or nodes) get one process each, started as fresh subprocesses. Buffers are not broadcast: they are
    frozen, and ranks evaluate unequal numbers of batches, so a broadcast in the forward pass would wait for ever.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision}: choose one of {', '.join(PRECISIONS)}; the prompts stay float32 in all.")
    for each in options.get("callbacks") or []:
        if not isinstance(each, Callback):
            raise ValueError(f"a callback is a {type(each).__name__}: name a class of Lightning's Callback as its _target_.")
    if strategy == "auto" and (devices not in (1, "1", "auto") or num_nodes > 1):
        strategy = DDPStrategy(broadcast_buffers=False)
    try:
        return Trainer(
            devices=devices,
            strategy=strategy,
            precision=precision,
            num_nodes=num_nodes,
            use_distributed_sampler=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            inference_mode=False,  # class names bound in inference mode could not be trained with afterwards
            **options,
        )
    except (ValueError, MisconfigurationException) as error:
        raise ValueError(f"this machine or Lightning refuses the trainer's settings: {error}") from error


make_trainer.passes_to = Trainer  # whose arguments `options` are, for the check of arguments
