"""Images in parquet files, as `datasets` writes them, read at random."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from datamodules.index import Listing
from datamodules.readers import MAX_IMAGE_BYTES, Location, Shards, printable
from files.untrusted import label_of, parse_json, regular_file, text_of

MAX_ROWS = 5_000_000  # of a file
MAX_LABELS = 256 * 2**20  # bytes of a row group's labels, unpacked
MAX_GROUP_BYTES = 2 * 2**30  # of a row group's images: the least that can be read at once
BATCH = 256  # rows that are unpacked between checks of the limit: a few bytes can encode many equal rows


class Parquet(Shards):
    """Parquet files: a column of images (struct of bytes) and one of labels, which are numbers or text.

    A shard is a row group, the least that can be read at once, so `order=windowed` is much cheaper; offset is the row in it.
    """

    suffix = ".parquet"

    def _locations(self, path: str) -> Iterator[Location]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            names, is_text = self._classes(path, pq.read_schema(self.root / path))
            with pq.ParquetFile(self.root / path, read_dictionary=[self.label] if is_text else None) as file:
                groups = (file.metadata.row_group(group).num_rows for group in range(file.num_row_groups))
                rows = max(file.metadata.num_rows, sum(groups))
                if rows > MAX_ROWS:
                    raise ValueError(f"{self.root / path} claims {rows:,} rows, more than {MAX_ROWS:,}")
                if rows > (size := (self.root / path).stat().st_size):  # equal rows pack to nothing
                    raise ValueError(f"{self.root / path} claims {rows:,} rows in {size:,} bytes, which hold no such images")
                for group in range(file.num_row_groups):
                    about = file.metadata.row_group(group)
                    chunks = (about.column(number) for number in range(about.num_columns))
                    label_chunks = (chunk for chunk in chunks if chunk.path_in_schema == self.label)
                    if sum(chunk.total_uncompressed_size for chunk in label_chunks) > MAX_LABELS:
                        raise ValueError(f"the labels of row group {group} in {self.root / path} unpack to too much")
                    column = file.read_row_group(group, columns=[self.label], use_threads=False).column(0)
                    if len(column) != file.metadata.row_group(group).num_rows:
                        raise OSError(f"row group {group} has another number of labels than of rows")
                    for row, value in enumerate(value for chunk in column.chunks for value in _values(chunk)):
                        what = f"the label in row {row} of row group {group} in {self.root / path}"
                        if value is None or value == -1:
                            raise ValueError(f"row {row} of row group {group} in {self.root / path} has no label")
                        if names and label_of(value, what) >= len(names):
                            raise ValueError(f"{what} is {value}, but {len(names)} classes are named")
                        yield f"{path}#{group}", row, 0, names[value] if names else _class(value, what)  # type: ignore[index]
        except (OSError, pa.ArrowException) as error:
            raise OSError(printable(str(error).partition("\n")[0])) from error

    def _classes(self, path: str, schema: Any) -> tuple[list[str] | None, bool]:
        """Class names by label, if the labels are a `ClassLabel`; whether they are text. ValueError for other columns."""
        import pyarrow as pa

        if absent := sorted({self.image, self.label} - set(schema.names)):
            raise ValueError(
                f"{self.root / path} has no column {absent[0]!r}, only {printable(', '.join(schema.names))}: name the columns "
                "by image=... and label=... of the source"
            )
        kind = schema.field(self.label).type
        kind = kind.value_type if pa.types.is_dictionary(kind) else kind
        is_text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
        if not (is_text or pa.types.is_integer(kind)):
            raise ValueError(f"the labels in {self.root / path} are {kind}: they must be integers or text")
        what = f"the description of columns in {self.root / path}"
        about = parse_json((schema.metadata or {}).get(b"huggingface", b"{}"), what)
        for key in ("info", "features", self.label):
            about = about.get(key) if isinstance(about, dict) else None
        names = about.get("names") if isinstance(about, dict) else None
        if names is None or is_text:
            return None, is_text
        if not isinstance(names, list):
            raise ValueError(f"{what} has no list of class names")
        return [text_of(name, f"a class name in {self.root / path}") for name in names], False

    def path(self, listing: Listing, row: int) -> str:
        """The name FILE#GROUP#ROW: the row group, and the row in it."""
        return f"{listing.shards[listing.shard[row]]}#{listing.offset[row]}"

    def read(self, path: str) -> bytes:
        """The image as encoded. ValueError where the file does not hold it."""
        import pyarrow as pa

        name, group, row = path.rsplit("#", 2)
        try:
            value = _row_group(str(regular_file(self.root / name, "shard")), int(group), self.image)[int(row)].as_py()
        except (OSError, IndexError, pa.ArrowException) as error:
            cause = printable(str(error).partition("\n")[0])
            raise ValueError(f"row {row} of row group {group} in {self.root / name} cannot be read ({cause})") from error
        content = value.get("bytes") if isinstance(value, dict) else value
        if not isinstance(content, bytes) or not 0 < len(content) <= MAX_IMAGE_BYTES:
            raise ValueError(f"row {row} of row group {group} in {self.root / name} holds no image")
        return content


def _values(chunk: Any) -> Iterator[int | str | None]:
    """The values of a chunk of labels. Equal texts are one object, to save memory."""
    if not hasattr(chunk, "dictionary"):
        yield from chunk.to_pylist()
        return
    texts = chunk.dictionary.to_pylist()
    yield from (None if index is None else texts[index] for index in chunk.indices.to_pylist())


def _class(value: int | str, what: str) -> int | str:
    return text_of(value, what) if isinstance(value, str) else label_of(value, what)


@lru_cache(maxsize=16)  # per process, so each worker has a cache
def _row_group(path: str, group: int, column: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    """The column's values in a row group. OSError where they unpack to too much."""
    chunks, size = [], 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH, row_groups=[group], columns=[column], use_threads=False):
            chunks.append(batch.column(0))
            size += batch.nbytes
            if size > MAX_GROUP_BYTES:
                raise OSError(f"it unpacks to more than {MAX_GROUP_BYTES // 2**30} GiB: write it with fewer rows per group")
    return pa.chunked_array(chunks)
