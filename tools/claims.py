"""The papers' claims: the sentence of each paper, the paired difference that measures it, and the rule of the verdict."""

from __future__ import annotations

from dataclasses import dataclass

APPEARS, OPPOSITE, UNDECIDED = "appears", "does not appear", "within the spread"
RULE = (
    "A difference is taken on each seed, ours minus what it is compared with. The claim *appears* where the mean of these\n"
    "differences has the claimed sign and is more than twice its standard error; it *does not appear* where the mean has the\n"
    "other sign and is more than twice its standard error; all else is *within the spread*."
)


@dataclass(frozen=True)
class Cell:
    """A cell of a declared table, by the titles of its table, row and column."""

    table: str
    line: str
    column: str


@dataclass(frozen=True)
class Measure:
    """A measurement: a cell and the cells it is compared with; of several, the one with the nearest number of parameters."""

    what: str
    ours: Cell
    other: tuple[Cell, ...]
    sign: int = 1  # of the claimed difference


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper, and the measurements of it."""

    paper: str
    says: str
    measures: tuple[Measure, ...]


def verdict(mean: float, error: float, sign: int) -> str:
    """The verdict on a mean paired difference with its standard error.

    Args:
        sign: of the claimed difference, 1 or -1.
    """
    if abs(mean) <= 2 * error:
        return UNDECIDED
    return APPEARS if mean * sign > 0 else OPPOSITE


def of(table: str, ours: str, other: str, column: str, what: str = "", sign: int = 1) -> Measure:
    """A measure within one column of one table."""
    return Measure(f"{what or column}: {ours} − {other}", Cell(table, ours, column), (Cell(table, other, column),), sign)


def recovers(paper: str, method: str) -> Claim:
    """The claim of a method that new classes gain over CoOp."""
    return Claim(
        paper, f"{method} recovers the accuracy on new classes that CoOp loses.", (of("base_to_new", method, "CoOp", "new"),)
    )


STYLES = ("shapes", "shapes_sketch", "shapes_dark")
SEPARATE_HARD, SEPARATE_SOFT = "RPP, separate q, k, v, hard labels", "RPP, separate q, k, v, hard and soft labels"
SHARED_HARD, SHARED_SOFT = "RPP, shared prompts, hard labels", "RPP, shared prompts, hard and soft labels"
TRIPLE = "RPP, shared prompts in three times the slots, hard labels"
READINGS = ("as written", "residual")


def against(line: str, column: str, method: str, what: str) -> tuple[Measure, ...]:
    """A measure of each reading of AAPE: a cell of its own table, against the H of another method."""
    return tuple(
        Measure(f"H: AAPE, {reading}, {what}", Cell("aape", f"{reading}, {line}", column), (Cell("base_to_new", method, "H"),))
        for reading in READINGS
    )


CLAIMS = (
    Claim(
        "CoCoOp, on CoOp",
        "CoOp is above zero-shot CLIP on the classes it is trained on, and below it on new ones.",
        (
            of("base_to_new", "CoOp", "zero-shot", "base"),
            of("base_to_new", "CoOp", "zero-shot", "new", sign=-1),
        ),
    ),
    recovers("CoCoOp", "CoCoOp"),
    recovers("KgCoOp", "KgCoOp"),
    recovers("MaPLe", "MaPLe"),
    recovers("PromptSRC", "PromptSRC"),
    Claim(
        "POMP",
        "Prompts pretrained on very many classes are above zero-shot CLIP on classes that they were not trained on.",
        tuple(of("pretraining", "POMP", "zero-shot", column) for column in STYLES),
    ),
    Claim(
        "RPP",
        "The same of RPP.",
        tuple(of("pretraining", SEPARATE_SOFT, "zero-shot", column) for column in STYLES),
    ),
    Claim(
        "RPP",
        "Separate prompts for queries, keys and values are better than shared ones.",
        tuple(
            of("pretraining", ours, other, column)
            for ours, other in ((SEPARATE_HARD, SHARED_HARD), (SEPARATE_SOFT, SHARED_SOFT), (SEPARATE_HARD, TRIPLE))
            for column in ("shapes21k, 604 classes", "shapes")
        ),
    ),
    Claim(
        "RPP",
        "Soft labels of a teacher help transfer.",
        tuple(of("pretraining", SEPARATE_SOFT, SEPARATE_HARD, column) for column in STYLES),
    ),
    Claim(
        "DPL",
        "The lengths that its search finds beat uniform ones of about as many parameters.",
        (
            Measure(
                "test: found lengths − ",
                Cell("dpl", "found lengths", "test"),
                tuple(Cell("dpl", f"{number} in every block", "test") for number in (2, 4, 6)),
            ),
        ),
    ),
    Claim(
        "AAPE",
        "Its harmonic mean is above CoOp's.",
        tuple(of("base_to_new", f"AAPE, {reading}", "CoOp", "H") for reading in READINGS),
    ),
    Claim(
        "AAPE",
        "Trained on one image of each class it is above CoCoOp trained on sixteen.",
        against("λ = 5", "H, 1 shot", "CoCoOp", "1 shot − CoCoOp, 16 shots"),
    ),
    Claim(
        "AAPE",
        "With one sentence at random in place of the aggregator it is still above zero-shot CLIP, by little.",
        against("aggregator random", "H", "zero-shot", "random − zero-shot"),
    ),
)
