"""Images as uint8, normalised by the CLIP, against the float32 images of torchvision's transforms: the same bits."""

import numpy as np
import PIL.Image
import pytest
import torch
from torchvision import transforms as T
from toys import toy_clip

from datamodules.transforms import eval_transform, train_transform
from prompts.engine.clip import FrozenCLIP
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot

SPECS = [  # OpenAI's, SigLIP's, and numbers that float32 cannot hold
    ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    ((0.5,) * 3, (0.5,) * 3),
    ((0.1, 0.2, 0.3), (0.7, 0.11, 0.13)),
]


def every_value() -> PIL.Image.Image:
    """All 256 values in all three channels."""
    values = np.arange(256, dtype=np.uint8).reshape(16, 16)
    return PIL.Image.fromarray(np.stack([values, values[::-1], values.T], -1))


def clip_of(mean, std) -> FrozenCLIP:
    return FrozenCLIP(toy_clip().model, mean, std)


@pytest.mark.parametrize(("mean", "std"), SPECS)
def test_every_value_is_normalised_bit_for_bit(mean, std):
    expected = T.Compose([T.ToTensor(), T.Normalize(mean, std)])(every_value())
    pixels = torch.from_numpy(np.array(every_value())).permute(2, 0, 1)
    actual = clip_of(mean, std).normalised(torch.stack([pixels, pixels.flip(1)]))
    assert actual.dtype == torch.float32
    assert torch.equal(actual[0], expected)
    assert torch.equal(actual[1], expected.flip(1))


@pytest.mark.parametrize("make", [train_transform, eval_transform])
def test_a_transform_gives_the_same_image_in_both_forms(make):
    mean, std = SPECS[0]
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 70, 3)).astype(np.uint8))
    transform, clip = make(32, mean, std), clip_of(mean, std)
    for seed in range(8):
        torch.manual_seed(seed)
        floats = transform(image)
        torch.manual_seed(seed)
        pixels = transform.pixels(image)
        assert (pixels.dtype, pixels.is_contiguous()) == (torch.uint8, True)
        assert torch.equal(clip.normalised(pixels[None])[0], floats)


def test_features_logits_and_a_learners_pixels_are_the_same():
    clip = toy_clip()
    model = PromptedCLIP(clip, ZeroShot(["a photo of a {}."]))
    model.setup(TrainInfo(["cat", "dog"], 0, False))
    pixels = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8)
    floats = clip.normalised(pixels)
    assert torch.equal(clip.encode_image(pixels), clip.encode_image(floats))
    assert torch.equal(clip.encode_dense(pixels).projected, clip.encode_dense(floats).projected)
    ours, theirs = model(pixels), model(floats)
    assert torch.equal(ours.logits, theirs.logits)
    assert torch.equal(ours.pixels, floats)  # what a teacher sees
    assert theirs.pixels is floats


def test_normalisation_adds_nothing_to_the_weights():
    clip = toy_clip()
    assert set(clip.state_dict()) == {f"model.{name}" for name in clip.model.state_dict()}
