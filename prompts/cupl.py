"""CuPL (Pratt et al., ICCV 2023, section 3): zero-shot CLIP with the mean features of sentences written by a language model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.learner import GradientFree
from prompts.parts.prompt_folders import file_of, is_folder
from prompts.parts.reference_prompts import Prompts, encode_prompts, load_reference_prompts


class CuPL(GradientFree):
    """`prompts` is a file of reference prompts, a folder of the published files, of which that of `dataset` is read, or {class
    name: sentences}; `aliases` and `fallback` as in `load_reference_prompts`. Every class list that is evaluated needs
    prompts."""

    takes_captions = False  # a caption has no sentences

    def __init__(
        self,
        prompts: str | Path | Prompts | None = None,
        dataset: str | None = None,
        aliases: Mapping[str, str] | None = None,
        fallback: str | None = None,
    ):
        super().__init__()
        if not prompts:
            raise ValueError("CuPL needs sentences about each class: give method.prompts=PATH of a JSON file.")
        self.text: Tensor | None = None
        self.prompts, self.dataset, self.aliases, self.fallback = prompts, dataset, aliases, fallback

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Encodes the classes' sentences. ValueError where a class has none."""
        try:
            lists = load_reference_prompts(file_of(self.prompts, self.dataset), classnames, self.aliases, self.fallback)
        except ValueError as error:
            if self.text is None or not is_folder(self.prompts):
                raise
            raise ValueError(  # the classes of the run's own dataset were bound before: these are another dataset's
                f"{str(error).removesuffix('.')}; if the classes are another dataset's than data={self.dataset}, whose file a "
                "run reads from a folder, evaluate that dataset in a run of its own, by data=NAME."
            ) from error
        features, present = encode_prompts(clip, lists)
        # the features are padded with zeros, which stay zeros when they are normalised
        self.text = F.normalize(features, dim=-1).sum(1) / present.sum(1, keepdim=True)  # (C,d)

    def encode_text(self, clip: FrozenCLIP, image: Tensor, classes: Tensor | None = None) -> Tensor:
        """(C,d): the mean of each class's normalised sentences."""
        text = self.text.to(image.device)
        return text if classes is None else text[classes]
