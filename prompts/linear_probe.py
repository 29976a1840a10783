"""Linear probe on CLIP's image features (Radford et al. 2021, section 3.2, few-shot as in CoOp's repository).

Shapes: N images, B images of a batch, C classes, d feature width.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.learner import GradientFree, TrainInfo
from prompts.prompted_clip import PromptedCLIP

GRID = (1e6, 1e4, 1e2, 1.0, 1e-2, 1e-4, 1e-6)  # inverse regularisation C, coarse search
STEPS = 8  # bisection steps around the best of the grid
UNSEEN = -1e4  # logit of a class without a training image


def best_regularisation(fit: Callable[[float], tuple[float, Any]]) -> Any:
    """The published search: the grid's best C (the first of equals), then bisection of [C/10, 10C] in log10 towards the better
    end (the left of equals). `fit` maps C to (validation accuracy, model); returns the model of the last better end."""
    peak = max(GRID, key=lambda c: fit(c)[0])
    left, right = np.log10(peak) - 1, np.log10(peak) + 1
    for _ in range(STEPS):
        (accuracy_left, model_left), (accuracy_right, model_right) = fit(10**left), fit(10**right)
        middle = (left + right) / 2
        if accuracy_left < accuracy_right:
            left, model = middle, model_right
        else:
            right, model = middle, model_left
    return model


class LinearProbe(GradientFree):
    """L2-regularised logistic regression (scikit-learn, lbfgs) on raw features; C is chosen on the validation images."""

    class_specific = True
    chooses = True

    def __init__(self, max_iter: int = 1000):
        super().__init__()
        if max_iter < 1:
            raise ValueError(f"method.max_iter={max_iter}: give a number of iterations, 1 or more.")
        self.max_iter = max_iter

    def setup(self, clip: FrozenCLIP, info: TrainInfo) -> None:
        """Makes the weights (C,d) and the biases (C,)."""
        self.weight = nn.Parameter(torch.zeros(len(info.classnames), clip.embed_dim), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(len(info.classnames)), requires_grad=False)

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Nothing to do: there is no text."""

    def encode_text(self, clip: FrozenCLIP, image: Tensor, classes: Tensor | None = None) -> None:
        """None: there is no text."""

    def logits(self, clip: FrozenCLIP, image: Tensor, text: Tensor | None) -> Tensor:
        """(B,C): the logits of the regression, of un-normalised features."""
        with torch.autocast(image.device.type, enabled=False):
            return image.float() @ self.weight.T + self.bias

    def fit(self, model: PromptedCLIP, train: tuple[Tensor, Tensor], val: tuple[Tensor, Tensor], seed: int) -> None:
        """Fits for every C that the search tries, and keeps the last. ValueError without validation images."""
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        (x, y), (x_val, y_val) = ((f.float().cpu().numpy(), t.cpu().numpy()) for f, t in (train, val))
        if not len(y_val):
            raise ValueError(
                "the linear probe chooses its regularisation on validation images, and this dataset has none: give it a val "
                "split, or fewer shots, so that training images are left to hold out."
            )

        def fit_one(c: float) -> tuple[float, LogisticRegression]:
            probe = LogisticRegression(C=c, max_iter=self.max_iter, random_state=seed).fit(x, y)
            return float((probe.predict(x_val) == y_val).mean()), probe

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # the protocol stops at max_iter, converged or not
            warnings.filterwarnings("ignore", "The number of unique classes")  # with one shot per class that is intended
            probe = best_regularisation(fit_one)
        coef, bias = torch.from_numpy(probe.coef_), torch.from_numpy(probe.intercept_)
        if len(probe.classes_) == 2:  # scikit-learn keeps one row for two classes
            coef, bias = torch.cat([-coef / 2, coef / 2]), torch.cat([-bias / 2, bias / 2])
        self.weight.zero_()[probe.classes_] = coef.to(self.weight)
        self.bias.fill_(UNSEEN)[probe.classes_] = bias.to(self.bias)
