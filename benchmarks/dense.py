"""Time and memory of DenseCLIP for an image: post-model prompting against pre-model prompting and texts without the image.

    python -m benchmarks.dense                                      # ViT-B/16 shapes, 512 px, 150 classes: minutes on 2 cores
    python -m benchmarks.dense --clip tiny --size 64 --classes 20   # seconds

Weights are random. The kinds run in turn in one process: an evaluation, whose class texts are known but for pre-model
prompting, and a training step with a frozen CLIP, of one image each. Memory is the peak above what was there before.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import Any

import torch

from benchmarks.plain import clip_of
from benchmarks.timing import in_turns, peak_mib, ratio, summary, where
from prompts.denseclip import DenseCLIP
from prompts.learner import TrainInfo
from prompts.parts.training_draws import Step
from prompts.prompted_clip import PromptedCLIP

KINDS = {"post": "post-model", "pre": "pre-model", "text": "texts without the image", "none": "no texts"}
NAMES = ("wall", "building", "sky", "floor", "tree", "ceiling", "road", "bed", "window pane", "grass")


def names(count: int) -> list[str]:
    """Class names of one to three tokens."""
    return [f"{NAMES[i % len(NAMES)]} {i}" for i in range(count)]


def evaluate(model: PromptedCLIP, pixels: torch.Tensor) -> torch.Tensor:
    """Logits of an image (1,3,S,S), as an evaluation has them."""
    model.eval()
    learner: Any = model.learner
    with torch.no_grad():
        return learner.segment(model.clip, pixels).logits


def train(model: PromptedCLIP, pixels: torch.Tensor) -> float:
    """Forward and backward pass of a step of one image (1,3,S,S); its loss."""
    model.train()
    learner: Any = model.learner
    out = learner.segment(model.clip, pixels, Step(1, torch.zeros(1, dtype=torch.long), torch.ones(1)))
    mask = torch.zeros(1, *pixels.shape[-2:], dtype=torch.uint8, device=pixels.device)
    loss = torch.stack([loss.sum() for loss in learner.dense_losses(out, mask).values()]).sum()
    loss.backward()
    model.zero_grad()
    return loss.item()


def main(arguments: list[str] | None = None) -> None:
    """Prints a line for each kind and way: seconds and memory for an image, and the ratio to post-model prompting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", default="ViT-B-16", help="tiny, or an architecture, with random weights")
    parser.add_argument("--size", type=int, default=512, help="side of the images, pixels")
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clip = clip_of(options.clip).to(device)
    pixels = torch.randint(0, 256, (1, 3, options.size, options.size), dtype=torch.uint8).to(device)
    models = {}
    for kind in options.kinds:
        models[kind] = PromptedCLIP(clip, DenseCLIP(guidance=kind))
        models[kind].setup(TrainInfo(names(options.classes), 1))
        models[kind].to(device)
    print(f"{options.clip}, {options.size} px, {options.classes} classes, {where(device)}; median of {options.repeats}")
    for way, work in {"evaluation": evaluate, "training step": train}.items():
        sides = {kind: partial(work, model, pixels) for kind, model in models.items()}
        memory = {kind: peak_mib(side, device) for kind, side in sides.items()}  # the first run also fills the cache of texts
        times = in_turns(sides, options.repeats, device)
        for kind, taken in times.items():
            against = f"   {ratio(taken, times['post'], '.2f')} x post-model" if "post" in times and kind != "post" else ""
            print(f"{way:14} {KINDS[kind]:24} {summary(taken, '.3f')} s {memory[kind]:8.0f} MiB{against}", flush=True)


if __name__ == "__main__":
    main()
