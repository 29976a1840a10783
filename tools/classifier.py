"""A finished run as a classifier of any images and class names, in Python:

    from tools.classifier import load
    classifier = load("outputs/few_shot/eurosat/vit_b16/coop/shots16-1a2b3c4d/seed1")
    classifier.top([PIL.Image.open("field.jpg")], ["a forest", "a lake", "a field"])

Shapes: N images, C classes, d width of the shared embedding, S image size in pixels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL.Image
import torch
import yaml
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from datamodules.transforms import eval_transform
from files.dassl import checkpoint_of
from files.hub import fetched
from lightning_modules.assembly import Assembly
from lightning_modules.checkpoints import PROMPTS, read_prompts
from prompts.prompted_clip import PromptedCLIP
from runs.jobs import NAMED, RESULT, compose_job
from runs.result import load_result
from runs.stored import check_names, node_of, take_over, take_over_method
from tools.convert import refusal

CONF = Path(__file__).parents[1] / "conf"
# keys of tasks and data for the transform of test images
SEEN = ("window", "stride", "ratios", "flip", "scale", "shorter", "longer")
USED = ("clip", "lm", "data", "task", "method", "data_root", "other_clip", "threads")  # that can be set for a finished run
SAID = ("name", "templates")  # keys of data that the texts of methods follow


def device_for(given: str | torch.device | None) -> torch.device:
    """Where a model runs; None: the GPU where there is one. ValueError for what is no device, or none of this machine."""
    try:
        device = torch.device(given or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).cpu()
    except (RuntimeError, AssertionError) as error:  # of torch, by the kind of device
        raise ValueError(f"--device {given}: there is no such device here; give cpu, or cuda where there is a GPU.") from error
    return device


class Classifier:
    """A frozen CLIP with learned prompts, in eval mode and without gradients.

    Args:
        model: with its learner set up.
        device: where it runs; None: the GPU where there is one.

    Raises:
        ValueError: the method gives no class logits, as a prefix for a language model.
    """

    def __init__(self, model: PromptedCLIP, device: str | torch.device | None = None) -> None:
        if "class logits" not in model.learner.offers:
            raise ValueError(
                f"{type(model.learner).__name__} gives no class logits, so it cannot classify: name a run of another method."
            )
        self.device = device_for(device)
        self.model = model.eval().requires_grad_(False).to(self.device)
        self.transform = eval_transform(**model.clip.image_spec)

    @property
    def classnames(self) -> list[str]:
        """The classes of calls that name no others: at first those of the training."""
        return list(self.model.classnames)

    @torch.no_grad()
    def probabilities(
        self, images: Sequence[PIL.Image.Image], classnames: Sequence[str] | None = None, batch_size: int = 64
    ) -> Tensor:
        """(N,C) float32 on the CPU: the softmax over the class names, in their order.

        Args:
            classnames: other classes than the bound ones; they stay bound.

        Raises:
            ValueError: no class names, one that is empty or too long, or a method that serves its own classes alone.
        """
        self.bind(classnames)
        parts = [self.model(pixels).logits.float().softmax(-1).cpu() for pixels in self._batches(images, batch_size)]
        return torch.cat(parts) if parts else torch.zeros(0, len(self.classnames))

    def top(
        self, images: Sequence[PIL.Image.Image], classnames: Sequence[str] | None = None, k: int = 5
    ) -> list[list[tuple[str, float]]]:
        """For each image the `k` most probable classes, with their probabilities. ValueError as from `probabilities`."""
        best = self.probabilities(images, classnames).topk(min(k, len(self.classnames)))
        names = self.classnames
        rows = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        return [[(names[at], value) for at, value in zip(*row, strict=True)] for row in rows]

    @torch.no_grad()
    def image_features(self, images: Sequence[PIL.Image.Image], batch_size: int = 64) -> Tensor:
        """(N,d) float32 on the CPU, un-normalised: with the method's prompts in the image tower, where it has some."""
        prompts, clip = self.model.learner.image_prompts(), self.model.clip
        parts = [clip.encode_image(pixels, prompts).float().cpu() for pixels in self._batches(images, batch_size)]
        return torch.cat(parts) if parts else torch.zeros(0, clip.embed_dim)

    @torch.no_grad()
    def text_features(self, classnames: Sequence[str] | None = None) -> Tensor:
        """(C,d) float32 on the CPU, un-normalised. ValueError where a class's text depends on the image, or as from
        `probabilities`."""
        self.bind(classnames)
        if self.model.text_depends_on() == "image":
            raise ValueError(
                f"{type(self.model.learner).__name__} makes the text of a class anew for each image, so a class has no "
                "features of its own: use probabilities."
            )
        return self.model.text_features(torch.zeros(1, self.model.clip.embed_dim, device=self.device)).float().cpu()

    def bind(self, classnames: Sequence[str] | None) -> None:
        """Sets the class list; None keeps the bound one."""
        if classnames is None:
            return
        wrong = isinstance(classnames, str) or not classnames
        if wrong or not all(isinstance(name, str) and name.strip() for name in classnames):
            raise ValueError(f"classnames={classnames!r:.80}: give a list of class names, none of them empty.")
        self.model.bind(list(classnames))

    def pixels(self, image: PIL.Image.Image) -> Tensor:
        """The image as the CLIP's input, uint8 (3,S,S)."""
        return self.transform.pixels(image)

    def _batches(self, images: Sequence[PIL.Image.Image], size: int) -> Iterator[Tensor]:
        for start in range(0, len(images), size):
            yield torch.stack([self.pixels(image) for image in images[start : start + size]]).to(self.device)


def prompts_file(run: str | Path) -> Path:
    """The prompts of a run's folder or on the hub, or the file itself. ValueError where there is none."""
    run = checkpoint_of(fetched(str(run)))
    path = Path(run) / PROMPTS if Path(run).is_dir() else Path(run)
    if path.is_file() and path.suffix != ".safetensors":
        raise ValueError(refusal(path))
    if not path.is_file() and path.with_name(RESULT).is_file():
        raise ValueError(
            f"{run} is an evaluation and holds no prompts: give the prompts that it evaluated; of a released checkpoint run it "
            "again by force=true, which keeps them."
        )
    if not path.is_file():
        raise ValueError(f"there are no prompts at {run}: give the folder of a finished run, or its {PROMPTS}.")
    return path


def opened(run: str | Path, overrides: Sequence[str] = (), config_dir: str | Path | None = None) -> Assembly:
    """The parts of a finished run's folder, of a prompts.safetensors of this project, or of shared ones
    ("hf-hub:ORGANISATION/NAME"), with the saved prompts. Reads no images.

    Args:
        overrides: "key=value" for keys of the config that differ on this machine, such as clip.weights.
        config_dir: a folder of more configs, as run.py's --config-dir.

    Raises:
        ValueError: there are no such prompts, they belong to another CLIP, or name a method that is not here; no folder
            `config_dir`; an override that contradicts the prompts or changes nothing.
    """
    if config_dir and not Path(config_dir).is_dir():
        raise ValueError(f"--config-dir {config_dir}: there is no such folder.")
    path = prompts_file(run)
    about = read_prompts(path).about
    if lacking := [group for group in NAMED if group not in about]:
        raise ValueError(f"{path} does not say its {lacking[0]}: give the {PROMPTS} of a finished run.")
    names = {group: about[group] for group in NAMED}
    check_names(names, [CONF, *([Path(config_dir)] if config_dir else [])], path)
    search = [f"hydra.searchpath=[file://{Path(config_dir).resolve()}]"] if config_dir else []
    cfg, _ = compose_job([*search, *(f"{group}={name}" for group, name in names.items())], CONF)
    if (result := path.with_name(RESULT)).is_file():
        take_over(cfg, _of_tests(load_result(result).get("config", {})), str(result))
    take_over_method(cfg, about["settings"], str(path))
    _override(cfg, overrides)
    if "trainable" in cfg.clip:
        cfg.clip.trainable = None  # the CLIP's trained tensors are loaded from the prompts file
    cfg.fit, cfg.ckpt = False, str(path)
    return Assembly(cfg, names)


def _override(cfg: DictConfig, overrides: Sequence[str]) -> None:
    """Sets keys to what the user says of them. ValueError where that would contradict the prompts, or change nothing."""
    for text in overrides:
        key, equals, _ = text.partition("=")
        group, dot, rest = key.partition(".")
        if not equals or not key:
            raise ValueError(f"--set {text}: give KEY=VALUE, such as clip.weights=PATH.")
        if group not in USED:
            raise ValueError(f"--set {text}: {group} has no effect here; keys of {', '.join(USED)} have one.")
        if not dot and OmegaConf.is_config(cfg[group]):
            raise ValueError(f"--set {text}: which {group} it is stands in the prompts; set its keys, {group}.KEY=VALUE.")
        setting = rest.partition(".")[0]
        if group == "method" and setting in cfg.method and not OmegaConf.is_dict(node_of(cfg.method, setting)):
            raise ValueError(f"--set {text}: the method's settings are those that the prompts were trained with; leave it out.")
        try:
            cfg.merge_with_dotlist([text])
        except (yaml.YAMLError, TypeError, ValueError) as error:
            raise ValueError(f"--set {text}: {' '.join(str(error).split())}; give KEY=VALUE.") from error


def _of_tests(stored: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stored config that concern the CLIP, such as the file of its weights, the texts, and the transform of
    test images."""
    module = (stored.get("task") or {}).get("module")
    data = stored["data"] if isinstance(stored.get("data"), dict) else {}
    kept = {
        "task": {"module": {key: module[key] for key in SEEN if key in module} if isinstance(module, dict) else {}},
        "data": {key: data[key] for key in (*SEEN, *SAID) if key in data},
    }
    return kept | ({"clip": stored["clip"]} if "clip" in stored else {})


def load(
    run: str | Path,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
    device: str | torch.device | None = None,
) -> Classifier:
    """The classifier of a finished run, as `opened` takes and refuses it."""
    return Classifier(opened(run, overrides, config_dir).model, device)
