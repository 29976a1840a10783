"""Whole steps, from pixels, of the released code of CoOp, CoCoOp and MaPLe against ours: time and peak memory.

    python -m benchmarks.released                                        # the plain computation in place of released code
    python -m benchmarks.released --coop ../CoOp --maple ../multimodal-prompt-learning --repeats 2
    python -m benchmarks.released --store --cases "coop, 100"            # our side takes stored image features

Clone github.com/KaiyangZhou/CoOp (CoOp, CoCoOp) and github.com/muzairkhattak/multimodal-prompt-learning (MaPLe) and name the
folders: their models are imported and run here. Dassl is not needed. Without them the other side is the published computation
by open_clip's blocks, 77 positions for every class (`benchmarks/plain.py`).

Both sides have the same random weights of the model's real shapes and the same inputs, float32. Their logits are compared
first: further apart than a case allows, and nothing is timed. MaPLe's released code rounds its visual prompts to half
precision, so it may differ more. Then sides run in turn, in one process. Training: forward, backward, SGD. Evaluation: a
batch's logits; our side keeps the text features after the first batch, the others encode all classes at every batch, as
released. `image tower` is that tower's unprompted forward pass alone. Memory: beyond what was held before, weights not
counted.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import IMAGENET, Plain, clip_of, maple_for
from benchmarks.released_code import released_model
from benchmarks.timing import Side, in_turns, peak_mib, ratio, summary, where
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP


@dataclass(frozen=True)
class Case:
    """A row of the table. `apart`: the most that logits may differ, relative to the largest."""

    name: str
    make: Callable[[FrozenCLIP], PromptLearner]
    classes: int
    images: int
    trains: bool = True
    apart: float = 1e-4


CASES = (
    Case("coop, 100 classes", lambda clip: CoOp(16), 100, 32),
    Case("coop, 400 classes", lambda clip: CoOp(16), 400, 32),
    Case("maple, 100 classes", maple_for, 100, 4, apart=0.01),
    Case("cocoop, 100 classes", lambda clip: CoCoOp(4), 100, 1),
    Case("coop, evaluation, 1000 classes", lambda clip: CoOp(16), 1000, 100, trains=False),
    Case("maple, evaluation, 1000 classes", maple_for, 1000, 100, trains=False, apart=0.01),
)


def training(logits: Callable[[], Tensor], labels: Tensor, parameters: list[torch.nn.Parameter]) -> Side:
    """Forward, backward and optimiser; the loss."""
    optimizer = torch.optim.SGD(parameters, 0.002, momentum=0.9)

    def step() -> float:
        optimizer.zero_grad()
        loss = F.cross_entropy(logits(), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


class Sides:
    """Both sides of a case: pixels -> logits, with equal weights."""

    def __init__(self, case: Case, clip: FrozenCLIP, root: Path | None, stored: bool):
        self.case, self.clip = case, clip
        learner, names = case.make(clip), list(IMAGENET[: case.classes])
        ours = PromptedCLIP(clip, learner)
        ours.setup(TrainInfo(names, case.images))
        ours.to(clip.device)
        self.pixels = torch.randn(case.images, 3, *[clip.image_spec["size"]] * 2, device=clip.device)
        with torch.no_grad():
            features = clip.encode_image(self.pixels) if stored else None
        self.logits: dict[str, Callable[[], Tensor]] = {}
        self.parameters = {"ours": list(learner.parameters())}
        if root:
            model = released_model(root, clip, learner, names)
            self.logits["released"] = lambda: model(self.pixels)
            self.parameters["released"] = list(model.prompt_learner.parameters())  # type: ignore[union-attr]
        else:
            plain = Plain(clip, learner, names)
            self.logits["plain"] = lambda: plain.logits(plain.encode_image(self.pixels))
            self.parameters["plain"] = self.parameters["ours"]
        self.logits["ours"] = lambda: ours(None if stored else self.pixels, None, features).logits

    def check(self) -> float:
        """How far the logits are apart, relative to the largest. ValueError where this is too far."""
        with torch.no_grad():
            theirs, ours = (logits() for logits in self.logits.values())
        apart = ((theirs - ours).abs().max() / ours.abs().max()).item()
        if not apart <= self.case.apart:
            raise ValueError(f"{self.case.name}: the logits of the two sides are {apart:.1e} apart, so nothing is compared.")
        return apart

    def work(self) -> dict[str, Side]:
        """What is timed, by side; the image tower alone is the last."""
        labels = torch.arange(self.case.images, device=self.clip.device) % self.case.classes
        sides: dict[str, Side] = {}
        for name, logits in self.logits.items():
            steps = self.case.trains
            sides[name] = training(logits, labels, self.parameters[name]) if steps else torch.no_grad()(logits)
        sides["image tower"] = torch.no_grad()(partial(self.clip.encode_image, self.pixels))
        return sides


def compare(case: Case, clip: FrozenCLIP, root: Path | None, options: argparse.Namespace) -> None:
    """Prints a case."""
    torch.manual_seed(0)
    both = Sides(case, clip, root, options.store)
    apart, sides = both.check(), both.work()
    memory = {name: peak_mib(work, clip.device) for name, work in sides.items()}
    times = in_turns(sides, options.repeats, clip.device, at_least=options.at_least)
    theirs = next(iter(times))
    stored = ", ours from stored features" if options.store else ""
    print(f"{case.name}, batch {case.images}{stored}; logits {apart:.1e} apart")
    for name, seconds in times.items():
        print(f"  {name:12} {summary(seconds, '.3f'):28} s {memory[name]:8.0f} MiB")
    tower = median(times["ours"]) / median(times["image tower"])
    print(f"  {theirs} / ours: {ratio(times[theirs], times['ours'])}; ours / image tower: {tower:.2f}", flush=True)


def main(arguments: list[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--coop", type=Path, help="folder of the released CoOp and CoCoOp")
    parser.add_argument("--maple", type=Path, help="folder of the released MaPLe")
    parser.add_argument("--cases", default="", help="only cases whose name contains this")
    parser.add_argument("--store", action="store_true", help="our side takes image features that are known; not for MaPLe")
    parser.add_argument("--model", default="ViT-B-16-quickgelu", help="of open_clip, with random weights; or tiny, small")
    parser.add_argument("--classes", type=int, help="in all cases; as named by default")
    parser.add_argument("--images", type=int, help="of a batch, in all cases")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=1.0, help="seconds of a side in its turn")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    clip = clip_of(options.model).to(device)
    print(f"{options.model}, random weights, float32, {where(device)}; median (smallest to largest) of {options.repeats} turns")
    for case in CASES:
        case = replace(case, classes=options.classes or case.classes, images=options.images or case.images)
        if options.cases in case.name and not (options.store and case.make is maple_for):
            compare(case, clip, options.maple if case.make is maple_for else options.coop, options)


if __name__ == "__main__":
    main()
