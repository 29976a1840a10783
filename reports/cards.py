"""Single images of an evaluation with the predictions of each method, side by side: random images, which are the same for all
methods, and the best and the worst ones of each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from files.untrusted import visible
from reports.compare import Benchmark, benchmarks
from reports.groups import Group
from reports.pieces import folded, note
from reports.samples import WHY, Sample
from reports.templates import PIECES

MOST_CARDS = 30  # of one evaluation
Lines = list[tuple[str, str]]  # a text and its CSS class: "" for none, "gain" for what is right, "loss" for what is wrong


@dataclass(frozen=True)
class Pictures:
    """More pictures of a sample than its image, by their names in `Sample.pictures`."""

    of_image: str  # the name of the picture beside the image, the same for all methods
    of_method: str
    colours: Callable[[Sample], list[tuple[str, str]]]  # what the pictures' colours mean: (#rrggbb, text)


def cards(
    groups: Sequence[Group],
    of_image: Callable[[Sample], list[str]],
    of_method: Callable[[Sample], Lines],
    pictures: Pictures | None = None,
    own_pictures: bool = False,
) -> Markup:
    """The samples of the first seed of each configuration; empty where there are none.

    Args:
        of_image: returns the lines about the image, such as its true answer, the same for all methods.
        of_method: returns the lines about the method's prediction.
        pictures: the further pictures of tasks whose predictions are pictures.
        own_pictures: whether a method draws into the image's picture, so that each has a card of its own.
    """
    parts = []
    for benchmark in benchmarks(groups):
        for evaluation in benchmark.evaluations:
            if drawn := _cards(benchmark, evaluation, of_image, of_method, pictures, own_pictures):
                parts.append((f"{benchmark.title}: {evaluation}", PIECES.cards(drawn[:MOST_CARDS])))
    if not parts:
        return Markup()
    about = "Of the first seed. Random images are the same for all methods; the best and the worst are those of each method."
    return note(about) + folded(parts)


def _cards(
    benchmark: Benchmark,
    evaluation: str,
    of_image: Callable,
    of_method: Callable,
    pictures: Pictures | None,
    own_pictures: bool,
) -> list[tuple]:
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
        made = []
        for name, sample in samples.items():
            texts = [(visible(text), kind) for text, kind in of_method(sample)]
            made.append((name, texts, sample.pictures[pictures.of_method] if pictures else ""))
        shown = [first.picture, pictures and first.pictures[pictures.of_image]]
        meaning = dict(entry for sample in samples.values() for entry in pictures.colours(sample)) if pictures else {}
        named = [(colour, "■", visible(text)) for colour, text in meaning.items()]
        drawn.append((title, [*filter(None, shown)], [visible(line) for line in of_image(first)], named, made))
    return drawn
