"""Single images of an evaluation with what each method made of them, side by side: the same random ones of all methods, and the
best and the worst of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from markupsafe import Markup

from files.untrusted import visible
from reports.compare import Benchmark, benchmarks
from reports.groups import Group
from reports.pieces import folded, note
from reports.samples import WHY, Sample
from reports.templates import PIECES

MOST_CARDS = 30  # of one evaluation
Lines = list[tuple[str, str]]  # a text and its CSS class: "" for none, "gain" for what is right, "loss" for what is wrong


def cards(
    groups: Sequence[Group],
    of_image: Callable[[Sample], list[str]],
    of_method: Callable[[Sample], Lines],
    own_pictures: bool = False,
) -> Markup:
    """The samples of the first seed of each configuration; empty where there are none.

    Args:
        of_image: the lines that say what belongs to the image, the same for all methods.
        of_method: the lines that say what the method made of it.
        own_pictures: whether a method draws into its pictures, so that each has a card of its own.
    """
    parts = []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            if drawn := _cards(benchmark, evaluation, of_image, of_method, own_pictures):
                parts.append((f"{benchmark.title}: {evaluation}", PIECES.cards(drawn[:MOST_CARDS])))
    if not parts:
        return Markup()
    about = "Of the first seed. Random images are the same for all methods; the best and the worst are those of each method."
    return note(about) + folded(parts)


def _cards(benchmark: Benchmark, evaluation: str, of_image: Callable, of_method: Callable, own_pictures: bool) -> list[tuple]:
    by_image: dict[tuple, dict[str, Sample]] = {}
    for label, group in benchmark.groups.items():
        run = next(iter(group.runs.values()))
        for sample in run.samples(evaluation) if evaluation in group.evaluations else ():
            shared = sample.why == "random" and not own_pictures
            key = (WHY.index(sample.why), "" if shared else label, sample.index)
            by_image.setdefault(key, {})[label] = sample
    drawn = []
    for (why, label, _), samples in sorted(by_image.items()):
        first = next(iter(samples.values()))
        title = f"{WHY[why]}{f' of {label}' if label else ''}"
        made = [(name, [(visible(text), kind) for text, kind in of_method(sample)]) for name, sample in samples.items()]
        drawn.append((title, first.picture, [visible(line) for line in of_image(first)], made))
    return drawn
