"""The methods by name: a method's name is that of its module in `prompts`."""

from __future__ import annotations

import importlib
import pkgutil

from prompts.learner import PromptLearner


def learner_classes() -> dict[str, type[PromptLearner]]:
    """The learner class of every method, by the method's name."""
    import prompts

    found = {}
    for module in pkgutil.iter_modules(prompts.__path__):
        path = f"prompts.{module.name}"
        if module.ispkg or path == PromptLearner.__module__:
            continue
        content = vars(importlib.import_module(path)).values()
        own = [c for c in content if isinstance(c, type) and c.__module__ == path and issubclass(c, PromptLearner)]
        found |= {module.name: own[0]} if own else {}
    return found
