"""The text engine against the plain computation: 77 positions for every class (and, in CoCoOp, for every image).

    python -m benchmarks.text_engine             # about 7 minutes on 2 cores
    python -m benchmarks.text_engine --cases coop --repeats 5

ViT-B/16's text tower with random weights, float32, forward + backward of a cross-entropy over 100 classes. Both sides run in
one process: a first step whose memory is measured, then timed steps one after the other, as in training (three times as many of
the short ones). The ratio is that of the medians; its spread is from the slowest plain against the fastest engine step to the
reverse. The gradients of the learnable tensors are compared; the peak memory does not count the weights. Plain CoCoOp runs its
backward pass image by image, which needs less memory than keeping all graphs.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP, load_clip
from prompts.learner import PromptLearner, TrainInfo
from prompts.maple import MaPLe

NAMES = open_clip.IMAGENET_CLASSNAMES[::10]  # 100 names of 1 to 5 tokens
LONG = [*NAMES[:-1], " ".join(["cat"] * 45)]  # one name of 45 tokens among them
IMAGES = 4


def cases() -> dict[str, tuple[Callable[[], PromptLearner], list[str], float]]:
    """name -> (learner, class names, the ratio that must be reached)"""
    return {
        "coop": (lambda: CoOp(16), NAMES, 25),
        "coop, one long name": (lambda: CoOp(16), LONG, 12.5),
        "cocoop": (lambda: CoCoOp(4), NAMES, 25),
        "cocoop, one long name": (lambda: CoCoOp(4), LONG, 12.5),
        "maple": (lambda: MaPLe(2, 9), NAMES, 20),
        "maple, one long name": (lambda: MaPLe(2, 9), LONG, 10),
    }


class Plain:
    """The published way: open_clip's own blocks over (classes, 77, 512), the context written into each class's embeddings."""

    def __init__(self, clip: FrozenCLIP, learner: PromptLearner, names: list[str]):
        self.clip, self.learner, self.model = clip, learner, clip.model
        words = " ".join(["X"] * learner.n_ctx) if learner.init is None else learner.init
        texts = [f"{words} {name}." for name in names]
        self.tokens = clip.tokenizer(texts).to(clip.device)
        with torch.no_grad():
            self.embedded = clip.model.token_embedding(self.tokens)

    def encode(self, ctx: Tensor, deep: list[Tensor]) -> Tensor:
        """Context (n,D) at the input and `deep` rows of later blocks -> (C,d)"""
        n, model = len(ctx), self.model
        x = torch.cat([self.embedded[:, :1], ctx.expand(len(self.tokens), -1, -1), self.embedded[:, 1 + n :]], 1)
        x = x + model.positional_embedding
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deep):
                rows = deep[i - 1].expand(len(self.tokens), -1, -1)
                x = torch.cat([x[:, :1], rows, x[:, 1 + n :]], 1)
            x = block(x, attn_mask=model.attn_mask)
        x = model.ln_final(x[torch.arange(len(x)), self.tokens.argmax(-1)])
        return x @ model.text_projection

    def step(self, image: Tensor, labels: Tensor) -> float:
        """Forward + backward -> the loss."""
        loss, learner = 0.0, self.learner
        if isinstance(learner, CoCoOp):
            for one, label in zip(image, labels, strict=True):
                ctx = learner.ctx + learner.meta_net(F.normalize(one, dim=-1))
                part = F.cross_entropy(self.clip.logits(one[None], self.encode(ctx, [])), label[None]) / len(image)
                part.backward()
                loss += part.item()
            return loss
        deep = list(learner.compound_prompts_text) if isinstance(learner, MaPLe) else []
        total = F.cross_entropy(self.clip.logits(image, self.encode(learner.ctx, deep)), labels)
        total.backward()
        return total.item()


def engine_step(clip: FrozenCLIP, learner: PromptLearner, image: Tensor, labels: Tensor) -> float:
    """Forward + backward by the engine -> the loss."""
    text = clip.encode_text(learner.plan, learner.text_prompts(image))
    loss = F.cross_entropy(clip.logits(image, text), labels)
    loss.backward()
    return loss.item()


class PeakMemory:
    """Most memory held beyond what was held on entering, in MiB: the allocator's count on a GPU, resident pages on a CPU."""

    def __init__(self, device: torch.device):
        self.cuda = device.type == "cuda"

    def _now(self) -> float:
        if self.cuda:
            return torch.cuda.max_memory_allocated() / 2**20
        return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20

    def __enter__(self) -> PeakMemory:
        gc.collect()
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
        elif hasattr(libc := ctypes.CDLL(None), "malloc_trim"):
            libc.malloc_trim(0)  # free memory that the heap keeps from earlier steps would hide what this step needs
        self.start = self.most = self._now()
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.done.wait(0.002):
            self.most = max(self.most, self._now())

    def __exit__(self, *_) -> None:
        self.done.set()
        self.thread.join()
        self.mib = max(self.most, self._now()) - self.start


def timed(step: Callable[[], float], learner: nn.Module, device: torch.device) -> float:
    """Seconds of one step, in a process whose memory is warm, as in training."""
    learner.zero_grad()
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def measured(step: Callable[[], float], learner: nn.Module, device: torch.device) -> tuple[float, list[Tensor]]:
    """Peak MiB and gradients of one step, apart from the timed ones, which watching would disturb."""
    learner.zero_grad()
    with PeakMemory(device) as memory:
        step()
    return memory.mib, [p.grad.clone() for p in learner.parameters() if p.grad is not None]


def main() -> None:
    """Runs the cases and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="only cases whose name contains this", default="")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)
    torch.manual_seed(0)
    clip = load_clip("ViT-B-16-quickgelu", "random").to(device)
    image = torch.randn(IMAGES, clip.embed_dim, device=device)
    labels = torch.randint(len(NAMES), (IMAGES,), device=device)
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"text side, forward + backward, {len(NAMES)} classes, {IMAGES} images, float32, {where}; median of {options.repeats}"
    )
    print(
        f"{'':24}{'plain':>10}{'engine':>10}{'ratio':>8}{'(spread)':>16}{'asked':>7}{'plain':>12}{'engine':>11}{'gradients':>12}"
    )
    for name, (make, names, asked) in cases().items():
        if options.cases not in name:
            continue
        learner = make()
        learner.setup(clip, TrainInfo(names, 0))
        learner.to(device).bind(clip, names)
        plain = Plain(clip, learner, names)
        engine = lambda learner=learner: engine_step(clip, learner, image, labels)  # noqa: E731
        reference = lambda plain=plain: plain.step(image, labels)  # noqa: E731
        fast_mib, ours = measured(engine, learner, device)  # also the warm-up
        fast = [timed(engine, learner, device) for _ in range(3 * options.repeats)]
        slow_mib, theirs = measured(reference, learner, device)
        slow = [timed(reference, learner, device) for _ in range(options.repeats)]
        error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, theirs, strict=True))
        widest = min(slow) / max(fast), max(slow) / min(fast)
        slow, fast = statistics.median(slow), statistics.median(fast)
        spread = f"({widest[0]:.1f} to {widest[1]:.1f})"
        print(
            f"{name:24}{slow:>9.2f}s{fast:>9.3f}s{slow / fast:>7.1f}x{spread:>16}{asked:>6}x",
            f"{slow_mib:>7.0f} MiB{fast_mib:>7.0f} MiB{error:>12.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
