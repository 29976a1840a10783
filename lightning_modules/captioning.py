"""Captioning: a frozen language model describes an image, given the image's prefix and a prompt.

Shapes: B images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from datamodules.evaluation import Evaluation
from files.whole import write_json
from lightning_modules.caption_metrics import PREFIX, CaptionMetrics, clip_scores
from lightning_modules.evaluated import Figure
from lightning_modules.language import LanguageTask
from lightning_modules.samples import choose, write_samples
from prompts.engine.language_model import Generation, Piece
from prompts.limber import Prefix


class Captioning(LanguageTask):
    """Measures generated captions by CIDEr-D, BLEU, ROUGE-L and CLIPScore in percent, over all images and over each domain, and
    writes them to captions_NAME.json, which the COCO server takes. Where no reference captions are public, CLIPScore alone.

    Args:
        prompt: stands between an image's prefix and its caption.
        generation: how captions are made.
        tokenizer, java_metrics: as `CaptionMetrics` takes them.
        clip_score_prefix: stands before every text that CLIPScore encodes.
    """

    needs = ("a prefix for a language model", "captioned images")
    figure = Figure("cider_d", "CIDEr-D", "")
    figure_without_texts = Figure("clip_score", "CLIPScore", "")

    def __init__(
        self,
        *args: Any,
        generation: Generation,
        prompt: str = "A picture of",
        tokenizer: Literal["python", "java"] = "python",
        java_metrics: Sequence[str] = (),
        clip_score_prefix: str = PREFIX,
    ) -> None:
        super().__init__(*args, generation=generation)
        self.prompt, self.clip_score_prefix = prompt, clip_score_prefix
        self.compare = CaptionMetrics(tokenizer, java_metrics)
        self.scores: dict[str, dict[int, dict[str, float]]] = {}  # by test, of each image

    def asked(self, item: Any) -> str:
        """The prompt."""
        return self.prompt

    def answers(self, item: Any) -> Sequence[str]:
        """The captions of an image."""
        return item.captions

    def longest_context(self, rows: Tensor) -> list[Piece]:
        """The context of any image, as all have the same prompt."""
        return [rows, self.prompt]

    def generated(self, evaluation: Evaluation, index: Sequence[int], prefix: Prefix) -> list[tuple[str, float, float]]:
        """The caption of each image, its CLIPScore and its RefCLIPScore, which is 0 without references."""
        contexts = [[rows, self.prompt] for rows in prefix.rows]
        captions = self.language_model.generate(contexts, self.generation, index)
        references = [evaluation.items[i].captions for i in index]
        scores = clip_scores(self.model.clip, prefix.image, captions, references, self.clip_score_prefix)
        return list(zip(captions, *(score.tolist() for score in scores), strict=True))

    def measured(self, evaluation: Evaluation, records: dict[int, tuple[str, float, float]]) -> dict[str, Any]:
        """All metrics, by which tokenizer, and those of each domain where images have one: a domain is measured by itself, with
        document frequencies of its own references."""
        domains: dict[str, list[int]] = {}
        for index in records:
            domains.setdefault(evaluation.items[index].domain, []).append(index)
        metrics, scores = self._measure(evaluation, records, list(records))
        self.scores[evaluation.name] = scores
        metrics |= {"tokenizer": self.compare.tokenizer, "computed": [*next(iter(scores.values()))]}
        if named := sorted(domain for domain in domains if domain):
            metrics["domains"] = {domain: self._measure(evaluation, records, domains[domain])[0] for domain in named}
        return metrics

    def _measure(
        self, evaluation: Evaluation, records: Mapping[int, tuple[str, float, float]], index: Sequence[int]
    ) -> tuple[dict[str, Any], dict[int, dict[str, float]]]:
        """The metrics of some images together, and of each."""
        captions, *of_clip = zip(*(records[i] for i in index), strict=True)
        each, together = {"clip_score": of_clip[0]}, {}
        if self.public[evaluation.name]:
            found = self.compare(captions, [evaluation.items[i].captions for i in index])
            each, together = found.each | each | {"ref_clip_score": of_clip[1]}, found.together  # type: ignore[assignment]
        together |= {name: sum(values) / len(values) for name, values in each.items() if name not in together}
        rows = {
            i: dict(zip(each, values, strict=True)) for i, values in zip(index, zip(*each.values(), strict=True), strict=True)
        }
        return together | {"images": len(index)}, rows

    def line(self, metrics: Mapping[str, Any]) -> str:
        """CIDEr-D, BLEU-4 and CLIPScore, as far as there are, and the number of images."""
        shown = {"cider_d": "CIDEr-D", "bleu_4": "BLEU-4", "clip_score": "CLIPScore"}
        parts = [f"{title} {metrics[key]:6.2f}" for key, title in shown.items() if key in metrics]
        return "   ".join([*parts, f"({metrics['images']} images)"])

    def write_files(self, folder: Path) -> None:
        """Writes captions_NAME.json for each evaluation, and samples.json."""
        samples = {}
        for evaluation in self.tests:
            name, items = evaluation.name, evaluation.items
            records, scores = self.records[name], self.scores[name]
            results = [{"image_id": items[i].image_id, "caption": caption} for i, (caption, *_) in records.items()]
            write_json(folder / f"captions_{name}.json", results)
            index = list(records)
            judged = "cider_d" if self.public[name] else "clip_score"
            chosen = choose([scores[i][judged] for i in index], self.seed)
            samples[name] = [
                {
                    "why": why,
                    "index": index[place],
                    "caption": records[index[place]][0],
                    "references": items[index[place]].captions,
                    "scores": scores[index[place]],
                }
                for why, place in chosen
            ]
        write_samples(folder, "captioning", self.tests, samples)
