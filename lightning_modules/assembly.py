"""Builds the parts of a run from its config: the only place where clip, learner, data, evaluations and module are put together.

`run.py` and everything that reopens a finished run use it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from lightning.pytorch import Callback, Trainer
from omegaconf import DictConfig, OmegaConf

from datamodules.evaluation import Evaluation
from lightning_modules import process
from lightning_modules.callbacks import make_callbacks
from lightning_modules.checkpoints import SavedPrompts, begin_from, check_backbone, check_language_model, prompts_of
from lightning_modules.features import ImageFeatures
from lightning_modules.loggers import make_loggers
from lightning_modules.task import TaskModule
from lightning_modules.trainer import make_trainer
from prompts.engine.clip import FrozenCLIP
from prompts.engine.language_model import FrozenLM
from prompts.engine.text_plan import Caption
from prompts.learner import PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP
from runs.arguments import import_target, make
from runs.jobs import Job
from runs.protocol import Protocol, protocol_of

# the attributes that a run reads from a dataset
OF_DATA = (
    "offers", "classnames", "train_items", "alternating_batch_size", "train_loader", "evaluation", "selection", "bad_images",
)  # fmt: skip


OF_CLASSES = ("labelled images", "label maps", "boxes of objects")  # offers of data whose `classnames` are names of classes
PREFIX = "a prefix for a language model"  # among the `offers` of a method that makes one


class Assembly:
    """The parts of a run, each made when it is first used: a tool that needs only the prompts reads no images.

    Args:
        cfg: a composed config (`runs.jobs.compose_job`); with fit=false `ckpt` names the prompts that are evaluated.
        names: the option chosen in each group.
        shared: another assembly of the same clip and data, which need not be made again.

    Raises:
        ValueError: a part cannot be made, is missing, or does not fit the others.
    """

    def __init__(self, cfg: DictConfig, names: dict[str, str], shared: Assembly | None = None) -> None:
        self.cfg, self.names, self.shared = cfg, names, shared
        self._evaluations: dict[str, Evaluation] = {}
        self.start = ""  # which saved prompts training starts from, for the screen

    @cached_property
    def protocol(self) -> Protocol:
        """Which classes train and which are evaluated."""
        return protocol_of(OmegaConf.to_container(self.cfg.protocol, resolve=True))

    @cached_property
    def saved(self) -> SavedPrompts | None:
        """The prompts to evaluate; None where the run trains, or its method has none to load."""
        return None if self.cfg.fit else prompts_of(self.cfg.ckpt, self.names)

    @property
    def of_released(self) -> bool:
        """Whether the prompts to evaluate are a checkpoint of other authors."""
        return self.saved is not None and self.saved.published

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The method's settings that saved prompts were trained with. They go to the constructor as plain values; Hydra only
        instantiates nodes from this project's yaml files."""
        return self.saved.settings(self.cfg.method) if self.saved else {}

    @cached_property
    def learner(self) -> PromptLearner:
        """The method, without tensors."""
        if self.saved:
            return make(self.cfg.method, _partial_=True)(**self.settings)
        learner = make(self.cfg.method)
        if self.cfg.fit and learner.uses_gradients and self.cfg.recipes.missing:
            raise ValueError(self.cfg.recipes.missing)
        return learner

    @cached_property
    def clip(self) -> FrozenCLIP:
        """The backbone; the number of threads follows its size."""
        # a CLIP that was trained, or will get trained tensors of a file, cannot be shared between models
        saved = [parts.saved for parts in (self, self.shared) if parts and parts.saved]
        own = not self.shared or any(s.of_clip for s in saved) or self.shared.clip.changed or self.shared.clip.trained
        clip = make(self.cfg.clip) if own else self.shared.clip
        if self.saved:
            check_backbone(self.saved, clip, self.names["clip"], self.cfg.other_clip)
        process.set_threads(self.cfg.threads, clip)
        return clip

    @cached_property
    def language_model(self) -> FrozenLM | None:
        """The frozen language model; None where the method makes no prefix for one, or the config names none."""
        if not self.cfg.lm or PREFIX not in self.learner.offers:
            return None
        model = (self.shared and self.shared.language_model) or make(self.cfg.lm)
        if self.saved:
            check_language_model(self.saved, model)
        return model

    @cached_property
    def data(self) -> Any:
        """The dataset that is trained on, with its test images."""
        if self.shared:
            return self.shared.data
        data = make(self.cfg.data, image_spec=self.clip.image_spec)
        if lacking := [name for name in OF_DATA if not hasattr(data, name)]:
            raise ValueError(
                f"data._target_={self.cfg.data['_target_']} makes a {type(data).__name__}, which has no {lacking[0]}: name a "
                "class with what datamodules.module.FewShotData has."
            )
        return data

    @cached_property
    def model(self) -> PromptedCLIP:
        """The backbone with the learner's tensors: new, saved ones, or new ones that start from saved ones."""
        learner, clip = self.learner, self.clip
        images = len(self.data.train_items) if self.cfg.fit else 0
        classnames = self.saved.about["classnames"] if self.saved else None
        classnames = classnames or self.data.classnames  # a published checkpoint does not say its classes
        made_by = import_target(self.cfg.data["_target_"], "data._target_")  # its `offers` need no instance, which reads lists
        if not set(OF_CLASSES).intersection(getattr(made_by, "offers", OF_CLASSES)):
            # texts until a batch or an evaluation brings its own
            classnames = [Caption(text) for text in classnames]
        words = self.language_model
        model = PromptedCLIP(clip, learner, self.cfg.shard_classes, words)
        process.seed_everything(self.cfg.seed)
        alternating = bool(self.cfg.fit and self.data.alternating_batch_size)
        width = words.width if words else None
        model.setup(TrainInfo(classnames, images, self.cfg.fit, alternating, width, self.cfg.accumulate))
        if self.saved:
            self.saved.into(model)
        self.start = begin_from(self.cfg.init_from, self.names["clip"], model, self.cfg.other_clip)
        return model

    @cached_property
    def tests(self) -> list[Evaluation]:
        """What is evaluated at the end: parts of the dataset's own test images, then the other datasets."""
        subsets = self.protocol.evaluations(self.names["data"])
        return [self.evaluation(name) for name in (*subsets, *self.cfg.targets)]

    def evaluation(self, name: str) -> Evaluation:
        """The test evaluation of this name, made once. ValueError where the protocol has none of this name, or the data have
        no such images."""
        if name not in self._evaluations:
            subsets = self.protocol.evaluations(self.names["data"])
            if name in subsets:
                self._evaluations[name] = self.data.evaluation(name, "test", subsets[name])
            elif name in self.cfg.targets:
                data = make(self.cfg.targets[name], shots=-1, image_spec=self.clip.image_spec)
                self._evaluations[name] = data.evaluation(name, "test", "all")
            else:
                known = ", ".join([*subsets, *self.cfg.targets])
                raise ValueError(f"protocol={self.names['protocol']} has no evaluation {name!r}: it has {known}.")
        return self._evaluations[name]

    @cached_property
    def validations(self) -> list[Evaluation]:
        """What is evaluated during training: the images that the epoch is chosen on, and the test images, for curves."""
        chooses = self.cfg.fit and self.cfg.select == "best_val"
        best_val = [self.data.evaluation("val", "val", self.protocol.subset)] if chooses else []
        return best_val + (self.tests if self.cfg.eval_every else [])

    @cached_property
    def module(self) -> TaskModule:
        """The LightningModule of the task, with all evaluations of the run."""
        self.check_offers()
        return self._module(self.tests, self.validations)

    def _module(self, tests: list[Evaluation], validations: Sequence[Evaluation] = ()) -> TaskModule:
        cfg = self.cfg
        module = make(cfg.task.module)(self.model, self.data, make(cfg.optim), cfg.epochs, cfg.seed, tests, validations)
        module.features = self.features
        module.by_step = None if cfg.schedule == "cosine" else make(cfg[cfg.schedule])
        return module

    @cached_property
    def features(self) -> ImageFeatures:
        """The store of image features, and how many views of the training images are kept."""
        return make(self.cfg.features)

    def check_offers(self) -> None:
        """ValueError where neither the method nor the data offer what the task needs."""
        target = self.cfg.task.module["_target_"]
        task = import_target(target, "task.module._target_")
        if not (isinstance(task, type) and issubclass(task, TaskModule) and hasattr(task, "figure")):
            raise ValueError(
                f"task.module._target_={target} is no kind of task: name a subclass of lightning_modules.task.TaskModule that "
                "has a figure."
            )
        offered = (*self.learner.offers, *self.data.offers)
        for need in task.needs:
            if need not in offered:
                raise ValueError(
                    f"task={self.cfg.task.name} needs {need}, which neither method={self.names['method']} nor "
                    f"data={self.names['data']} offers: choose another method or dataset."
                )

    def tested(self, evaluation: str) -> TaskModule:
        """The module after a test on this evaluation alone, in this process; writes no file and prints nothing."""
        module = self._module([self.evaluation(evaluation)])
        trainer = make_trainer(1, "auto", logger=False, enable_progress_bar=False)
        trainer.test(module, verbose=False)
        return module

    def trainer(self, job: Job, callbacks: Sequence[Callback]) -> Trainer:
        """Lightning's trainer with the run's loggers and callbacks, `callbacks` after those of the config."""
        return make(
            self.cfg.trainer,
            logger=make_loggers(self.cfg.logger, job),
            callbacks=[*make_callbacks(self.cfg.callbacks, job.folder), *callbacks],
            check_val_every_n_epoch=self.cfg.eval_every or 1,
        )
