"""Lists and clears the store of image features: which entries it has, their size and when they were last used.

python -m tools.features [store=FOLDER]                   the entries, the one used last first
python -m tools.features clear=true [unused_days=DAYS]    removes them, or those that nobody has read for so many days

store=FOLDER is the value that runs have as features.store; without it the store is in the cache of the user. An entry that is
open somewhere stays. Removing an entry changes no result: it is computed again where it is needed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from runs.feature_store import AUTO, DAY, FeatureStore, StoredFile, folder_of

USAGE = "give [store=FOLDER] [clear=true [unused_days=DAYS]]"


def parsed(arguments: Sequence[str]) -> tuple[FeatureStore, bool, float]:
    """The store, whether to clear it, and the days that an entry must have been unused. ValueError for anything else."""
    given = dict(argument.partition("=")[::2] for argument in arguments)
    if unknown := [key for key, value in given.items() if key not in ("store", "clear", "unused_days") or not value]:
        raise ValueError(f"{unknown[0]} is not understood: {USAGE}.")
    clear, days = given.get("clear", "false"), given.get("unused_days", "0")
    if clear not in ("true", "false") or not days.replace(".", "", 1).isdecimal() or (clear == "false" and float(days)):
        raise ValueError(f"clear={clear} unused_days={days}: {USAGE}.")
    return FeatureStore(folder_of(given.get("store", AUTO)), float("inf")), clear == "true", float(days)


def line(entry: StoredFile) -> str:
    """An entry as a line: size, days since it was used, what it belongs to."""
    days = max(0.0, (time.time() - entry.used) / DAY)
    return f"{entry.size / 1e6:9.1f} MB  {days:6.1f} days  {entry.about}"


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    try:
        store, clear, days = parsed(arguments)
        entries, kept = store.clear(days) if clear else (store.entries(), [])
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print("".join(f"{line(entry)}\n" for entry in entries), end="")
    total = sum(entry.size for entry in entries) / 1e9
    print(f"{'removed ' if clear else ''}{len(entries)} entries, {total:.2f} GB, in {store.folder}")
    if kept:
        print(f"{len(kept)} entries are in use and stay")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
