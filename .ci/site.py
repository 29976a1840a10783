"""Hooks of mkdocs: pages that lie outside docs/ become pages of the site, and links fit the site.

In the repository a link leads to a file, so that it works on a code host. In the site a link to a page leads to that page; a
link to any other file of the repository becomes its text, as the site has no such file. mkdocs then checks what is left.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"\[([^\]\[]*)\]\((?!\w+:)([^)\s#]+)(#[^)\s]*)?\)")


def on_files(files: Any, config: Any) -> Any:
    """Adds the pages that lie outside docs/."""
    from mkdocs.structure.files import File

    for name, page in OUTSIDE.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """The page with links that fit the site."""
    sources = {uri: name for name, uri in OUTSIDE.items()}
    return for_site(markdown, sources.get(page.file.src_uri, f"docs/{page.file.src_uri}"))


def for_site(markdown: str, name: str) -> str:
    """Markdown of the file `name`, a path from the repository's root, with links that fit the site."""
    folder = posixpath.dirname(name)

    def fitted(match: re.Match[str]) -> str:
        text, target, anchor = match[1], posixpath.normpath(posixpath.join(folder, match[2])), match[3] or ""
        if target in OUTSIDE:
            return f"[{text}]({OUTSIDE[target]}{anchor})"
        if target.startswith("docs/"):
            return f"[{text}]({os.path.relpath(target, 'docs')}{anchor})"
        return text if (ROOT / target).exists() else match[0]  # a dead link is left for mkdocs to report

    return LINK.sub(fitted, markdown)
