"""The frozen teacher and its soft labels; numbers in test names: the test list of docs/pretraining.md."""

import pytest
import torch
import torch.nn.functional as F
from sizes import SMALL

from prompts.engine.clip import FrozenCLIP, build
from prompts.parts.context import fixed_plan
from prompts.parts.local_contrast import class_sample
from prompts.parts.teacher import Teacher, converted, divergence, soft_cross_entropy
from prompts.zeroshot import ZeroShot

NAMES = ["cat", "golden_retriever", "sea or lake", "rose"]


def pairs(dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    student, teacher = 3 * torch.randn(2, 6, 9, generator=generator, dtype=dtype)
    return student.requires_grad_(), teacher


def test_18_divergence_is_kl():
    student, teacher = pairs()
    ours = divergence(student, teacher, 2.0)
    theirs = F.kl_div((student / 2).log_softmax(1), (teacher / 2).softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(ours, theirs)
    assert (ours > 0).all()
    torch.testing.assert_close(divergence(student, teacher + 5, 2.0), ours)
    same = divergence(student, student.detach())
    assert same.abs().max() < 1e-12
    assert torch.autograd.grad(same.sum(), student)[0].abs().max() < 1e-12


def test_18_the_square_of_the_temperature_keeps_the_gradient():
    student, teacher = pairs()
    norms = [torch.autograd.grad(t**2 * divergence(student, teacher, t).sum(), student)[0].norm() for t in (50.0, 200.0)]
    assert norms[1] / norms[0] == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_20_masked_classes_have_no_part(dtype):
    student, teacher = (x.detach().to(dtype) for x in pairs(torch.float32))
    mask = torch.rand(6, 9, generator=torch.Generator().manual_seed(1)) < 0.4
    mask[:, 0] = False
    mask[0, 1:] = True  # one class left
    student.requires_grad_()
    masked = [x.masked_fill(mask, float("-inf")) for x in (student, teacher)]
    for loss in (divergence(*masked), soft_cross_entropy(masked[0], masked[1].softmax(-1))):
        (gradient,) = torch.autograd.grad(loss.float().sum(), student, retain_graph=True)
        assert loss.isfinite().all()
        assert gradient.isfinite().all()
        assert not gradient[mask].any()
    row = ~mask[3]
    alone = divergence(student[3:4, row], teacher[3:4, row])
    torch.testing.assert_close(divergence(*masked)[3:4].float(), alone.float())


def bound(make, student):
    teacher = Teacher(make=make)
    teacher.bind(student, NAMES)
    return teacher


def test_19_the_teacher_is_zero_shot_clip_and_encodes_its_classes_once(small_clip, monkeypatch):
    images = torch.randn(3, 3, 16, 16)
    built, encoded = [], []
    teacher = bound(lambda: built.append(1) or small_clip, small_clip)
    encode = small_clip.encode_text
    monkeypatch.setattr(small_clip, "encode_text", lambda *a, **k: encoded.append(1) or encode(*a, **k))
    assert not built
    ours = [teacher.logits(teacher.image(images.clone().requires_grad_())) for _ in range(3)][-1]
    assert (len(built), len(encoded)) == (1, 1)
    assert not ours.requires_grad
    zeroshot = ZeroShot("single")
    zeroshot.bind(small_clip, NAMES)
    text = zeroshot.encode_text(small_clip, images)
    torch.testing.assert_close(ours, small_clip.logits(small_clip.encode_image(images), text))
    teacher.bind(small_clip, NAMES[::-1])
    torch.testing.assert_close(teacher.logits(teacher.image(images)), ours.flip(1))
    assert len(encoded) == 3  # zero-shot's own, and the other list


def test_19_restricted_is_the_full_softmax_renormalised(small_clip):
    images, labels = torch.randn(2, 3, 16, 16), torch.tensor([1, 3])
    sample = class_sample(labels, torch.tensor([[0, 3]]), torch.zeros(2, dtype=torch.long))
    teacher = bound(lambda: small_clip, small_clip)
    image = teacher.image(images)
    full = teacher.logits(image).softmax(-1)
    some = teacher.logits(image, sample.ids).masked_fill(~sample.allowed, float("-inf"))
    allowed_logits = full[:, sample.ids] * sample.allowed
    torch.testing.assert_close(some.softmax(-1), allowed_logits / allowed_logits.sum(1, keepdim=True))


def test_a_teacher_of_another_size_sees_the_same_pictures(small_clip):
    bigger = FrozenCLIP(build(SMALL | {"vision_cfg": SMALL["vision_cfg"] | {"image_size": 24}}), (0.5,) * 3, (0.25,) * 3)
    pixels = torch.linspace(0, 1, 16).expand(1, 3, 16, 16)  # a ramp, which bicubic resizing keeps

    def normalised(x, spec):
        return (x - torch.tensor(spec["mean"])[:, None, None]) / torch.tensor(spec["std"])[:, None, None]

    student = normalised(pixels, small_clip.image_spec)
    seen = converted(student, small_clip.image_spec, bigger.image_spec)
    at = (torch.arange(24) + 0.5) * 16 / 24 - 0.5  # pixel centres
    expected = normalised((at / 15).clamp(0, 1).expand(1, 3, 24, 24), bigger.image_spec)
    torch.testing.assert_close(seen[..., 3:-3], expected[..., 3:-3], rtol=1e-3, atol=1e-2)
    assert converted(student, small_clip.image_spec, small_clip.image_spec) is student
    teacher = bound(lambda: bigger, small_clip)
    text = bigger.encode_text(fixed_plan(bigger, NAMES, "a photo of a {}."))
    torch.testing.assert_close(teacher.logits(teacher.image(student)), bigger.logits(bigger.encode_image(seen), text))


def test_a_teacher_that_resizes_in_another_way_sees_the_same_pictures(small_clip):
    vision = SMALL["vision_cfg"] | {"image_size": 24}
    bilinear = FrozenCLIP(build(SMALL | {"vision_cfg": vision}), interpolation="bilinear", resize_mode="squash")
    pixels = torch.rand(1, 3, 16, 16)
    seen = {
        mode: converted(pixels, small_clip.image_spec, bilinear.image_spec | {"interpolation": mode})
        for mode in ("bicubic", "bilinear")
    }
    expected = F.interpolate(pixels, (24, 24), mode="bilinear", antialias=True)
    torch.testing.assert_close(seen["bilinear"], expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(seen["bicubic"], seen["bilinear"], atol=1e-2)


def test_a_teacher_needs_a_template():
    with pytest.raises(ValueError, match="at least one template"):
        Teacher([])
