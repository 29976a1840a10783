"""Retrieval: ranks by blocks against the whole matrix, and a training step of CoOp on captions against 77 positions each.

    python -m benchmarks.retrieval                                # COCO's 5k test images; about 10 minutes on 2 cores
    python -m benchmarks.retrieval --images 500 --batch 8         # a try

Evaluation: random embeddings (512 numbers) of 5,000 images with 5 captions each. The plain sides hold all scores:
one takes the first ten of each row and column (recall alone), one sorts them (recall and median ranks). Recalls are compared.

Training: ViT-B/16's text tower with random weights, float32, CoOp with 16 context tokens, forward + backward of the symmetric
loss over a batch of captions, from the texts, other ones in each step. In later epochs the engine knows their tokens.
Captions have 12 tokens on average, about as many as COCO's.

Each side runs in this process; the peak memory does not count embeddings and weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.plain import NAMES, Plain, clip_of
from benchmarks.timing import in_turns, peak_mib, ratio, summary, where
from lightning_modules.retrieval_ranks import TOP, Gallery, exact_ranks
from lightning_modules.retrieval_ranks import summary as recalls
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import Caption
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

WORDS = sorted({word for name in NAMES for word in name.split()})


class Evaluation:
    """Random embeddings, and the sides that rank them: each returns recall at 1, 5 and 10, in percent, of both directions."""

    def __init__(self, images: int, device: torch.device, captions: int = 5, width: int = 512) -> None:
        self.gallery = Gallery.of([[f"{i} {j}" for j in range(captions)] for i in range(images)]).to(device)
        noise = 12 * torch.randn(images * captions, width, device=device)
        image = torch.randn(images, width, device=device)
        self.image, self.text = (F.normalize(t, dim=-1) for t in (image, image[self.gallery.owner] + noise))

    def blocks(self) -> list[float]:
        """Ours."""
        rows = self.gallery.images_at_once
        ranks = exact_ranks(lambda a, b: self.image[a:b] @ self.text.T, len(self.image), self.gallery, rows)
        numbers = recalls(ranks)
        return [numbers[f"{side}_r{k}"] for side in ("image_to_text", "text_to_image") for k in TOP]

    def hits(self, first: Callable[[Tensor], Tensor]) -> list[float]:
        """Recalls, `first` giving the best candidates of each row."""
        scores, owner = self.image @ self.text.T, self.gallery.owner
        found = (
            owner[first(scores)] == torch.arange(len(scores), device=owner.device)[:, None],
            first(scores.T) == owner[:, None],
        )
        return [100 * hit[:, :k].any(1).double().mean().item() for hit in found for k in TOP]

    def topk(self) -> list[float]:
        """The whole matrix, the first ten of each row and column."""
        return self.hits(lambda scores: scores.topk(max(TOP), 1).indices)

    def argsort(self) -> list[float]:
        """The whole matrix, sorted; sorted rows also say where the first hit is, for the median rank."""
        return self.hits(lambda scores: scores.argsort(dim=1, descending=True, stable=True))


class Training:
    """Steps of CoOp on captions, by the engine and with 77 positions."""

    def __init__(self, clip: FrozenCLIP, batch: int) -> None:
        self.clip, self.batch, self.rng = clip, batch, np.random.default_rng(0)
        self.learner = CoOp(16)
        self.model = PromptedCLIP(clip, self.learner)
        self.model.setup(TrainInfo(self.captions(), batch))  # type: ignore[arg-type]
        self.learner.to(clip.device)
        self.image = torch.randn(batch, clip.embed_dim, device=clip.device)

    def captions(self) -> list[Caption]:
        """As many as the batch."""
        return [Caption(" ".join(self.rng.choice(WORDS, self.rng.integers(7, 13)))) for _ in range(self.batch)]

    def loss(self, text: Tensor) -> float:
        """Forward from the text features (C,d), and backward."""
        logits, target = self.clip.logits(self.image, text), torch.arange(self.batch, device=text.device)
        loss = (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2
        loss.backward()
        return loss.item()

    def engine(self, captions: list[Caption]) -> float:
        """Ours, from texts."""
        self.model.bind(captions)
        return self.loss(self.model.text_features(self.image))

    def plain(self, captions: list[Caption]) -> float:
        """77 positions of every caption, from texts."""
        return self.loss(Plain(self.clip, self.learner, captions).encode(self.learner.ctx, []))  # type: ignore[arg-type]


def evaluate(images: int, device: torch.device, repeats: int) -> None:
    """Prints times and memory of the three sides."""
    case = Evaluation(images, device)
    sides = {"blocks (ours)": case.blocks, "whole matrix, first 10": case.topk, "whole matrix, sorted": case.argsort}
    print(f"evaluation: {images:,} images, {len(case.gallery.owner):,} captions")
    memory = {name: peak_mib(side, device) for name, side in sides.items()}
    found = [side() for side in sides.values()]
    error = max(abs(a - b) for other in found for a, b in zip(found[0], other, strict=True))
    times = in_turns(sides, repeats, device)
    for name, seconds in times.items():
        faster = ratio(seconds, times["blocks (ours)"], ".2f")
        print(f"{name:28}{summary(seconds, '.2f'):>26} s{memory[name]:>9.0f} MiB   ours x {faster}", flush=True)
    print(f"recalls differ by {error:.4f} %")


def train(model: str, batch: int, device: torch.device, repeats: int) -> None:
    """Prints times and memory of both sides of a step."""
    case = Training(clip_of(model, text_rows=None).to(device), batch)
    warm, later, new = case.captions(), case.captions(), iter([case.captions() for _ in range(repeats)])
    print(f"training: CoOp on {batch} captions a step, text tower of {model}, forward + backward")
    gradients, memory = [], {}
    for name, side in {"engine": case.engine, "77 positions": case.plain}.items():
        case.learner.zero_grad()
        memory[name] = peak_mib(partial(side, warm), device)
        gradients.append(case.learner.ctx.grad.clone())
    case.engine(later)
    sides = {
        "engine, new captions": lambda: case.engine(next(new)),
        "engine, later epochs": lambda: case.engine(later),
        "77 positions": lambda: case.plain(later),
    }
    times = in_turns(sides, repeats, device)
    for name, seconds in times.items():
        peak = memory[name.partition(",")[0]]
        print(f"{name:28}{summary(seconds, '.3f'):>28} s{peak:>9.0f} MiB", flush=True)
    error = ((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max()).item()
    print(
        f"ratio: {ratio(times['77 positions'], times['engine, later epochs'])}; gradients differ by {error:.1e} of the largest"
    )


def main(arguments: list[str] | None = None) -> None:
    """Runs both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ViT-B-16-quickgelu", help="of open_clip, with random weights; or tiny")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    torch.manual_seed(0)
    print(f"{where(device)}; float32; medians (smallest to largest) of {options.repeats}, in turns", flush=True)
    evaluate(options.images, device, options.repeats)
    train(options.model, options.batch, device, options.repeats)


if __name__ == "__main__":
    main()
