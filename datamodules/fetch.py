"""Fetches datasets from their official addresses, checks and unpacks them, and puts them where `data=NAME` reads them.

python -m datamodules.fetch [data=NAME[,NAME...]] [data_root=PATH] [keep=true]

Without data= it lists what can be fetched. An interrupted download is continued by the next start. An archive is unpacked
beside the dataset, and its content is then moved there; keep=true keeps the archive. Files that need a click, a login or a
mirror, such as the published splits (split_zhou_*.json), are listed with their address and place. The addresses are in
datamodules/sources.yaml.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import yaml
from filelock import FileLock, Timeout

from files.download import Checksum, check_room, download
from files.unpack import unpack

SOURCES = Path(__file__).with_name("sources.yaml")
ARCHIVES = (".zip", ".tar", ".tgz", ".gz")
SPLIT = "split_zhou_"


@dataclass(frozen=True)
class File:
    """A file to fetch; the fields are those of sources.yaml."""

    url: str
    makes: str
    md5: str | None = None
    sha256: str | None = None
    bytes: int = 0
    take: str = ""
    inside: str | None = None

    @property
    def name(self) -> str:
        """The file's own name."""
        return urlsplit(self.url).path.rpartition("/")[2]

    @property
    def checksum(self) -> Checksum | None:
        """The published checksum; None where there is none."""
        kind = "md5" if self.md5 else "sha256"
        return Checksum(kind, digits) if (digits := self.md5 or self.sha256) else None


@dataclass(frozen=True)
class ByHand:
    """A file that cannot be fetched: its place in the dataset's folder, where to get it, whether a run needs it."""

    what: str
    where: str
    needed: bool = False


@dataclass(frozen=True)
class Source:
    """A dataset: its folder below data_root, its page, and its files."""

    folder: str
    page: str
    files: Sequence[File]
    by_hand: Sequence[ByHand]


def read_sources(path: Path = SOURCES) -> dict[str, Source]:
    """The table of datasets."""
    return {
        name: Source(
            entry["folder"],
            entry["page"],
            [File(**file) for file in entry.get("files", [])],
            [ByHand(item["what"], item["from"], item.get("needed", False)) for item in entry.get("by_hand", [])],
        )
        for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).items()
    }


def fetch(name: str, source: Source, root: Path, keep: bool = False) -> bool:
    """Fetches the missing files, and lists those that must be fetched by hand. Returns whether the dataset can be used.

    Raises:
        ValueError: a file cannot be fetched, or another process is fetching it. Files fetched by then are kept.
        OSError: the disk is full, or the folder may not be written to.
    """
    folder = root / source.folder
    if source.files:
        work = folder / ".fetch"
        work.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(work / "lock").acquire(timeout=0):
                for file in source.files:
                    _fetch_file(name, file, source.page, folder, work, keep)
        except Timeout:
            raise ValueError(f"{name}: another process is fetching into {folder}: wait for it.") from None
        shutil.rmtree(work, ignore_errors=True)
    missing = [item for item in source.by_hand if not (folder / item.what).exists()]
    for item in missing:
        without = " (a run makes a split of its own without it, which is not the published one)" * item.what.startswith(SPLIT)
        print(f"{name}: by hand: {folder / item.what} from {item.where}{without}")
    return not any(item.needed for item in missing)


def _fetch_file(name: str, file: File, page: str, folder: Path, work: Path, keep: bool) -> None:
    """Fetches a file and unpacks it, unless what it makes is there. ValueError: one sentence."""
    target, given, archive = folder / file.makes, folder / file.name, work / file.name
    is_archive = file.name.endswith(ARCHIVES)
    if target.exists():
        print(f"{name}: {target} is there and stays as it is")
        return
    try:
        if given.is_file():
            print(f"{name}: {given} is there already")
            if file.checksum:
                file.checksum.check(given)
        elif not archive.is_file():  # it has this name when it is checked
            print(f"{name}: {file.url}, {_size(file.bytes)}, {'checked' if file.checksum else 'no checksum is published'}")
            check_room(work, file.bytes * (2 if is_archive else 1))
            download(file.url, archive, file.checksum, _Percent())
        if is_archive:
            _unpack(name, file, given if given.is_file() else archive, folder, work)
        else:
            os.replace(archive, target)
    except ValueError as error:
        if not file.checksum:  # what was checked is not fetched again
            archive.unlink(missing_ok=True)
        raise ValueError(
            f"{name}: {file.name} cannot be had from {file.url}: {error}. Start again, or get it by hand ({page}) and put it "
            f"at {given}: the next start checks and unpacks it."
        ) from error
    if keep and archive.is_file():
        os.replace(archive, given)
    archive.unlink(missing_ok=True)


def _unpack(name: str, file: File, archive: Path, folder: Path, work: Path) -> None:
    """Unpacks beside the dataset, then moves the files there, `file.makes` last."""
    staged = work / "unpacked"
    for path in (outer := work / "outer", staged):
        shutil.rmtree(path, ignore_errors=True)  # of an earlier start
    try:
        if file.inside:
            unpack(archive, outer, file.inside)
            archive = outer / Path(file.inside).name
        result = unpack(archive, staged, file.take)
        if not (staged / file.makes).exists():
            raise ValueError(f"it holds no {file.makes}, so the source has changed")
        for path in sorted(staged.iterdir(), key=lambda path: path.name == file.makes):
            if not (folder / path.name).exists():
                os.rename(path, folder / path.name)
    finally:
        for path in (outer, staged):
            shutil.rmtree(path, ignore_errors=True)
    left = f", {len(result.left_out)} links or devices left out, the first is {result.left_out[0]!r}" if result.left_out else ""
    print(f"{name}: {folder / file.makes}, {result.files:,} files unpacked{left}")


class _Percent:
    """Prints every tenth of a download."""

    def __init__(self) -> None:
        self.shown = 0

    def __call__(self, there: int, total: int | None) -> None:
        tenth = 10 * there // total if total else 0
        if tenth > self.shown:
            self.shown = tenth
            print(f"     {10 * tenth}%", flush=True)


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size else "size unknown"


def listing(sources: Mapping[str, Source]) -> str:
    """A line for each dataset: the size of what is fetched, and what must be fetched by hand."""
    lines = []
    for name, source in sources.items():
        known = sum(file.bytes for file in source.files)
        size = f"{_size(known)}{' and more' * any(not file.bytes for file in source.files)}" if known else "size unknown"
        needed = [item.what for item in source.by_hand if item.needed]
        other = [item.what for item in source.by_hand if not item.needed]
        parts = [size] * bool(source.files) + [f"by hand: {', '.join(needed)}"] * bool(needed)
        lines.append(f"{name:16} {'; '.join([*parts, *[f'better with {what}' for what in other]])}")
    return "\n".join(lines)


def parsed(arguments: Sequence[str], known: Mapping[str, Source]) -> tuple[list[str], Path, bool]:
    """The datasets, data_root, and whether archives are kept. ValueError for what is not understood."""
    options = {"data": "", "data_root": os.environ.get("DATA") or "data", "keep": "false"}
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals or key not in options:
            raise ValueError(f"{argument!r:.120} is not understood; {(__doc__ or '').splitlines()[2]}")
        options[key] = value
    names = options["data"].split(",") if options["data"] else []
    for name in names:
        if name not in known:
            raise ValueError(f"data={name!r:.80} is not among what can be fetched: {', '.join(known)}.")
    if options["keep"] not in ("true", "false"):
        raise ValueError(f"keep={options['keep']!r:.80}: give true or false.")
    return names, Path(options["data_root"]).expanduser(), options["keep"] == "true"


def main(arguments: Sequence[str], table: Path = SOURCES) -> int:
    """The command; its exit status: 0 if all can be used now, 1 if something is missing, 130 after an interruption."""
    try:
        sources = read_sources(table)
        names, root, keep = parsed(arguments, sources)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 1
    if not names:
        print(listing(sources))
    status = 0
    for name in names:
        try:
            if fetch(name, sources[name], root, keep):
                print(f"{name}: `python -m tools.doctor data={name} data_root={root}` says whether all is there")
            else:
                status = 1
        except (ValueError, OSError) as error:
            print(error, file=sys.stderr)
            status = 1
        except KeyboardInterrupt:
            print(f"{name}: interrupted; the same command goes on", file=sys.stderr)
            return 130
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
