"""The exact softmax over all classes by the text engine, against POMP's sampled classes run plainly.

    python -m benchmarks.exact_softmax                # an eighth of the real size on either side, about 3 minutes on 2 cores
    python -m benchmarks.exact_softmax --share 1      # the real size, where memory allows it

A training step of POMP's recipe (arXiv 2304.04704 and its code) encodes the classes of 128 images and 999 sampled ones, 1,127
sequences of 77 positions. The engine encodes all of the 10,450 classes of the processed ImageNet-21K instead, each from the
first token that differs to EOT. ViT-B/16's text tower with random weights, 4 context tokens, float32, forward + backward of a
cross-entropy over what was encoded, in one process, the two sides in turn. Names: those of the 11,221 synsets that timm lists
for the same release's older edition, which is the closest list that is at hand without the data.

Both sides take time in proportion to their sequences, so a share of the size tells the ratio; the cost model is printed too.
"""

from __future__ import annotations

import argparse
from statistics import median

import torch
import torch.nn.functional as F
from timm.data import ImageNetInfo
from torch import Tensor

from benchmarks.plain import Plain, clip_of
from benchmarks.timing import in_turns, peak_mib, ratio, where
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner, TrainInfo

CLASSES, IMAGES, SAMPLED, POSITIONS = 10_450, 128, 999, 77


def names(count: int) -> list[str]:
    """`count` class names, evenly from the list."""
    info = ImageNetInfo("imagenet-21k-miil")
    every = [info.label_name_to_description(label).split(",")[0] for label in info.label_names()]
    return [every[i * len(every) // count] for i in range(count)]


def flops(rows: int, width: int, blocks: int) -> float:
    """Of forward + backward: 12 D^2 multiply-adds a row and block forward, the same backward as the weights are frozen."""
    return 2 * 2 * 12 * width**2 * blocks * rows


class Exact:
    """A step over all `count` classes by the engine."""

    def __init__(self, clip: FrozenCLIP, learner: PromptLearner, image: Tensor, count: int):
        self.clip, self.learner, self.image = clip, learner, image
        self.labels = torch.arange(len(image), device=image.device) % count

    def __call__(self) -> float:
        text = self.clip.encode_text(self.learner.plan, self.learner.text_prompts(self.image))
        loss = F.cross_entropy(self.clip.logits(self.image, text), self.labels)
        loss.backward()
        return loss.item()


class Sampled:
    """77 positions for every sequence, in one graph, as published; its logits are against own class and sampled ones."""

    def __init__(self, clip: FrozenCLIP, learner: CoOp, image: Tensor, names: list[str]):
        self.clip, self.learner, self.image = clip, learner, image
        self.count = len(names) * IMAGES // (IMAGES + SAMPLED)  # the images' own classes, which stand first
        self.plain = Plain(clip, learner, names)

    def __call__(self) -> float:
        text = self.plain.encode(self.learner.ctx, [])
        logits = self.clip.logits(self.image[: self.count], text)
        target = torch.arange(self.count, device=logits.device)
        loss = F.cross_entropy(torch.cat([logits[target, target][:, None], logits[:, self.count :]], 1), 0 * target)
        loss.backward()
        return loss.item()


def main(arguments: list[str] | None = None) -> None:
    """Runs both sides and prints times, memory and the cost model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=1 / 8, help="of the real size, on both sides")
    parser.add_argument("--model", default="ViT-B-16-quickgelu", help="of open_clip, with random weights; or tiny")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    torch.manual_seed(0)
    clip = clip_of(options.model, text_rows=None).to(device)
    classes, sequences = round(CLASSES * options.share), round((IMAGES + SAMPLED) * options.share)
    learner, listed = CoOp(4), names(CLASSES)
    learner.setup(clip, TrainInfo(listed, 0))
    learner.to(device).bind(clip, listed)
    rows, width, blocks = int(learner.plan.lengths.sum()), clip.text_width, clip.text_blocks
    image = torch.randn(IMAGES, clip.embed_dim, device=device)

    listed = names(classes)
    learner.bind(clip, listed)
    sides = {
        f"exact, {classes:,} classes": Exact(clip, learner, image, classes),
        f"sampled, {sequences:,} x {POSITIONS}": Sampled(clip, learner, image, names(sequences)),
    }
    print(f"text side, forward + backward, {options.model}, float32, {where(device)}; {options.repeats} steps each, in turn")
    memory = {name: peak_mib(step, device) for name, step in sides.items()}  # type: ignore[arg-type]  # also the warm-up
    times = in_turns(sides, options.repeats, device)  # type: ignore[arg-type]
    for name in sides:
        print(f"{name:28}{median(times[name]):>9.2f} s{memory[name]:>9.0f} MiB")
    exact, sampled = times.values()
    print(f"sampled / exact: {ratio(sampled, exact, '.2f')}")
    plain_rows = (IMAGES + SAMPLED) * POSITIONS
    ours, theirs = (f"{n:,} rows, {flops(n, width, blocks) / 1e12:.1f} TFLOP" for n in (rows, plain_rows))
    print(f"cost model at full size: {CLASSES:,} classes are {ours} a step, sampling {theirs}: {plain_rows / rows:.2f} times")


if __name__ == "__main__":
    main()
