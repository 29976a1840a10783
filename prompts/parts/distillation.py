"""Soft labels of a teacher CLIP beside the hard ones, as RPP learns from both (arXiv 2409.06166). Details that the paper leaves
open are settings; docs/pretraining.md says which values are our choice.

Shapes: B images, K classes in use.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from prompts.engine.clip import FrozenCLIP
from prompts.parts.settings import Settings, check_at_least
from prompts.parts.teacher import Teacher, divergence, soft_cross_entropy


@dataclass(frozen=True)
class Distillation(Settings):
    """How a student learns from a teacher's probabilities.

    Args:
        weight: w of the soft labels. 0 needs no teacher.
        temperature: T of the softmax of both sets of logits.
        form: sum: CE + w T^2 KL; convex: (1-w) CE + w T^2 KL; mixed_target: cross-entropy with (1-w) hard + w soft labels.
        class_set: soft labels over the classes sampled for each image, or over all.
        local_correction: the local correction (`prompts.parts.local_contrast`) in both distributions of the soft labels, too.
        teacher: builds the teacher, a CLIP of any size; null: hard labels alone.

    Raises:
        ValueError: a temperature or weight out of range; mixed_target with all classes, as it mixes labels over one class set.
    """

    node = "distillation"

    weight: float = 1.0
    temperature: float = 1.0
    form: Literal["sum", "convex", "mixed_target"] = "sum"
    class_set: Literal["sampled", "all"] = "sampled"
    local_correction: bool = False
    teacher: Callable[[], FrozenCLIP] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_at_least(0, **{f"{self.node}.weight": self.weight})
        if self.temperature <= 0:
            raise ValueError(f"method.{self.node}.temperature={self.temperature}: give a number above 0.")
        if self.form != "sum" and self.weight > 1:
            raise ValueError(
                f"method.{self.node}.weight={self.weight} is a share of the labels with form={self.form}: give at most 1."
            )
        if self.form == "mixed_target" and self.class_set == "all":
            raise ValueError(
                f"method.{self.node}.form=mixed_target mixes labels over one class set: leave {self.node}.class_set=sampled."
            )

    def make_teacher(self) -> Teacher | None:
        """The teacher, whose CLIP is built when it is first needed; None where there are hard labels alone."""
        return Teacher(make=self.teacher) if self.teacher and self.weight else None

    def losses(self, ce: Tensor, hard: Tensor, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """The weighted terms {"ce": (B,), "kd": (B,)}.

        Args:
            ce: (B,) cross-entropy of the hard labels, computed from the logits `hard` (B,K).
            student, teacher: (B,K) logits of the soft labels' classes, -inf where an image is not classified against a class.
        """
        if self.form == "mixed_target":
            soft = soft_cross_entropy(hard, (teacher / self.temperature).softmax(-1))
        else:
            soft = self.temperature**2 * divergence(student, teacher, self.temperature)
        hard_weight = 1.0 if self.form == "sum" else 1 - self.weight
        return {"ce": hard_weight * ce, "kd": self.weight * soft}
