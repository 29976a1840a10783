"""The files of a search for prompt lengths: `dpl.json` and its picture.

Shapes: L blocks of a tower, t options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from files.whole import whole_file, write_text
from prompts.parts.dpl_picture import heat_maps
from prompts.parts.prompt_lengths import FILE

PICTURE = "dpl.png"


def write_lengths(content: Mapping[str, Any], folder: Path) -> list[Path]:
    """Writes {"text": [L lengths], "image": [L lengths]} and, where they are known, "options" (t) and "alphas" (L lists of t by
    tower), which are then also drawn. Returns the files."""
    path, picture = folder / FILE, folder / PICTURE
    write_text(path, _readable(content))
    if "alphas" not in content:
        return [path]
    with whole_file(picture) as temporary:
        heat_maps(content).savefig(temporary, dpi=120, format="png")
    return [path, picture]


def _readable(content: Mapping[str, Any]) -> str:
    """JSON with one line for a list of numbers."""
    lines = []
    for key, value in content.items():
        if isinstance(value, Mapping):
            inner = [
                f'  "{name}": [\n' + ",\n".join(f"   {json.dumps(row)}" for row in rows) + "\n  ]"
                for name, rows in value.items()
            ]
            lines.append(f' "{key}": {{\n' + ",\n".join(inner) + "\n }")
        else:
            lines.append(f' "{key}": {json.dumps(value)}')
    return "{\n" + ",\n".join(lines) + "\n}\n"
