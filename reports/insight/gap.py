"""The gap between a run's image and text features: the distance of their means, which Liang et al. (NeurIPS 2022, arXiv
2203.02053) call the modality gap, and the cosine of each image with its own class.

Shapes: B images, C classes, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from files.whole import write_json
from prompts.prompted_clip import PromptedCLIP
from reports.insight.finished import FinishedRun, spread

IMAGES, AT_ONCE = 256, 64  # images of an evaluation at most, and how many are encoded at a time
TEXTS = 8192  # texts at most, where each image has texts of its own


@torch.no_grad()
def gap(run: FinishedRun, folder: Path, evaluations: Sequence[str]) -> str:
    """gap.json: image features against text features, of the run and of the baseline on the same images, and against the
    vectors that the method itself makes."""
    content, lines, notes = {}, [], []
    models = {run.names["method"]: run.model}
    if run.names["method"] != run.default_baseline:
        models[run.default_baseline] = run.baseline_parts.model.eval().to(run.device)
    for evaluation in evaluations:
        pixels, labels = _some_images(run, evaluation)
        rows: list[dict[str, Any]] = []
        for method, model in models.items():
            bound = list(model.classnames)
            model.bind(run.test_set(evaluation).classnames)
            try:
                for what, vectors in _vectors(model, pixels, labels):
                    rows.append({"method": method, "vectors": what, **vectors})
            except ValueError as error:  # a file that the method reads is missing: earlier measurements are kept
                notes.append(f"  {error}")
            model.bind(bound)
        content[evaluation] = {"images": len(labels), "against": rows}
        lines.append(f"  {evaluation}, {len(labels)} test images")
        lines += [
            f"    {row['method']:<14} {row['vectors']:<24} {row['distance']:.3f} apart   cosine {row['cosine']:6.3f}"
            for row in rows
        ]
    write_json(folder / "gap.json", content, indent=1)
    heading = "gap: image features against others, all of length 1: distance of the means, and cosine of an image with its own"
    return "\n".join([heading, *lines, *dict.fromkeys(notes)])


def _some_images(run: FinishedRun, evaluation: str) -> tuple[Tensor, Tensor]:
    """(B,3,S,S) readable images, evenly spread over the evaluation's list, and their labels (B,)."""
    dataset, most = run.dataset(evaluation), IMAGES
    if run.model.text_depends_on() == "image":
        most = min(IMAGES, max(1, TEXTS // len(run.test_set(evaluation).classnames)))
    samples = [sample for at in spread(len(dataset), most) if (sample := dataset[at])["weight"]]
    if not samples:
        looked = min(most, len(dataset))
        raise ValueError(f"none of the {looked} test images of {evaluation} that were looked at can be read: check data_root.")
    labels = torch.tensor([sample["label"] for sample in samples], device=run.device)
    return torch.stack([sample["image"][0] for sample in samples]), labels


def _vectors(model: PromptedCLIP, pixels: Tensor, labels: Tensor) -> Iterator[tuple[str, dict[str, float]]]:
    """The names of the vectors that are compared with the image features, and the two numbers of each."""
    prompts = model.learner.image_prompts()
    image = torch.cat([model.clip.encode_image(part.to(labels.device), prompts) for part in pixels.split(AT_ONCE)])
    parts = list(zip(image.split(AT_ONCE), labels.split(AT_ONCE), strict=True))
    if model.text_features(image[:1]) is not None:  # not all at once: some methods make (B,C,d)
        texts, fitting = [], []
        for part, part_labels in parts:
            text = model.text_features(part)
            fitting.append(own(text, part_labels))
            texts += [text.flatten(0, -2)] if text.ndim == 3 or not texts else []
        yield "text features", compared(image, torch.cat(fitting), torch.cat(texts))
    for what, per, vectors in model.learner.joint_vectors(model.clip, image, model.classnames):
        if per == "image":
            yield what, compared(image, vectors, vectors)
        else:
            yield what, compared(image, own(vectors, labels), vectors)


def own(text: Tensor, labels: Tensor) -> Tensor:
    """The features (B,d) of each image's own class, out of features (C,d) or (B,C,d)."""
    return text[labels] if text.ndim == 2 else text[torch.arange(len(labels), device=labels.device), labels]


def compared(image: Tensor, fitting: Tensor, vectors: Tensor) -> dict[str, float]:
    """The distance of the means of images (B,d) and `vectors` (N,d), and the mean cosine of each image with the vector that
    fits it (B,d); all as unit vectors."""
    x, v, others = (F.normalize(tensor.float(), dim=-1) for tensor in (image, fitting, vectors))
    return {"distance": (x.mean(0) - others.mean(0)).norm().item(), "cosine": (x * v).sum(-1).mean().item()}
