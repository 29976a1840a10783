"""Prompt lengths that a search found, in other deep methods."""

import pytest
import torch
from dpl_models import LENGTHS, ZEROS, both, logits
from test_methods import batch, model_of

from prompts.dpl import DPL
from prompts.ivlp import IVLP
from prompts.maple import MaPLe
from prompts.promptsrc import PromptSRC


def test_lengths_of_another_backbone_are_refused(small_clip):
    for method in (DPL, IVLP, MaPLe):
        with pytest.raises(ValueError, match="names 12 blocks of the text tower, and this CLIP's has 3"):
            model_of(small_clip, method(prompt_lengths={"text": [2] * 12, "image": [2] * 12}))


@pytest.mark.parametrize("method", [IVLP, PromptSRC])
@pytest.mark.parametrize(
    "lengths",
    [
        LENGTHS,
        {"text": [2, 2, 0], "image": [3, 0, 0]},
        {"text": [0, 0, 2], "image": [1, 0, 2]},
        {"text": [6, 1, 4], "image": [5, 5, 1]},
    ],
)
def test_found_lengths_shape_deep_prompts(small_clip, method, lengths):
    model = model_of(small_clip, method(prompt_lengths=lengths))
    shapes = {name: tuple(p.shape) for name, p in model.learner.named_parameters()}
    assert shapes == {
        f"{tower}_ctx.{i}": (n, width)
        for tower, width in (("text", 64), ("image", 96))
        for i, n in enumerate(lengths[tower])
        if n
    }
    text, image = both(model.learner)
    for prompts, tower in ((text, "text"), (image, "image")):
        counts, here = [], 0
        for i in range(3):
            rows = prompts.inputs if not i else prompts.rows.get(i)
            here = here if rows is None else rows.count
            counts.append(here)
        assert counts == lengths[tower]  # what stands in the slots of each block
    images, labels = batch()
    sum(part.mean() for part in model.losses(model(images), labels, torch.arange(8)).values()).backward()
    assert all(p.grad.abs().sum() > 0 for p in model.learner.parameters())
    assert model.learner.found_settings == {"prompt_lengths": lengths}


def test_equal_lengths_are_the_uniform_method(small_clip):
    lengths = {"text": [2, 2, 2], "image": [2, 2, 2]}
    for uniform, shaped in (
        (IVLP(2, 2, 3, 3), IVLP(prompt_lengths=lengths)),
        (MaPLe(2, 3), MaPLe(prompt_lengths=lengths)),
    ):
        assert torch.equal(logits(model_of(small_clip, uniform)), logits(model_of(small_clip, shaped)))


def test_maple_takes_the_text_lengths(small_clip):
    model = model_of(small_clip, MaPLe(prompt_lengths={"text": [2, 0, 3], "image": [0, 0, 0]}))
    assert [tuple(p.shape) for p in model.learner.compound_prompts_text] == [(3, 64)]
    for prompts, width in zip(both(model.learner), (64, 96), strict=True):
        assert tuple(prompts.inputs.q.shape) == (2, width)
        assert {i: tuple(rows.q.shape) for i, rows in prompts.rows.items()} == {1: (0, width), 2: (3, width)}
    with pytest.raises(ValueError, match="0 in the first text block: use ivlp"):
        MaPLe(prompt_lengths={"text": [0, 2, 3], "image": [0, 0, 0]})
    with pytest.raises(ValueError, match="learns nothing"):
        IVLP(prompt_lengths=ZEROS)
