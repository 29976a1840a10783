"""Captioning: a frozen language model describes an image, behind the image's prefix and a prompt.

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
    """CIDEr-D, BLEU, ROUGE-L and CLIPScore of generated captions, in percent, of all images and of each domain; the captions
    in captions_NAME.json, which the COCO server takes.

    Args:
        prompt: stands between an image's prefix and its caption.
        generation: how captions are made.
        tokenizer, java_metrics: as `CaptionMetrics` takes them.
        clip_score_prefix: stands before every text that CLIPScore encodes.
    """

    needs = ("a prefix for a language model", "captioned images")
    figure = Figure("cider_d", "CIDEr-D", "")

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
        for evaluation in (*self.vals, *self.tests):
            for item in evaluation.items:
                if not item.captions:
                    raise ValueError(
                        f"evaluation {evaluation.name}: the image {item.path} has no captions to compare with: evaluate a "
                        "split whose captions are public."
                    )

    def asked(self, item: Any) -> str:
        """The prompt."""
        return self.prompt

    def answers(self, item: Any) -> Sequence[str]:
        """The captions of an image."""
        return item.captions

    def longest_context(self, rows: Tensor) -> list[Piece]:
        """That of any image."""
        return [rows, self.prompt]

    def generated(self, evaluation: Evaluation, index: Sequence[int], prefix: Prefix) -> list[tuple[str, float, float]]:
        """The caption of each image, its CLIPScore and its RefCLIPScore."""
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
        found = self.compare(captions, [evaluation.items[i].captions for i in index])
        each = found.each | dict(zip(("clip_score", "ref_clip_score"), of_clip, strict=True))
        together = {name: found.together.get(name, sum(values) / len(values)) for name, values in each.items()}
        rows = {
            i: dict(zip(each, values, strict=True)) for i, values in zip(index, zip(*each.values(), strict=True), strict=True)
        }
        return together | {"images": len(index)}, rows

    def line(self, metrics: Mapping[str, Any]) -> str:
        """CIDEr-D, BLEU-4 and CLIPScore, and the number of images."""
        more = f"BLEU-4 {metrics['bleu_4']:6.2f}   CLIPScore {metrics['clip_score']:6.2f}"
        return f"{super().line(metrics)}   {more}   ({metrics['images']} images)"

    def write_files(self, folder: Path) -> None:
        """Writes captions_NAME.json for each evaluation, and samples.json."""
        samples = {}
        for evaluation in self.tests:
            name, items = evaluation.name, evaluation.items
            records, scores = self.records[name], self.scores[name]
            results = [{"image_id": items[i].image_id, "caption": caption} for i, (caption, *_) in records.items()]
            write_json(folder / f"captions_{name}.json", results)
            index = list(records)
            chosen = choose([scores[i]["cider_d"] for i in index], self.seed)
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
