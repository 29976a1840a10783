"""The tables of the embedded world: their rows and columns, each declared by the runs of conf/experiment that it shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

Where = Mapping[str, str]  # values of a sweep's keys; `experiment` is its own name


@dataclass(frozen=True)
class Line:
    """A row: its label, the runs that it is of, and the columns that it has no figure for."""

    label: str
    where: Where
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """A column: its title, an evaluation, a summary or another number of a result, and the runs that it is of."""

    title: str
    value: str
    where: Where = field(default_factory=dict)


@dataclass(frozen=True)
class Declared:
    """A table: the mark of its place in documents, what it shows, the experiments whose runs it shows, rows and columns."""

    name: str
    about: str
    experiments: tuple[str, ...]
    lines: tuple[Line, ...]
    columns: tuple[Column, ...]


METHODS = {
    "zeroshot": "zero-shot",
    "linear_probe": "linear probe",
    "coop": "CoOp",
    "cocoop": "CoCoOp",
    "kgcoop": "KgCoOp",
    "vpt": "VPT",
    "ivlp": "IVLP",
    "maple": "MaPLe",
    "promptsrc": "PromptSRC",
    "pomp": "POMP, tuned on the base classes",
    "rpp": "RPP, tuned on the base classes",
    "aape": "AAPE, as written",
    "aape_residual": "AAPE, residual",
}
FEW = ("zeroshot", "linear_probe", "coop", "cocoop", "maple")
PARAMETERS = Column("parameters", "trainable_parameters")
HALVES = (Column("base", "base"), Column("new", "new"), Column("H", "H"))
STYLES = tuple(Column(name, name) for name in ("shapes", "shapes_sketch", "shapes_dark"))
PRETRAINED = (Column("shapes21k, 604 classes", "shapes21k"), *STYLES)


def of_methods(*methods: str, **where: str) -> tuple[Line, ...]:
    """A row for each of these methods."""
    return tuple(Line(METHODS[method], {"method": method, **where}) for method in methods)


def shots(number: int) -> str:
    """Training images per class in words."""
    return f"{number} shot{'s' * (number > 1)}"


FEW_SHOT = Declared(
    "few_shot",
    "Few shots: all 36 classes of the shapes, and the handwritten digits.",
    ("table-few_shot",),
    of_methods(*FEW),
    tuple(
        Column(f"{data}, {shots(number)}", "test", {"data": data, "shots": str(number)})
        for data in ("shapes", "digits")
        for number in (1, 4, 16)
    ),
)
README_FEW_SHOT = Declared(
    "readme_few_shot",
    "16 shots.",
    ("table-few_shot",),
    tuple(Line(f"`data={data}`", {"data": data, "shots": "16"}) for data in ("shapes", "digits")),
    tuple(Column(METHODS[method], "test", {"method": method}) for method in FEW),
)
BASE_TO_NEW = Declared(
    "base_to_new",
    "Base to new: trained on 16 images of each of the first 18 classes of the shapes.",
    ("table-base_to_new",),
    of_methods(*(method for method in METHODS if method != "linear_probe")),
    (*HALVES, PARAMETERS),
)
TRANSFER = Declared(
    "transfer",
    "Other styles: trained on 16 images of each class of the shapes.",
    ("table-transfer",),
    of_methods("zeroshot", "coop", "maple"),
    STYLES,
)
SEPARATE, HARD, SOFT = "separate q, k, v", "hard labels", "hard and soft labels"
RPP_ROWS = (  # ablation, weight of the soft labels, experiment, what it is
    ("shared", "0", "table-pretraining", f"shared prompts, {HARD}"),
    ("shared", "1", "table-pretraining", f"shared prompts, {SOFT}"),
    ("unshared", "0", "table-pretraining", f"{SEPARATE}, {HARD}"),
    ("unshared", "1", "table-pretraining", f"{SEPARATE}, {SOFT}"),
    ("shared_3n", "0", "table-pretraining_controls", f"shared prompts in three times the slots, {HARD}"),
)
ZEROSHOT_21K = Line("zero-shot", {"experiment": "table-transfer_zeroshot"})
POMP_21K = Line("POMP", {"experiment": "table-pretraining_pomp"})
PRETRAINING = Declared(
    "pretraining",
    "Pretrained on 16 images of each of the 604 classes of shapes21k; no class of the shapes is among them.",
    ("table-transfer_zeroshot", "table-pretraining_pomp", "table-pretraining", "table-pretraining_controls"),
    (
        ZEROSHOT_21K,
        POMP_21K,
        *(
            Line(f"RPP, {what}", {"experiment": name, "+ablation": ablation, "method.distillation.weight": weight})
            for ablation, weight, name, what in RPP_ROWS
        ),
    ),
    (*PRETRAINED, PARAMETERS),
)
README_TRANSFER = Declared(
    "readme_transfer",
    "16 shots. POMP and RPP are pretrained on shapes21k, which has no class of the shapes; CoOp is trained on the shapes.",
    ("table-transfer_zeroshot", "table-pretraining_pomp", "table-pretraining", "table-transfer"),
    (
        ZEROSHOT_21K,
        POMP_21K,
        Line("RPP", {"experiment": "table-pretraining", "+ablation": "unshared", "method.distillation.weight": "1"}),
        Line("CoOp", {"experiment": "table-transfer", "method": "coop"}, lacks=(PRETRAINED[0].title,)),
    ),
    PRETRAINED,
)
UNIFORM = {number: f"{{text:[{number},{number},{number}],image:[{number},{number},{number},{number}]}}" for number in (2, 4, 6)}
DPL = Declared(
    "dpl",
    "Prompts of found and of uniform lengths, 16 images of each class of the shapes.",
    ("table-dpl", "table-dpl_distilled"),
    (
        Line("found lengths", {"experiment": "table-dpl", "method.prompt_lengths": "null"}),
        *(Line(f"{number} in every block", {"method.prompt_lengths": lengths}) for number, lengths in UNIFORM.items()),
        Line("found lengths, distilled from clip=tiny", {"experiment": "table-dpl_distilled", "clip@method.teacher": "tiny"}),
        Line(
            "found lengths, distilled from clip=tiny_large",
            {"experiment": "table-dpl_distilled", "clip@method.teacher": "tiny_large"},
        ),
    ),
    (Column("test", "test"), PARAMETERS),
)
READINGS = {"aape": "as written", "aape_residual": "residual"}
AAPE_SHOTS = {"16": HALVES, "1": tuple(Column(f"{of.title}, 1 shot", of.value) for of in HALVES)}
ONE_SHOT = tuple(column.title for column in AAPE_SHOTS["1"])
AAPE = Declared(
    "aape",
    "AAPE from base to new, 16 shots and 1 shot; λ: the weight of the distillation. Rows without λ have 5.",
    ("table-aape", "table-aape_kinds", "table-aape_query", "table-aape_h_only", "table-aape_batch1"),
    tuple(
        Line(f"{reading}, {what}", {"method": method, "experiment": f"table-aape{part}", **where}, lacks)
        for method, reading in READINGS.items()
        for part, what, where, lacks in (
            *(("", f"λ = {weight}", {"method.distill_weight": weight}, ()) for weight in ("0", "1", "5", "9")),
            *(
                ("_kinds", f"aggregator {kind}", {"method.aggregator.kind": kind}, ONE_SHOT)
                for kind in ("weights", "mlp", "mean", "random")
            ),
            *(
                ("_query", f"query {query}", {"method.aggregator.query": query}, ONE_SHOT)
                for query in ("per_class", "image_conditioned")
            ),
            *([("_h_only", "h alone", {}, ())] if method == "aape" else []),
            ("_batch1", "10 epochs of batch 1", {}, ONE_SHOT),
        )
    ),
    tuple(Column(of.title, of.value, {"shots": number}) for number, columns in AAPE_SHOTS.items() for of in columns),
)
PRECISION = Declared(
    "precision",
    "Base to new in float32 and in bf16-mixed.",
    ("table-precision",),
    tuple(
        Line(f"{METHODS[method]}, {precision}", {"method": method, "precision": precision})
        for method in ("coop", "maple", "promptsrc")
        for precision in ("32-true", "bf16-mixed")
    ),
    HALVES,
)
TABLES = (FEW_SHOT, BASE_TO_NEW, AAPE, TRANSFER, PRETRAINING, DPL, PRECISION, README_FEW_SHOT, README_TRANSFER)
