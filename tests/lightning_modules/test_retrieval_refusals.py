"""What the task refuses, each in one sentence."""

from dataclasses import replace

import pytest
import torch
from captioned_toys import CaptionedToys, with_captions
from small_retrievals import evaluated, fit, parts
from small_runs import trainer
from toys import Toy

from prompts.coop import CoOp
from prompts.pomp import POMP


class Bare(CaptionedToys):
    def splits(self, seed):
        splits = super().splits(seed)
        return replace(splits, **{self.where: [with_captions(item, ()) for item in getattr(splits, self.where)]})


def test_images_without_captions():
    bare = Bare()
    bare.where = "test"
    with pytest.raises(ValueError, match=r"the image test/0.png has no captions, and retrieval needs at least one"):
        evaluated(source=bare)


@pytest.mark.parametrize(
    ("learner", "message"),
    [
        (lambda: CoOp(2, class_context=True), "CoOp keeps something for each class of its training set"),
        (lambda: POMP(2, local_contrast={"num_sampled_classes": 3}), "POMP samples classes, .*num_sampled_classes=null"),
    ],
)
def test_learners_that_cannot(learner, message):
    with pytest.raises(ValueError, match=message):
        fit(learner())


def test_micro_batches_are_refused():
    data, model, module = parts()
    with pytest.raises(ValueError, match="accumulate=2: an image is compared with the captions of its own micro-batch"):
        trainer(accumulate_grad_batches=2).fit(module)


class Broken(Toy):
    def logits(self, clip, image, text):
        logits = super().logits(clip, image, text)
        return logits if self.training else logits.masked_fill(torch.arange(len(logits))[:, None] == 3, float("nan"))


def test_logits_that_are_not_finite():
    with pytest.raises(ValueError, match="evaluation toys: the logits of image 3 are not finite"):
        evaluated(Broken())
