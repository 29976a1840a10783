"""Parameter groups with different optimisers or schedules, as one optimiser.

What `PromptLearner.parameter_groups` may put into a group beside "params" and settings of the optimiser:

- "optimizer": makes the group's own optimiser from [group]; without it the group goes to the configured one;
- "scheduled": False keeps the group's rate constant; with True (the default) it follows the run's schedule;
- "factor": multiplies the rate of the group's optimiser;
- "span": (start, end), as shares of the run from 0 to 1: the epochs (or steps) in which the group is trained, with its schedule
  between them. Outside the span its rate is 0 and it does not change.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from lightning.pytorch import Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_modules.schedule import MultiStep, Poly, cosine_after_warmup, steps_of
from prompts.learner import PromptLearner

Make = Callable[[list[dict[str, Any]]], Optimizer]
Rate = Callable[[int, int, float], float]  # (epoch or step, how many of them, peak) -> the rate
FUSED_ON = ("cuda",)  # kinds of devices
CHOSEN = frozenset({"fused", "foreach", "capturable", "differentiable"})  # arguments that select or exclude an implementation


class CombinedOptimizer(Optimizer):
    """Several optimisers of distinct parameters that step together.

    Groups and state are shared with the parts, not copied: a rate that is set here is also set there, and the inherited
    `state_dict` and `load_state_dict` work as for one optimiser.
    """

    def __init__(self, parts: Iterable[Optimizer]):
        self.parts = list(parts)
        groups = [group for part in self.parts for group in part.param_groups]
        super().__init__([{"params": [p for group in groups for p in group["params"]]}], {})
        self.__setstate__({"state": self.state, "param_groups": groups})

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        start = 0
        for part in self.parts:
            stop = start + len(part.param_groups)
            part.__setstate__({"state": self.state, "param_groups": self.param_groups[start:stop]})
            start = stop

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Steps all parts; the loss that the closure returns, None without one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss


def fused(make: Any, groups: Iterable[Mapping[str, Any]]) -> Make:
    """`make` with fused=True, where the tensors are on a GPU and `make` is an optimiser of torch's with a fused kernel.

    On the CPU nothing changes: fused kernels round differently there, and published numbers and resumed runs must agree bit for
    bit. A config that sets `fused` or `foreach` itself is left as it is.
    """
    kind, given = getattr(make, "func", make), getattr(make, "keywords", {})
    if not isinstance(kind, type) or "fused" not in inspect.signature(kind).parameters or not CHOSEN.isdisjoint(given):
        return make
    tensors = [tensor for group in groups for tensor in group["params"]]
    on_gpu = all(tensor.device.type in FUSED_ON and tensor.is_floating_point() for tensor in tensors)
    return partial(make, fused=True) if on_gpu else make


def make_optimizer(default: Make, groups: list[dict[str, Any]], may_fuse: bool = True) -> Optimizer:
    """One optimiser of all groups; those of `default` come first. ValueError where `default` makes no optimiser.

    Args:
        may_fuse: whether fused kernels may be used where they can be (`fused`).
    """
    ordinary = [group for group in groups if "optimizer" not in group]
    separate = [dict(group) for group in groups if "optimizer" in group]
    choose = fused if may_fuse else lambda make, _: make
    parts = [choose(default, ordinary)(ordinary)] if ordinary else []
    if ordinary and not isinstance(parts[0], Optimizer):
        raise ValueError(f"optim._target_ makes a {type(parts[0]).__name__}, which is no optimizer: choose one of torch.optim.")
    parts += [choose(group.pop("optimizer"), [group])([group]) for group in separate]
    for group in (group for part in parts for group in part.param_groups):
        group["lr"] = group["lr"] * group["factor"] if "factor" in group else group["lr"]
    return parts[0] if len(parts) == 1 else CombinedOptimizer(parts)


def check_groups(learner: PromptLearner, groups: Iterable[Mapping[str, Any]]) -> None:
    """ValueError where the learner's trainable tensors and those of its parameter groups are not the same."""
    name = type(learner).__name__
    grouped = {id(p) for group in groups for p in group["params"]}
    trainable = {key: p for key, p in learner.named_parameters() if p.requires_grad}
    if not trainable:
        raise ValueError(f"{name} has no trainable tensor: make some in setup, or set uses_gradients=False.")
    if left := ", ".join(key for key, p in trainable.items() if id(p) not in grouped):
        raise ValueError(
            f"{name} would never train {left}: no group of parameter_groups holds them; add them to one, or set their "
            "requires_grad to False."
        )


def check_gradients(owner: str, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """ValueError that names the owner's trainable tensors without a gradient, after the backward passes of a whole step.

    A gradient of zeros counts as a gradient.
    """
    if names := ", ".join(key for key, p in tensors if p.requires_grad and p.grad is None):
        raise ValueError(
            f"{owner} learns nothing in {names}: no loss of the first optimiser step gives them a gradient; "
            "use them, or set their requires_grad to False."
        )


def set_rates(optimizer: Optimizer, at: int, length: int, rate: Rate = cosine_after_warmup) -> None:
    """Sets the rate of every group for an epoch (0-based, of `length`), or for a step where the schedule goes by steps.

    The peak of a group's schedule is the rate that it was made with.
    """
    for group in optimizer.param_groups:
        peak = group.setdefault("initial_lr", group["lr"])
        first, last = (round(share * length) for share in group.get("span", (0, 1)))
        if not first <= at < last:
            group["lr"] = 0.0
        elif group.get("scheduled", True):
            group["lr"] = rate(at - first, last - first, peak)
        else:
            group["lr"] = peak


def set_rates_of_batch(trainer: Trainer, epochs: int, batch: int, by_step: Poly | MultiStep | None) -> None:
    """Sets the rates of the trainer's optimiser for its epoch, or, by the schedule `by_step`, for the optimiser step of a batch
    (0-based, of this epoch)."""
    optimizer, epoch = trainer.optimizers[0], trainer.current_epoch
    if by_step is None:
        return set_rates(optimizer, epoch, epochs)
    per_epoch, steps = steps_of(trainer, epochs)
    return set_rates(optimizer, epoch * per_epoch + batch // trainer.accumulate_grad_batches, steps, by_step)
