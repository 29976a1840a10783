"""The settings of a run by dotted key, by which groups are compared and rows of one method are labelled."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import replace
from typing import Any

from reports.groups import Group
from runs.identity import EXECUTION_KEYS, compared
from runs.result import Result

LONGEST_SETTING = 100  # characters of a setting in a label
MOST_SETTINGS = 4  # in a label; where more differ, the label has the digest instead


def settings_of(result: Result) -> dict[str, str]:
    """{dotted key: value as JSON} of all settings that can change a result, but the seed."""
    config = result.get("config", {})
    root = re.compile(rf'(?<!["\w])"{re.escape(str(config.get("data_root") or chr(0)))}(?=[/"])')
    # the prompts that are evaluated, or that training starts from, change the result
    prompts = {key for key in ("ckpt", "init_from") if config.get(key) and (key != "ckpt" or not config.get("fit", True))}
    flat: dict[str, str] = {}

    def walk(key: str, value: Any) -> None:
        if key.split(".")[-1] in EXECUTION_KEYS.keys() - prompts:
            return
        if isinstance(value, dict) and value:
            for name, child in value.items():
                walk(f"{key}.{name}" if key else name, child)
        else:
            flat[key] = root.sub('"DATA', json.dumps(value))

    walk("", compared(config))
    return flat


def differences(settings: list[dict[str, Any]]) -> list[str]:
    """The keys whose values are not all equal."""
    keys = {key: None for flat in settings for key in flat}  # in order
    return [key for key in keys if len({str(flat.get(key)) for flat in settings}) > 1]


def labelled(groups: list[Group]) -> list[Group]:
    """Adds to the labels of one method's groups that are in the same table the settings in which they differ."""
    rows: dict[tuple, dict[tuple, list[Group]]] = defaultdict(lambda: defaultdict(list))
    for group in groups:
        names = group.names
        row = (group.task, group.figure["key"], group.protocol, names["clip"], names["method"])
        rows[row][names["data"], group.shots].append(group)
    result = []
    for cells in rows.values():
        crowded = [cell for cell in cells.values() if len(cell) > 1]
        keys = list(dict.fromkeys(key for cell in crowded for key in differences([group.settings for group in cell])))
        notes = {
            group.digest: ", ".join(setting_text(key, group.settings) for key in keys)
            for cell in cells.values()
            for group in cell
        }
        # where the settings do not distinguish them, or are too long, the digest does
        clear = len(keys) <= MOST_SETTINGS and all(len({notes[g.digest] for g in cell}) == len(cell) for cell in crowded)
        for cell in cells.values():
            for group in cell:
                note = notes[group.digest] if clear else f"#{group.digest}" if len(cell) > 1 else ""
                result.append(replace(group, label=f"{group.label} ({note})" if note else group.label))
    return result


def setting_text(key: str, settings: dict[str, str]) -> str:
    """A setting as a label shows it: "depth=9"."""
    value = settings.get(key, "absent").strip('"')
    return f"{key.removeprefix('method.')}={value if len(value) <= LONGEST_SETTING else f'{value[:LONGEST_SETTING]}…'}"
