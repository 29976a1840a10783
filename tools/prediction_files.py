"""Files of predictions: csv, json and parquet, and the rows that are stored while a prediction runs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from files.untrusted import parse_json, regular_file
from files.whole import whole_file, write_text

FORMATS = (".csv", ".json", ".parquet")
Row = dict[str, Any]  # image, error, classes and probabilities from the most probable on
MOST_LINE = 2**26  # bytes of one batch in the file of a prediction that runs


class Progress:
    """The rows of a prediction that is not finished, beside its output: one line of json for each batch.

    Args:
        out: the output.
        digest: of all that the rows depend on; a file with another digest is started over.
    """

    def __init__(self, out: Path, digest: str) -> None:
        self.path, self.done = out.with_name(out.name + ".partial"), 0
        whole = self._whole_lines(digest)
        if not whole:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_text(self.path, json.dumps({"digest": digest}) + "\n")
        self.done = sum(len(rows) for rows in self._batches())
        self.file = open(self.path, "a", encoding="utf-8")  # noqa: SIM115 - closed by `rows`

    def _whole_lines(self, digest: str) -> bool:
        """Whether the file is of this prediction; a last line that was cut off is removed from it."""
        if not self.path.exists():
            return False
        content = regular_file(self.path, "the unfinished prediction").read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole.split(b"\n", 1)[0] != json.dumps({"digest": digest}).encode():
            return False
        if whole != content:
            write_text(self.path, whole.decode())
        return True

    def add(self, rows: Sequence[Row]) -> None:
        """Keeps the rows of a batch."""
        self.file.write(json.dumps(rows) + "\n")
        self.file.flush()

    def _batches(self) -> Iterator[list[Row]]:
        with open(self.path, encoding="utf-8") as file:
            next(file)
            for line in file:
                yield parse_json(line[:MOST_LINE], f"{self.path}")

    def rows(self) -> Iterator[Row]:
        """All rows, in the order of the images."""
        self.file.close()
        for batch in self._batches():
            yield from batch

    def remove(self) -> None:
        """Removes the file, when the output is written."""
        self.path.unlink()


def write(out: Path, rows: Sequence[Row], top: int) -> None:
    """Writes the rows, whole, in the format that the name's suffix says; csv and parquet have a column for each rank."""
    if out.suffix == ".json":
        write_text(out, json.dumps(rows, indent=1))
        return
    head = ["image", *(f"{part}_{rank}" for rank in range(1, top + 1) for part in ("class", "probability")), "error"]
    table = [_cells(row, top) for row in rows]
    if out.suffix == ".csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([head, *table])
        write_text(out, text.getvalue())
        return
    import pyarrow
    import pyarrow.parquet

    columns = {name: [cells[at] for cells in table] for at, name in enumerate(head)}
    with whole_file(out) as temporary:
        pyarrow.parquet.write_table(pyarrow.table(columns), temporary)


def _cells(row: Row, top: int) -> list[Any]:
    pairs = list(zip(row["classes"], row["probabilities"], strict=True))
    cells = [value for pair in [*pairs, *[(None, None)] * (top - len(pairs))] for value in pair]
    return [row["image"], *cells, row["error"]]
