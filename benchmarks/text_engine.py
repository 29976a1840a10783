"""The text engine against the plain computation: 77 positions for every class (and, in CoCoOp, for every image).

    python -m benchmarks.text_engine             # about 7 minutes on 2 cores
    python -m benchmarks.text_engine --cases coop --repeats 5

ViT-B/16's text tower with random weights, float32, forward + backward of a cross-entropy over 100 classes. Both sides run in
one process: a first step whose memory is measured, then timed steps in turn, the short ones for a second in each turn. The
ratio is that of the medians; its spread is from the slowest plain against the fastest engine step to the reverse. The gradients
of the learnable tensors are compared; the peak memory does not count the weights. Plain CoCoOp runs its backward pass image by
image, which needs less memory than keeping all graphs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import NAMES, Plain, clip_of, maple_for
from benchmarks.timing import Side, in_turns, peak_mib, ratio, where
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo

LONG = [*NAMES[:-1], " ".join(["cat"] * 45)]  # one name of 45 tokens among them
IMAGES = 4


def cases() -> dict[str, tuple[Callable[[FrozenCLIP], PromptLearner], list[str], float]]:
    """name -> (learner, class names, the ratio that must be reached)"""
    return {
        "coop": (lambda clip: CoOp(16), NAMES, 25),
        "coop, one long name": (lambda clip: CoOp(16), LONG, 12.5),
        "cocoop": (lambda clip: CoCoOp(4), NAMES, 25),
        "cocoop, one long name": (lambda clip: CoCoOp(4), LONG, 12.5),
        "maple": (maple_for, NAMES, 20),
        "maple, one long name": (maple_for, LONG, 10),
    }


def engine_step(clip: FrozenCLIP, learner: PromptLearner, image: Tensor, labels: Tensor) -> float:
    """Forward + backward by the engine -> the loss."""
    text = clip.encode_text(learner.plan, learner.text_prompts(image))
    loss = F.cross_entropy(clip.logits(image, text), labels)
    loss.backward()
    return loss.item()


def compare(name: str, learner: PromptLearner, sides: dict[str, Side], asked: float, options: argparse.Namespace) -> None:
    """Prints the line of a case."""
    memory, gradients, device = {}, {}, torch.device(options.device)
    for side, step in sides.items():
        learner.zero_grad()
        memory[side] = peak_mib(step, device)
        gradients[side] = [p.grad.clone() for p in learner.parameters() if p.grad is not None]
    slow, fast = in_turns(sides, options.repeats, device, options.at_least).values()
    error = max(((a - b).abs().max() / a.abs().max()).item() for a, b in zip(*gradients.values(), strict=True))
    print(
        f"{name:24}{median(slow):>9.2f}s{median(fast):>9.3f}s{ratio(slow, fast):>24}{asked:>6}x",
        f"{memory['plain']:>7.0f} MiB{memory['engine']:>7.0f} MiB{error:>12.1e}",
        flush=True,
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs the cases and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="only cases whose name contains this", default="")
    parser.add_argument("--model", default="ViT-B-16-quickgelu", help="of open_clip, with random weights; or tiny")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--at-least", type=float, default=1.0, help="seconds of a side in its turn")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    torch.manual_seed(0)
    clip = clip_of(options.model).to(device)
    image = torch.randn(IMAGES, clip.embed_dim, device=device)
    labels = torch.randint(len(NAMES), (IMAGES,), device=device)
    print(f"text side, forward + backward, {len(NAMES)} classes, {IMAGES} images, float32, {where(device)}")
    print(f"{'':24}{'plain':>10}{'engine':>10}{'ratio (spread)':>24}{'asked':>7}{'plain':>12}{'engine':>11}{'gradients':>12}")
    for name, (make, names, asked) in cases().items():
        if options.cases not in name:
            continue
        learner = make(clip)
        learner.setup(clip, TrainInfo(names, 0))
        learner.to(device).bind(clip, names)
        engine = partial(engine_step, clip, learner, image, labels)
        plain = partial(Plain(clip, learner, names).step, image, labels)
        compare(name, learner, {"plain": plain, "engine": engine}, asked, options)


if __name__ == "__main__":
    main()
