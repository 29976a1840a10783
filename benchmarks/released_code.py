"""The released code of CoOp, CoCoOp and MaPLe in a folder on this disk, with the weights of a CLIP and a learner of ours.

Nothing of it is part of this project. It is imported from the folder that the user names, and so runs with the user's rights.
Its trainers import Dassl, of which only names are needed: stub modules replace it.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

from torch import nn

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP
from prompts.learner import PromptLearner
from prompts.maple import MaPLe

OF_DASSL = {
    "dassl": (),
    "dassl.engine": ("TRAINER_REGISTRY", "TrainerX"),
    "dassl.metrics": ("compute_accuracy",),
    "dassl.utils": ("load_pretrained_weights", "load_checkpoint"),
    "dassl.optim": ("build_optimizer", "build_lr_scheduler"),
}
TRAINERS = {CoOp: "coop", CoCoOp: "cocoop", MaPLe: "maple"}


class Registry:
    """Stands in for Dassl's register of trainers."""

    def register(self):
        """Leaves the class as it is."""
        return lambda trainer: trainer


def stand_ins() -> dict[str, ModuleType]:
    """Modules with the names that the trainers import, without what these do."""
    modules = {name: ModuleType(name) for name in OF_DASSL}
    for name, contents in OF_DASSL.items():
        for content in contents:
            setattr(modules[name], content, Registry() if content == "TRAINER_REGISTRY" else object)
    return modules


@contextlib.contextmanager
def importing_from(root: Path) -> Iterator[None]:
    """A block in which the modules `clip` and `trainers` are those of this folder. They are removed after it, as another folder
    has its own."""
    held = dict(sys.modules)

    def ours(name: str) -> bool:
        return name.split(".")[0] in ("clip", "trainers", "dassl")

    for name in filter(ours, held):
        del sys.modules[name]
    sys.modules |= stand_ins()
    sys.path.insert(0, str(root))
    try:
        yield
    finally:
        sys.path.remove(str(root))
        for name in list(filter(ours, sys.modules)):
            del sys.modules[name]
        sys.modules |= {name: module for name, module in held.items() if ours(name)}


def settings(learner: PromptLearner, size: int) -> SimpleNamespace:
    """The part of the released configuration that its models read."""
    words = {"N_CTX": len(learner.ctx), "CTX_INIT": learner.init or "", "PREC": "fp32"}  # type: ignore[arg-type]
    coop = SimpleNamespace(**words, CSC=False, CLASS_TOKEN_POSITION="end")
    depth = len(learner.compound_prompts_text) + 1 if isinstance(learner, MaPLe) else 1
    maple = SimpleNamespace(**words, PROMPT_DEPTH=depth)
    trainers = SimpleNamespace(COOP=coop, COCOOP=SimpleNamespace(**words), MAPLE=maple)
    return SimpleNamespace(TRAINER=trainers, INPUT=SimpleNamespace(SIZE=(size, size)))


def released_model(root: Path, clip: FrozenCLIP, learner: PromptLearner, names: list[str]) -> nn.Module:
    """The released model of this learner's method, float32, with the same weights: pixels (B,3,S,S) -> logits (B,C).

    Raises:
        ValueError: the folder lacks the released code of this method, or that code has other tensors.
    """
    trainer = TRAINERS[type(learner)]
    if not (root / "trainers" / f"{trainer}.py").is_file():
        raise ValueError(f"{root} has no trainers/{trainer}.py: give the folder of the released repository.")
    state = {name.removeprefix("model."): t for name, t in clip.state_dict().items() if name.startswith("model.")}
    with importing_from(root), contextlib.redirect_stdout(io.StringIO()):
        code = importlib.import_module(f"trainers.{trainer}")
        design = {"trainer": "MaPLe", "vision_depth": 0, "language_depth": 0, "vision_ctx": 0, "language_ctx": 0}
        more = [design | {"maple_length": len(learner.ctx)}] if isinstance(learner, MaPLe) else []
        towers = code.clip.build_model(dict(state), *more).float()
        towers.load_state_dict(state, strict=False)  # again, as the builder rounds them to half precision
        model = code.CustomCLIP(settings(learner, clip.image_spec["size"]), names, towers).float()
    wrong = model.prompt_learner.load_state_dict(learner.state_dict(), strict=False)
    if lacking := [name for name in wrong.missing_keys if "token_" not in name] + wrong.unexpected_keys:
        raise ValueError(f"the model of {root}/trainers/{trainer}.py has other tensors than ours: {', '.join(lacking)}.")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("prompt_learner."))
    return model.eval().to(clip.device)
