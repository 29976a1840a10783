"""The search of CPT (Yao et al., arXiv 2109.11797) for the colours that a CLIP recognises best by their words, on painted boxes
of training images, and grounding with these colours. The details of the published search are not public: docs/cpt.md.

Shapes: K training images with a box each, N_i proposals of image i.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from files.whole import whole_file
from prompts.cpt import CPT, Form
from prompts.engine.clip import FrozenCLIP
from prompts.learner import TrainingHooks
from prompts.parts.colour_files import Appearance, write_colours
from prompts.parts.colour_form import Calibration, ColourForm, colours_of
from prompts.parts.colour_picture import confusion_map
from prompts.parts.colour_search import WORDS, grid, search_colours
from prompts.parts.markers import make_markers
from prompts.parts.marking import ResizeMode
from prompts.parts.regions import Regions
from prompts.parts.settings import check_at_least, check_choice


class CPTColors(CPT, TrainingHooks):
    """CPT with colours from a search on training images.

    Args:
        words: the colour words that the search compares for every painted box.
        levels, alphas: the values, 0 to 255, of red, green and blue, and of the colour's opacity. All combinations are tried,
            and CPT's own five colours.
        count: how many words are chosen, such that they are seldom confused with one another.
        form: "colours": the proposals are painted together in one image, each in another chosen colour; "per_box": each is
            painted in the first colour, on a copy of its own.
        calibrate, resize_mode, chunk: as in `CPT`.
        colours: the result of an earlier search, as `prompts.parts.colour_form.colours_of` takes it; None: search for them.

    Raises:
        ValueError: a number out of its range, an unknown choice, or more words to choose than there are.
    """

    needs_training_regions = True

    def __init__(
        self,
        words: Sequence[str] = WORDS,
        levels: Sequence[float] = (0, 127, 255),
        alphas: Sequence[float] = (63, 127, 191),
        count: int = 5,
        form: Form = "colours",
        calibrate: Calibration = "cyclic",
        resize_mode: ResizeMode = "squash",
        chunk: int = 64,
        colours: Sequence[str] | Mapping[str, Sequence[float]] | str | None = None,
    ):
        super().__init__(calibrate=calibrate, resize_mode=resize_mode, chunk=chunk)
        check_choice("form", form, Form)
        check_at_least(2, count=count)
        self.words, self.count, self.form, self.calibrate = list(words), count, form, calibrate
        if len(set(self.words)) < len(self.words) or count > len(self.words):
            raise ValueError(f"method.words has {len(set(self.words))} different words for method.count={count}: give more.")
        self.appearances = grid(levels, alphas)
        self.found: dict[str, Any] = {}  # the search's result, as the file of colours holds it
        if colours is not None:
            self.use(colours_of(colours))

    def use(self, colours: Mapping[str, Appearance]) -> None:
        """Sets the colours that proposals are painted in."""
        self.found_settings = {"colours": {word: list(colour) for word, colour in colours.items()}}
        if self.form == "colours":
            self.colours = ColourForm(self.markers, colours, self.calibrate)
            return
        word, colour = next(iter(colours.items()))
        self.markers = make_markers([{"name": "fill_box", "colour": list(colour[:3]), "alpha": colour[3], "word": word}])

    def search_regions(self, clip: FrozenCLIP, images: Sequence[Tensor], boxes: Sequence[Tensor]) -> None:
        """Searches for colours on the boxes (K,4) of training images (3,H,W) uint8, unless colours were given."""
        if self.found_settings:
            return
        found = search_colours(clip, images, boxes, self.appearances, self.words, self.resize_mode, self.chunk)
        self.found = found.as_file(self.count, images=len(images), backbone=clip.identity)
        self.use(colours_of(self.found["colours"]))

    @property
    def found_figures(self) -> dict[str, Any]:  # type: ignore[override]
        """The probability of each chosen word for its colour, and the sizes of the search."""
        if not self.found:
            return {}
        chosen = {word: self.found["probability"][word] for word in self.found["colours"]}
        return {"probability": chosen, "colours_tried": self.found["tried"], "images": self.found["images"]}

    def scores_of(self, clip: FrozenCLIP, regions: Regions) -> list[Tensor]:
        """As `CPT.scores_of`. ValueError where no colours were found yet."""
        if not self.found_settings:
            raise ValueError("no colours were found yet: a run with fit=true searches for them on training images.")
        return super().scores_of(clip, regions)

    def artifacts(self, folder: Path) -> list[Path]:
        """Writes colours-DIGITS.json, which `method.colours` takes, and its figure. DIGITS are those of the CLIP's digest."""
        if not self.found:
            return []
        path, picture = folder / f"colours-{self.found['backbone']['weights'][:8]}.json", folder / "colours.png"
        write_colours(path, self.found)
        with whole_file(picture) as temporary:
            confusion_map(self.found).savefig(temporary, dpi=100, format="png")
        return [path, picture]
