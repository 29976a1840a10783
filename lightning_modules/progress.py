"""The progress bar."""

from __future__ import annotations

import sys

from lightning.pytorch.callbacks import RichProgressBar


class Progress(RichProgressBar):
    """Rich's bar on a terminal; silent where output goes to a file, which a bar would fill with its frames."""

    def __init__(self) -> None:
        super().__init__(leave=False)
        if not sys.stdout.isatty():
            self.disable()
