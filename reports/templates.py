"""The page's templates. All HTML is in them: what enters is escaped, unless it is markup that one of them gave."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

HERE = Path(__file__).parent
ENVIRONMENT = Environment(loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, keep_trailing_newline=True)
PIECES = ENVIRONMENT.get_template("pieces.html").module  # its macros return Markup
