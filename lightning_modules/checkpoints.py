"""Saved prompts: `prompts.safetensors` of this project, and published checkpoints of other authors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from files.untrusted import parse_json, regular_file
from files.whole import write_bytes
from prompts.engine.clip import FrozenCLIP
from prompts.engine.language_model import FrozenLM
from prompts.engine.trainable import PREFIX
from prompts.parts.published import learned_tensors, read_published, settings_for
from prompts.parts.transfer import start_from
from prompts.prompted_clip import PromptedCLIP
from runs.stored import checked_about, method_settings

PROMPTS, BEST = "prompts.safetensors", "best.safetensors"
ABOUT = "about"  # the only entry of a prompts file's metadata, json
LANGUAGE_MODEL = "language_model"  # its key with the identity of the language model that the prompts were trained for
RELEASED = "released"  # its key, true where they come from a checkpoint of other authors, which does not say its classes
TRAINED = "trained_clip"  # its key with the number of trained CLIP tensors, which are then in the file too


def save_prompts(path: Path, model: PromptedCLIP, about: dict[str, Any]) -> None:
    """Writes the learner's prompts, atomically.

    Args:
        about: metadata that json can hold; class names, the CLIP's identity (of its weights as they were loaded), that of the
            language model where there is one and, where a part of the CLIP was trained, `TRAINED` are added.
    """
    tensors, own_classes = model.prompt_state()
    about = {"classnames": model.classnames, "own_classes": own_classes, "backbone": model.clip.identity, **about}
    if model.language_model is not None:
        about[LANGUAGE_MODEL] = model.language_model.identity
    # one entry, as safetensors writes several in no fixed order: equal prompts are equal files
    if trained := model.clip_state():
        tensors |= trained
        about[TRAINED] = _count(trained)
    content = save({name: tensor.contiguous() for name, tensor in tensors.items()}, {ABOUT: json.dumps(about)})
    write_bytes(path, content)


@dataclass(frozen=True)
class SavedPrompts:
    """A prompts file: its tensors by name, and its metadata. A published checkpoint (of other authors) has no metadata."""

    tensors: dict[str, Tensor]
    about: dict[str, Any]
    published: bool = False
    path: Path | None = None

    def classnames(self, here: list[str]) -> list[str]:
        """The classes trained on or, where the file does not list them, `here`, the classes of the current dataset."""
        return here if self.published else self.about["classnames"]

    def into(self, model: PromptedCLIP) -> None:
        """Loads the prompts into a model. ValueError where the tensors do not fit it."""
        if self.published:
            tensors = learned_tensors(self.tensors, model.learner.published_names)
            own_classes = model.classnames if model.learner.class_specific else None
        else:
            tensors, own_classes = self.prompts, self.about["own_classes"]
        model.load_prompt_state(tensors, own_classes)
        model.load_clip_state(self.of_clip)

    @property
    def prompts(self) -> dict[str, Tensor]:
        """The learner's tensors by name."""
        return {name: tensor for name, tensor in self.tensors.items() if name not in self.of_clip}

    @property
    def of_clip(self) -> dict[str, Tensor]:
        """The CLIP's trained tensors by name; empty where the metadata says that there are none."""
        return {n: t for n, t in self.tensors.items() if n.startswith(PREFIX) and TRAINED in self.about}

    def settings(self, method: DictConfig) -> dict[str, Any]:
        """The method's settings at training time, as arguments for its constructor.

        Without those that follow the data (interpolations in `method`, the method's config now). ValueError where one is not
        of its key's type.
        """
        return method_settings(method, self.about["settings"], "the settings of the saved prompts")


def read_prompts(path: Path) -> SavedPrompts:
    """Reads a prompts file, which anyone may have made. ValueError where it is damaged or another kind of file."""
    regular_file(path, "the prompts file")
    try:
        with safe_open(path, framework="pt") as file:
            stored = (file.metadata() or {}).get(ABOUT, "{}")
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 - not a mapping
        about = parse_json(stored, f"what {path} says about itself")
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(f"{path} is no prompts file of this suite, or it is damaged: {str(error).rstrip('.')}.") from error
    if not isinstance(about, dict) or not {"classnames", "own_classes"} <= set(about):
        raise ValueError(f"{path} is no prompts file of this suite: it does not say what it was trained on.")
    if odd := next((name for name, tensor in tensors.items() if not tensor.is_floating_point()), None):
        raise ValueError(
            f"{path} is no prompts file of this suite: its tensor {odd[:80]!r} is {tensors[odd].dtype}, not floating."
        )
    saved = SavedPrompts(tensors, checked_about(about, path), path=path)
    if TRAINED in about and about[TRAINED] != _count(saved.of_clip):
        raise ValueError(f"{path} is no prompts file of this suite: its {TRAINED} does not count what it holds of a CLIP.")
    return saved


def _count(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {"tensors": len(tensors), "numbers": sum(tensor.numel() for tensor in tensors.values())}


def prompts_of(ckpt: str | None, names: Mapping[str, str]) -> SavedPrompts:
    """The prompts that `ckpt` names, to be evaluated.

    The shapes of a published checkpoint tell the method's lengths. That the CLIP is the same `check_backbone` checks.

    Raises:
        ValueError: no path, no such file, or prompts of another method than this run's.
    """
    if not ckpt:
        raise ValueError(f"fit=false evaluates saved prompts: name them with ckpt=PATH (a {PROMPTS} or its folder).")
    saved = _read("ckpt", ckpt)
    if saved.published:
        saved.about["settings"] = settings_for(names["method"], saved.tensors, Path(ckpt))
    method = _name(saved.about.get("method"))
    if not saved.published and method == "?":
        raise ValueError(f"{saved.path} does not say which method it was trained with: give the {PROMPTS} of a finished run.")
    if not saved.published and method != names["method"]:
        raise ValueError(
            f"{saved.path} was trained with method={method}, this run has method={names['method']}: add method={method}."
        )
    return saved


def begin_from(path: str | None, clip_name: str, model: PromptedCLIP, other_clip: bool) -> str:
    """Copies saved prompts, of any method, into the model's prompts as far as they fit.

    Returns:
        A line that names the tensors that were copied and those that were not; "" without a path.

    Raises:
        ValueError: the prompts belong to another CLIP or another language model, or none of them fits.
    """
    if not path:
        return ""
    saved = _read("init_from", path)
    check_backbone(saved, model.clip, clip_name, other_clip)
    if model.language_model is not None and LANGUAGE_MODEL in saved.about:
        check_language_model(saved, model.language_model)
    if not saved.tensors and not model.prompt_state()[0]:  # a later stage of a method that learns nothing
        return ""
    published = model.learner.published_names
    taken = start_from(model, learned_tensors(saved.tensors, published) if saved.published else saved.prompts)
    model.load_clip_state(saved.of_clip)
    taken += sorted(saved.of_clip)
    rest = sorted(set(model.prompt_state()[0]) - set(taken))
    return f"prompts from {path}: {', '.join(taken)}" + (f"; as configured: {', '.join(rest)}" if rest else "")


def _read(key: str, given: str) -> SavedPrompts:
    """Reads the file that a key names: a prompts file, its folder, or a published checkpoint (model.pth.tar-N)."""
    path = Path(given) / PROMPTS if Path(given).is_dir() else Path(given)
    if not path.is_file():
        raise ValueError(f"{key}={given}: there is no {path}. Give a {PROMPTS} or the folder of a finished run.")
    if path.suffix != ".safetensors":
        return SavedPrompts(read_published(path), {"own_classes": None, "classnames": None, "settings": {}}, published=True)
    return read_prompts(path)


def check_backbone(saved: SavedPrompts, clip: FrozenCLIP, clip_name: str, other_clip: bool) -> None:
    """ValueError where the prompts were trained on another CLIP, or do not say on which. `other_clip` allows both, except for
    prompts whose file also holds trained tensors of that CLIP.

    CLIPs are compared by their identity, not by the name of their config: the same CLIP may come from the hub or from a file.
    Published checkpoints do not say their CLIP and pass.
    """
    if saved.published or (other_clip and not saved.of_clip):
        return
    there, here, name = saved.about.get("backbone"), clip.identity, _name(saved.about.get("clip"))
    hint = f"add clip={name}" if name not in (clip_name, "?") else "give that CLIP"
    if saved.of_clip:
        hint += ", as the tensors of it that were trained fit no other"
    else:
        hint += ", or other_clip=true to use it all the same"
    if not isinstance(there, dict):
        raise ValueError(
            f"{saved.path} does not say on which CLIP it was trained, as files made by earlier versions do not: {hint}."
        )
    own = dict(here)
    differ = [key for key in own if there.get(key) != own[key]]
    if differ:
        what = "; ".join(f"{key} {str(there.get(key))[:120]!r} there and {own[key]!r} here" for key in differ)
        raise ValueError(f"{saved.path} was trained on another CLIP ({what}): {hint}.")


def check_language_model(saved: SavedPrompts, model: FrozenLM) -> None:
    """ValueError where the prompts were trained for another language model, or do not say for which: a prefix only works with
    the language model that it was trained with."""
    there, here = saved.about.get(LANGUAGE_MODEL), model.identity
    there = there if isinstance(there, dict) else {}
    if differ := [key for key in here if there.get(key) != here[key]]:
        what = "; ".join(f"{key} {str(there.get(key))[:120]!r} there and {here[key]!r} here" for key in differ)
        raise ValueError(f"{saved.path} was trained for another language model ({what}): give that one by lm=NAME.")


def _name(value: Any) -> str:
    """A value from a file, if it can be the name of a group's option; else "?"."""
    return value if isinstance(value, str) and re.fullmatch(r"[\w.-]{1,80}", value) else "?"
