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
import statistics
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.text_engine import NAMES, PeakMemory, Plain, timed
from lightning_modules.retrieval_ranks import TOP, Gallery, exact_ranks, summary
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP, load_clip
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
        numbers = summary(ranks)
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
        self.model.setup(TrainInfo(self.captions(), batch))
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
        return self.loss(Plain(self.clip, self.learner, captions).encode(self.learner.ctx, []))


def evaluate(images: int, device: torch.device, repeats: int) -> None:
    """Prints times and memory of the three sides."""
    case = Evaluation(images, device)
    sides = {"blocks (ours)": case.blocks, "whole matrix, first 10": case.topk, "whole matrix, sorted": case.argsort}
    print(f"evaluation: {images:,} images, {len(case.gallery.owner):,} captions")
    reference = None
    for name, side in sides.items():
        with PeakMemory(device) as peak:  # also the warm-up
            recalls = side()
        reference = reference or recalls
        seconds = statistics.median(timed(side, torch.nn.Module(), device) for _ in range(repeats))
        error = max(abs(a - b) for a, b in zip(recalls, reference, strict=True))
        print(f"{name:28}{seconds:>9.2f} s{peak.mib:>9.0f} MiB   recalls differ by {error:.4f} %", flush=True)


def train(batch: int, device: torch.device, repeats: int) -> None:
    """Prints times and memory of both sides of a step."""
    case = Training(load_clip("ViT-B-16-quickgelu", "random", text_rows=None).to(device), batch)
    warm, *steps = [case.captions() for _ in range(repeats + 2)]
    print(f"training: CoOp on {batch} captions a step, ViT-B/16's text tower, forward + backward")
    sides = {"engine, first epoch": case.engine, "engine, later epochs": case.engine, "77 positions": case.plain}
    medians, gradients = {}, []
    for name, side in sides.items():
        with PeakMemory(device) as peak:
            side(warm)
        gradients.append(case.learner.ctx.grad.clone())
        medians[name] = statistics.median(timed(partial(side, captions), case.learner, device) for captions in steps)
        case.learner.zero_grad()
        print(f"{name:28}{medians[name]:>9.3f} s{peak.mib:>9.0f} MiB", flush=True)
    ratio, error = medians["77 positions"] / medians["engine, later epochs"], (gradients[1] - gradients[2]).abs().max()
    print(f"ratio: {ratio:.1f}; gradients differ by {(error / gradients[2].abs().max()).item():.1e} of the largest")


def main() -> None:
    """Runs both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{where}; float32; medians of {options.repeats}", flush=True)
    evaluate(options.images, device, options.repeats)
    train(options.batch, device, options.repeats)


if __name__ == "__main__":
    main()
