"""Metrics of captions: CIDEr-D, BLEU, ROUGE-L, METEOR and SPICE against references, CLIPScore against the image.

All numbers are in percent, as papers print them: a CIDEr-D of 1.10 is 110. The first five are computed by pycocoevalcap, the
COCO evaluation in Python (Chen et al., 2015, arXiv 1504.00325).

Shapes: B images, d width of the CLIP's shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lightning_modules.caption_tokens import java_program, tokens, tokens_by_java
from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import TextPlan

PREFIX = "A photo depicts"  # before every text that CLIPScore encodes, as in jmhessel/clipscore
WEIGHT = 2.5  # of the cosine in CLIPScore
JAVA_METRICS = {"meteor": "meteor/meteor-1.5.jar", "spice": "spice/lib/stanford-corenlp-3.6.0.jar"}  # what each of them needs
TOKENIZERS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {
    "python": lambda captions: [tokens(caption) for caption in captions],
    "java": tokens_by_java,
}


@dataclass(frozen=True)
class CaptionScores:
    """Scores in percent: of all captions together, and by metric of each caption, in their order."""

    together: dict[str, float]
    each: dict[str, list[float]]


class CaptionMetrics:
    """Compares captions with references.

    Args:
        tokenizer: "python", the same everywhere, or "java", Stanford's program (`lightning_modules.caption_tokens`).
        java_metrics: "meteor" and "spice" where they are wanted: both need Java.

    Raises:
        ValueError: an unknown name, or a package or program that is missing.
    """

    def __init__(self, tokenizer: str = "python", java_metrics: Sequence[str] = ()) -> None:
        if tokenizer not in TOKENIZERS:
            raise ValueError(f"task.module.tokenizer={tokenizer}: choose python or java.")
        if unknown := [name for name in java_metrics if name not in JAVA_METRICS]:
            raise ValueError(f"task.module.java_metrics={unknown}: there are meteor and spice.")
        self.tokenizer, self.java_metrics = tokenizer, tuple(java_metrics)
        for name in self.java_metrics:
            java_program(JAVA_METRICS[name])
        if tokenizer == "java":
            tokens_by_java(["a caption"])
        scorer("cider.cider", "Cider")

    def __call__(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> CaptionScores:
        """Scores of captions, each with one reference or more. CIDEr-D's document frequencies are those of these references, so
        a part of the images is measured by itself, and of a single image CIDEr-D is 0.

        Raises:
            ValueError: there are no captions, or one has no reference.
        """
        if not captions or not all(references):
            raise ValueError("captions are measured against references, and an image has none: leave it out of the split.")
        rest = iter(TOKENIZERS[self.tokenizer]([*captions, *(text for texts in references for text in texts)]))
        told = {i: [next(rest)] for i in range(len(captions))}
        known = {i: [next(rest) for _ in texts] for i, texts in enumerate(references)}
        together, each = {}, {}
        for names, compute in self._scorers().items():
            totals, singles = compute(known, told)
            rows = [(names, totals, singles)] if isinstance(names, str) else zip(names, totals, singles, strict=True)
            for name, total, single in rows:
                together[name] = 100 * float(total)
                each[name] = [100 * float(value["All"]["f"] if isinstance(value, Mapping) else value) for value in single]
        return CaptionScores(together, each)

    def _scorers(self) -> dict[str | tuple[str, ...], Callable[..., Any]]:
        """Functions by the name, or names, of their scores: each takes {image: [reference, ...]} and {image: [caption]}."""
        made: dict[str | tuple[str, ...], Callable[..., Any]] = {
            "cider_d": scorer("cider.cider", "Cider").compute_score,  # with CIDEr-D's clipping and length penalty
            ("bleu_1", "bleu_2", "bleu_3", "bleu_4"): partial(scorer("bleu.bleu", "Bleu").compute_score, verbose=0),
            "rouge_l": scorer("rouge.rouge", "Rouge").compute_score,
        }
        return made | {name: scorer(f"{name}.{name}", name.capitalize()).compute_score for name in self.java_metrics}


def scorer(module: str, name: str) -> Any:
    """One of pycocoevalcap's scorers. ValueError where the package is not installed."""
    try:
        return getattr(import_module(f"pycocoevalcap.{module}"), name)()
    except ModuleNotFoundError as error:
        raise ValueError(
            f"captions are measured by the package pycocoevalcap, and {error.name} is not installed: pip install '.[lm]'."
        ) from error


# ---------------------------------------------------------------- CLIPScore


@torch.no_grad()
def encode_captions(clip: FrozenCLIP, texts: Sequence[str], prefix: str = PREFIX) -> Tensor:
    """Normalised features (N,d) of texts with `prefix` and a space before them. Texts longer than the CLIP's context are cut;
    their last token is kept."""
    tokenizer, start = clip.tokenizer, f"{prefix} " if prefix else ""
    room = tokenizer.context_length - len(tokenizer.start) - len(tokenizer.end)
    unique = {text: row for row, text in enumerate(dict.fromkeys(texts))}
    lists = [[*tokenizer.start, *tokenizer.encode(start + text)[:room], *tokenizer.end] for text in unique]
    features = F.normalize(clip.encode_text(TextPlan(lists)).float(), dim=-1)
    return features[torch.tensor([unique[text] for text in texts], device=features.device)]


def clip_scores(
    clip: FrozenCLIP, image: Tensor, captions: Sequence[str], references: Sequence[Sequence[str]], prefix: str = PREFIX
) -> tuple[Tensor, Tensor]:
    """CLIPScore and RefCLIPScore in percent (Hessel et al., EMNLP 2021, arXiv 2104.08718, sections 3 and 3.1).

    CLIPScore is 2.5 max(cos(caption, image), 0); RefCLIPScore is the harmonic mean of that and of max(cos(caption,
    reference), 0) for the nearest reference. They belong to this CLIP: published ones are ViT-B/32's.

    Args:
        image: (B,d) image features; they need not be normalised.
        captions: B texts.
        references: those of each image, or none of any image: RefCLIPScore is then 0.

    Returns:
        (B,) and (B,).
    """
    told = encode_captions(clip, captions, prefix)
    score = WEIGHT * (told * F.normalize(image.float(), dim=-1)).sum(-1).clamp(min=0)
    if not any(references):
        return 100 * score, torch.zeros_like(score)
    known = encode_captions(clip, [text for texts in references for text in texts], prefix).split(list(map(len, references)))
    # sums of products, as autocast would round a matrix product
    nearest = torch.stack([(rows * row).sum(-1).amax().clamp(min=0) for rows, row in zip(known, told, strict=True)])
    return 100 * score, 100 * 2 * score * nearest / (score + nearest).clamp(min=1e-12)
