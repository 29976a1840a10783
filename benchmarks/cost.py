"""The hours of prompt pretraining on ImageNet-21K on several devices, from figures of one: RPP, and POMP as released.

    python -m benchmarks.cost                                  # measures this machine, about 3 minutes on 2 cores
    python -m benchmarks.cost --figures h100.json --devices 8  # {"image_train": 0.0005, ...}: a device's own figures
    python -m benchmarks.cost --tflops 100 --cores 64          # by arithmetic alone, at a sustained rate of each device

Figures, seconds on one device: `image_train`, one image forward and backward through the prompted tower; `image`, one image
forward; `teacher`, one image forward through the teacher, ViT-L/14; `text_exact`, forward and backward of all 10,450 classes
by the engine; `text_sampled`, of 1,127 sequences of 77 positions as released; `load`, decoding and augmenting on one core.
What a file leaves out is measured here.

The model. A step of B images on W devices takes the longer of loading and computing:
    RPP:  max(B load / cores, B/W (image_train + teacher) + text_exact / W + bytes / network)
    POMP: max(B v load / cores, B v / W image + text_sampled + bytes / network), v views of each image

RPP's ranks divide the classes (`shard_classes`): each encodes C/W, all gather C d features, and their gradient is
all-reduced, as is that of the prompts: (W-1)/W (C d + 2 C d + 2 p) 4 bytes through each device. POMP's, as released, each
encode their own sampled classes and reduce the context alone. Computing and sending do not overlap; the ranks are equally
fast; evaluation, start-up and saving are left out. A figure of one device is taken to hold for a device of eight.

Batches, epochs and views are those of conf/recipe. Released: 16 images of each class, 5 epochs; its authors' repository says
about an hour on 8 V100, which the model is not fitted to.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import torch
import torch.nn.functional as F

from benchmarks.data import MEAN, SIZE, STD, draw
from benchmarks.exact_softmax import CLASSES, IMAGES, POSITIONS, SAMPLED, Exact, Sampled, flops, names
from benchmarks.plain import clip_of
from benchmarks.timing import Side, in_turns, summary, where
from datamodules.disk import open_rgb
from datamodules.transforms import train_transform
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import TrainInfo
from prompts.rpp import RPP

TRAIN, FEW = 11_060_223, 16 * CLASSES  # images of ImageNet-21K-P, winter 2021; of POMP's 16 shots
EPOCHS, BATCH, VIEWS, D = 5, 256, 4, 512
PROMPTS = 3 * 4 * 9 * (768 + 512)  # RPP's numbers: three streams, four slots, nine blocks of both towers
CONTEXT = 4 * 512  # POMP's
TOWERS = {"image": (12, 197, 768), "teacher": (24, 257, 1024)}  # blocks, positions, width of ViT-B/16 and ViT-L/14
FIGURES = ("image_train", "image", "teacher", "text_exact", "text_sampled", "load")


@dataclass(frozen=True)
class Machine:
    """Devices that work together, the cores that feed them, and bytes a second through each device."""

    devices: int
    cores: int
    network: float


def rpp_step(f: Mapping[str, float], machine: Machine) -> dict[str, float]:
    """Seconds of the parts of a step of RPP. `f`: the figures of one device."""
    w = machine.devices
    sent = (w - 1) / w * 4 * (3 * CLASSES * D + 2 * PROMPTS)
    return {
        "load": BATCH * f["load"] / machine.cores,
        "images": BATCH / w * (f["image_train"] + f["teacher"]),
        "text": f["text_exact"] / w,
        "network": sent / machine.network,
    }


def pomp_step(f: Mapping[str, float], machine: Machine) -> dict[str, float]:
    """Seconds of the parts of a step of POMP as released."""
    w = machine.devices
    return {
        "load": BATCH * VIEWS * f["load"] / machine.cores,
        "images": BATCH * VIEWS / w * f["image"],
        "text": f["text_sampled"],
        "network": (w - 1) / w * 4 * 2 * CONTEXT / machine.network,
    }


def hours(parts: Mapping[str, float], images: int) -> float:
    """Of all epochs over so many images: whole batches, the longer of loading and computing."""
    computing = sum(seconds for name, seconds in parts.items() if name != "load")
    return EPOCHS * (images // BATCH) * max(parts["load"], computing) / 3600


def arithmetic() -> dict[str, float]:
    """FLOP of every figure but `load`. Weights are frozen, so a backward pass through matrices costs what the forward does, and
    through attention twice that."""
    linear, attention = ({}, {})
    for name, (blocks, n, width) in TOWERS.items():
        linear[name], attention[name] = 2 * blocks * n * 12 * width**2, 2 * blocks * n * 2 * n * width
    found = {name: linear[name] + attention[name] for name in TOWERS}
    found["image_train"] = 2 * linear["image"] + 3 * attention["image"]
    found["text_sampled"] = flops((IMAGES + SAMPLED) * POSITIONS, 512, 12)  # type: ignore[assignment]
    return found  # type: ignore[return-value]


def text_rows(clip: FrozenCLIP, count: int) -> int:
    """Rows that the engine computes for so many classes."""
    learner, listed = CoOp(4), names(count)
    learner.setup(clip, TrainInfo(listed, 0))
    learner.bind(clip, listed)
    return int(learner.plan.lengths.sum())


def works(clip: FrozenCLIP, teacher: FrozenCLIP, share: float, images: int, folder: Path) -> dict[str, tuple[Side, float]]:
    """Figure -> the work that is timed, and how often the figure's amount is in it."""
    device, size = clip.device, clip.image_spec["size"]
    depth = min(9, clip.text_blocks, clip.image_blocks)
    rpp = RPP(4, 4, depth, depth, distillation={"weight": 0.0})
    pixels = torch.randn(images, 3, size, size, device=device)
    large = torch.randn(images, 3, *[teacher.image_spec["size"]] * 2, device=device)
    classes, sequences = max(2, round(CLASSES * share)), max(20, round((IMAGES + SAMPLED) * share))
    pomp, listed = CoOp(4), names(classes)
    for learner in (rpp, pomp):
        learner.setup(clip, TrainInfo(listed, 0))
        learner.to(device).bind(clip, listed)
    feature = torch.randn(IMAGES, clip.embed_dim, device=device)
    transform, paths = train_transform(SIZE, MEAN, STD), draw(folder, (500, 375), 8)

    def image_train() -> None:
        F.normalize(clip.encode_image(pixels, rpp.image_prompts()), dim=-1).sum().backward()

    return {
        "image_train": (image_train, images),
        "image": (torch.no_grad()(lambda: clip.encode_image(pixels)), images),
        "teacher": (torch.no_grad()(lambda: teacher.encode_image(large)), images),
        "text_exact": (Exact(clip, rpp, feature, classes), classes / CLASSES),
        "text_sampled": (Sampled(clip, pomp, feature, names(sequences)), sequences / (IMAGES + SAMPLED)),
        "load": (lambda: [transform.pixels(open_rgb(path)) for path in paths], len(paths)),
    }


def measured(options: argparse.Namespace, device: torch.device) -> dict[str, float]:
    """The figures of this machine: medians, printed with their spread."""
    torch.manual_seed(0)
    clip, teacher = (clip_of(model, text_rows=None).to(device) for model in (options.model, options.teacher))
    with tempfile.TemporaryDirectory() as folder:
        todo = works(clip, teacher, options.share, options.images, Path(folder))
        for work, _ in todo.values():
            work()
        times = in_turns({name: work for name, (work, _) in todo.items()}, options.repeats, device)
    each = {name: [seconds / todo[name][1] for seconds in found] for name, found in times.items()}
    print(f"measured, seconds on one device: {where(device)}, {options.model}; texts at {options.share:g} of their size")
    for name, seconds in each.items():
        print(f"  {name:14}{summary(seconds, '.4f')}")
    return {name: median(seconds) for name, seconds in each.items()}


def figures_of(path: Path) -> dict[str, float]:
    """The figures in a file. ValueError where one is not a positive number, or is none of ours."""
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as json: {error}") from error
    if not isinstance(given, dict) or set(given) - set(FIGURES):
        raise ValueError(f"{path} is to hold figures, a dict whose keys are among {', '.join(FIGURES)}.")
    for name, value in given.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"{path}: {name}={value} is no positive number of seconds.")
    return given


def report(f: Mapping[str, float], machine: Machine) -> None:
    """Prints both settings on these devices."""
    print(f"{machine.devices} devices, {machine.cores} cores, {machine.network / 1e9:g} GB/s through each; {EPOCHS} epochs")
    print(f"  {f'seconds of {BATCH} images':36}{'load':>12}{'images':>12}{'text':>12}{'network':>12}{'hours in all':>14}")
    rows = (
        ("RPP, 11,060,223 images", rpp_step(f, machine), TRAIN),
        ("RPP, 16 shots", rpp_step(f, machine), FEW),
        ("POMP as released, 16 shots, 4 views", pomp_step(f, machine), FEW),
        ("POMP as released, 11,060,223 images", pomp_step(f, machine), TRAIN),
    )
    for name, parts, images in rows:
        columns = "".join(f"{seconds:>12,.4f}" for seconds in parts.values())
        print(f"  {name:36}{columns}{hours(parts, images):>14,.2f}")


def main(arguments: list[str] | None = None) -> None:
    """Prints figures, and hours of both settings."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--figures", type=Path, help="json with figures of one device")
    parser.add_argument("--tflops", type=float, help="sustained by each device, in place of measuring")
    parser.add_argument("--devices", type=int, default=8)
    parser.add_argument("--cores", type=int, default=64, help="that load images, of all machines together")
    parser.add_argument("--network", type=float, default=10.0, help="GB a second through each device")
    parser.add_argument("--model", default="ViT-B-16-quickgelu")
    parser.add_argument("--teacher", default="ViT-L-14-quickgelu")
    parser.add_argument("--share", type=float, default=1 / 32, help="of the texts, when they are measured")
    parser.add_argument("--images", type=int, default=2, help="when they are measured")
    parser.add_argument("--load", type=float, default=0.0026, help="seconds an image and core, with --tflops")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    if min(options.devices, options.cores, options.network, options.load, options.tflops or 1) <= 0:
        parser.error("devices, cores, network, load and tflops are numbers above 0.")
    figures = figures_of(options.figures) if options.figures else {}
    if options.tflops:
        work = arithmetic() | {"text_exact": flops(text_rows(clip_of("tiny"), CLASSES), 512, 12)}
        print("by arithmetic, GFLOP: " + ", ".join(f"{name} {flop / 1e9:,.0f}" for name, flop in work.items()))
        figures = {name: flop / options.tflops / 1e12 for name, flop in work.items()} | {"load": options.load} | figures
    if set(figures) < set(FIGURES):
        figures = measured(options, torch.device(options.device)) | figures
    report(figures, Machine(options.devices, options.cores, options.network * 1e9))


if __name__ == "__main__":
    main()
