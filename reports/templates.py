"""The page's templates, which hold all HTML. Texts are escaped, unless they are markup made by one of the templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
ENVIRONMENT = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
PIECES: Any = ENVIRONMENT.get_template("pieces.html").module  # its macros return Markup
