"""Training steps and evaluation on a GPU: time, memory, share of the card's matrix rate, and how long the card is idle.

    python -m benchmarks.gpu                     # all cases at ViT-B/16's and ViT-L/14's shapes, where a GPU is
    python -m benchmarks.gpu --cases coop rpp --models ViT-B-16-quickgelu --steps 50 --out gpu.json
    python -m benchmarks.gpu --device cpu        # a small try of every case without a GPU, in seconds: no figure of a GPU

Random weights, precision=bf16-mixed, our LightningModule under Lightning's Trainer, uint8 pixels in page-locked memory. Every
case has warm steps first. The timed ones follow each other without a wait; as many again run under torch's profiler, whose
kernels tell how long the card did nothing. FLOPs are those that torch.utils.flop_counter sees in a step, forward and backward;
the matrix rate is that of a plain product in bf16 on the same card, in the same process, before each case. What images cost to
decode is not in here: benchmarks/data.py.

Cases: `image_tower`, the bare tower on the batch of `coop`; `coop_store`, from stored features; `rpp` with the 10,450 classes
of ImageNet-21K and hard labels; `search`, DPL's supernet; `evaluation`, CoOp with 1,000 classes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from torch import Tensor

from benchmarks.exact_softmax import names
from benchmarks.gpu_steps import Measure, idle_share, matrix_rate
from datamodules.known_features import FEATURES, IMAGE
from lightning_modules.classification import Classification
from lightning_modules.trainer import make_trainer
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.dpl_search import DPLSearch
from prompts.engine.clip import FrozenCLIP, load_clip, load_tiny
from prompts.ivlp import IVLP
from prompts.learner import PromptLearner, TrainInfo
from prompts.maple import MaPLe
from prompts.prompted_clip import PromptedCLIP
from prompts.rpp import RPP

TINY = "tiny"
MODELS = ("ViT-B-16-quickgelu", "ViT-L-14-quickgelu")
MATRIX = 8192  # rows and columns of the plain product


@dataclass(frozen=True)
class Case:
    """A learner (of a tower depth), its batch and classes, and how it runs."""

    make: Callable[[int], PromptLearner]
    batch: int
    classes: int
    kind: str = "training"  # or features, image_tower, evaluation


CASES = {
    "image_tower": Case(lambda depth: CoOp(16), 256, 100, "image_tower"),
    "coop": Case(lambda depth: CoOp(16), 256, 100),
    "coop_store": Case(lambda depth: CoOp(16), 256, 100, "features"),
    "cocoop": Case(lambda depth: CoCoOp(4), 8, 100),
    "maple": Case(lambda depth: MaPLe(2, min(9, depth)), 32, 100),
    "ivlp": Case(lambda depth: IVLP(2, 2, min(9, depth), min(9, depth)), 32, 100),
    "rpp": Case(lambda depth: RPP(4, 4, min(9, depth), min(9, depth)), 32, 10_450),
    "search": Case(lambda depth: DPLSearch(), 16, 100),
    "evaluation": Case(lambda depth: CoOp(16), 256, 1000, "evaluation"),
}


@dataclass
class Figures:
    """The measurements of a case. Times in seconds."""

    model: str
    case: str
    batch: int
    classes: int
    step: float
    fastest: float
    slowest: float
    tflop: float
    rate: float | None  # share of the matrix rate
    gib: float | None  # peak memory of the card, weights included
    idle: float | None  # share of the profiled steps in which no kernel ran

    def __str__(self) -> str:
        rate, idle = ("-" if share is None else f"{share:.1%}" for share in (self.rate, self.idle))
        memory = "-" if self.gib is None else f"{self.gib:.1f} GiB"
        spread = f"({1e3 * self.fastest:.1f} to {1e3 * self.slowest:.1f})"
        start = f"{self.model:20}{self.case:12}{self.batch:>5}{self.classes:>7}{1e3 * self.step:>9.1f} ms {spread:18}"
        return f"{start}{self.batch / self.step:>7.0f} images/s{self.tflop:>9.3g} TFLOP{rate:>8}{memory:>10}{idle:>8}"


class Batches:
    """The same few batches on the host, over and over; what `TaskModule` takes for a datamodule and its loader."""

    def __init__(self, clip: FrozenCLIP, case: Case, count: int, pinned: bool) -> None:
        size, self.count = clip.image_spec["size"], count
        self.sampler = SimpleNamespace(batch_size=case.batch)
        self.batches = [self.batch(clip, case, size, number, pinned) for number in range(2)]

    def batch(self, clip: FrozenCLIP, case: Case, size: int, number: int, pinned: bool) -> dict[str, Tensor]:
        """Random images, or features, of batch `number`; every second one of validation images for a search."""
        index = torch.arange(case.batch)
        batch = {"label": index % case.classes, "index": index + number * case.batch, "batch_index": index}
        batch["weight"] = torch.full((case.batch,), 1 / case.batch)
        if case.kind == "features":
            batch[FEATURES] = torch.randn(case.batch, clip.embed_dim)
        else:
            batch[IMAGE] = torch.randint(256, (case.batch, 3, size, size), dtype=torch.uint8)
        return {name: t.pin_memory() if pinned else t for name, t in batch.items()}

    def train_loader(self, *_) -> Batches:
        """Itself."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """All epochs are alike."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self):
        return (self.batches[i % 2] for i in range(self.count))


def built(case: Case, name: str, device: torch.device) -> PromptedCLIP:
    """The model of a case, with random weights unless it is the tiny one."""
    torch.manual_seed(0)
    clip = load_tiny() if name == TINY else load_clip(name, "random")
    learner = case.make(min(clip.text_blocks, clip.image_blocks))
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(names(case.classes), case.batch, alternating=isinstance(learner, DPLSearch)))
    return model.to(device)


def train(case: Case, model: PromptedCLIP, batches: Batches, measure: Measure) -> None:
    """Steps under Lightning, with our own hooks."""
    module = Classification(model, batches, partial(torch.optim.SGD, lr=1e-4, momentum=0.9), 1, 1, [])
    on_gpu = measure.device.type == "cuda"
    trainer = make_trainer(
        devices=1,
        strategy="auto",
        precision="bf16-mixed" if on_gpu else "32-true",
        accelerator="gpu" if on_gpu else "cpu",
        max_epochs=1,
        logger=False,
        callbacks=[measure],
        enable_progress_bar=False,
    )
    trainer.fit(module)


@torch.no_grad()
def run_forward(case: Case, model: PromptedCLIP, batches: Batches, measure: Measure) -> None:
    """Forward passes: of the image tower alone, or of an evaluation, whose text is encoded once."""
    on_gpu = measure.device.type == "cuda"
    if on_gpu:
        model.clip.store_bf16()
    forward = model.clip.encode_image if case.kind == "image_tower" else model
    with torch.autocast(measure.device.type, torch.bfloat16, enabled=on_gpu):
        for batch in batches:
            measure.on_train_batch_start()
            forward(batch[IMAGE].to(measure.device, non_blocking=True))
            measure.on_train_batch_end()
    measure.on_train_end()


def measured(name: str, model_name: str, case: Case, device: torch.device, steps: int) -> Figures:
    """The figures of one case."""
    on_gpu = device.type == "cuda"
    fastest_matrix = matrix_rate(device, torch.bfloat16, MATRIX) if on_gpu else None
    model, measure = built(case, model_name, device), Measure(device, steps)
    batches = Batches(model.clip, case, measure.batches, pinned=on_gpu)
    (train if case.kind in ("training", "features") else run_forward)(case, model, batches, measure)
    seconds, flop = measure.seconds, measure.counter.get_total_flops()
    step = statistics.median(seconds)
    return Figures(
        model_name,
        name,
        case.batch,
        case.classes,
        step,
        min(seconds),
        max(seconds),
        flop / 1e12,
        flop / step / fastest_matrix if fastest_matrix else None,
        torch.cuda.max_memory_allocated(device) / 2**30 if on_gpu else None,
        idle_share(measure.profiler.events()) if on_gpu else None,  # type: ignore[attr-defined]
    )


def main() -> None:
    """Measures the cases and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument(
        "--models", nargs="+", default=None, help=f"by default {' and '.join(MODELS)}, and {TINY} without a GPU"
    )
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--out", type=Path, help="also write the figures there, as JSON")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        print("no GPU is here, so nothing was measured: run this where one is, or try the cases with --device cpu.")
        return
    device, small = torch.device(options.device), options.device == "cpu"
    where = "the CPU: a try of the cases, no figure of a GPU" if small else torch.cuda.get_device_name(device)
    print(f"{where}; torch {torch.__version__}; medians of {options.steps} steps (fastest to slowest)")
    print("batch, classes, a step, images, FLOPs of a step, share of the matrix rate, peak memory, share of idle time")
    figures = []
    for model in options.models or ([TINY] if small else MODELS):
        for name in options.cases:
            case = replace(CASES[name], batch=4, classes=min(CASES[name].classes, 20)) if small else CASES[name]
            figures.append(measured(name, model, case, device, options.steps))
            print(figures[-1], flush=True)
            torch.cuda.empty_cache()
    if options.out:
        about = {"device": where, "torch": torch.__version__, "cases": [asdict(figure) for figure in figures]}
        options.out.write_text(json.dumps(about, indent=1))


if __name__ == "__main__":
    main()
