"""Checks that links within the documentation lead somewhere on a code host: files, folders, and headings.

python .ci/check_links.py

Looks at README.md and the other pages beside it, and at docs/. Anchors are made from headings as code hosts do it. Prints one
line per dead link; the exit status is 1 where there is one. `make docs` checks the same links in the built site.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LINK = re.compile(r"\[[^\]\[]*\]\((?!\w+:)([^)\s#]*)(?:#([^)\s]*))?\)")
FENCED = re.compile(r"^(```+|~~~+).*?^\1", re.M | re.S)
HEADING = re.compile(r"^#{1,6} +(.+?) *#*$", re.M)


def pages(root: Path) -> list[Path]:
    """The pages of a repository's documentation."""
    return [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]


def anchors(text: str) -> set[str]:
    """What a page's headings, and its `<a id>`, can be linked by."""
    text, found = FENCED.sub("", text), {}
    for heading in HEADING.findall(text):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)|<[^>]+>", r"\1", heading)
        name = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        found[name] = found.get(name, -1) + 1
        if found[name]:
            found[f"{name}-{found[name]}"] = 0
    return {*found, *re.findall(r'<a id="([^"]+)"', text)}


def dead_links(root: Path) -> list[str]:
    """A line for each link that leads nowhere."""
    texts = {path.resolve(): path.read_text(encoding="utf-8") for path in pages(root)}
    problems = []
    for page, text in texts.items():
        for file, anchor in LINK.findall(FENCED.sub("", text)):
            target = (page.parent / file).resolve() if file else page
            where = f"{page.relative_to(root.resolve())}: {file}{'#' if anchor else ''}{anchor}"
            if not target.exists():
                problems.append(f"{where}: there is no such file")
            elif anchor and anchor not in anchors(texts.get(target, "")):
                problems.append(f"{where}: there is no such heading")
    return problems


def main() -> int:
    """Prints the dead links; the exit status."""
    problems = dead_links(ROOT)
    print(*problems, sep="\n", end="\n" if problems else "")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
