"""Saves time in pytest's own processes and changes no outcome: what the libraries make of the same text is made once, and
Python looks for garbage less often. Processes that tests start do without.
"""

from __future__ import annotations

import copy
import functools
import gc
from types import SimpleNamespace
from typing import IO

import omegaconf._utils
import omegaconf.base
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, ListConfig, OmegaConf


@functools.lru_cache(maxsize=1024)
def _content(text: str):
    return OmegaConf.create(text)


def load(file: IO[str]) -> DictConfig | ListConfig:
    """`OmegaConf.load` that parses each content once: one command line is composed from fifty files."""
    text = file.read()
    try:
        return copy.deepcopy(_content(text)) if text.strip() else OmegaConf.create()
    except Exception:  # the message names the file
        file.seek(0)
        return OmegaConf.load(file)


def remember() -> None:
    """Lets yaml files of configs, and interpolations as text, be parsed once."""
    Plugins.instance()  # it imports Hydra's sources of configs, as modules of its own
    source = SourcesRegistry.instance().resolve("file")
    source.load_config.__globals__["OmegaConf"] = SimpleNamespace(load=load)
    omegaconf.base.parse = omegaconf._utils.parse = functools.lru_cache(maxsize=4096)(omegaconf.base.parse)


def share_vocabulary() -> None:
    """Lets tokenizers of open_clip that are made alike share their tables, to which nothing writes: a tenth of a second."""
    from open_clip.tokenizer import SimpleTokenizer

    make, made = SimpleTokenizer.__init__, {}

    @functools.wraps(make)
    def remembered(self, *args, **options):
        key = repr((args, sorted(options.items())))
        if key not in made:
            make(self, *args, **options)
            made[key] = vars(self) | {"cache": dict(self.cache)}
        vars(self).update(made[key], cache=dict(made[key]["cache"]))  # `cache`: words that it has seen

    SimpleTokenizer.__init__ = remembered


def pause_collector() -> None:
    """Until `resume_collector`: what is imported stays, and need not be walked over."""
    gc.disable()


def resume_collector() -> None:
    """Leaves out what was imported from now on, and looks for garbage a seventieth as often."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)
    gc.enable()
