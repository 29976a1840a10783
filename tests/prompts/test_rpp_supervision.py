"""RPP's losses and its teacher; numbers in test names: the test list of docs/pretraining.md."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from rpp_models import INDEX, LABELS, NAMES, gradients, model_of, pictures, rpp

from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot

THREE = {"num_sampled_classes": 3}


@pytest.fixture(scope="module")
def images():
    return pictures()


def losses(model, images, sample=None):
    return model.losses(model(images, sample), LABELS, INDEX)


def test_18_no_weight_is_no_teacher_and_the_forms_are_as_written(small_clip, images):
    def build(**settings):
        return model_of(small_clip, rpp(distillation={"teacher": lambda: small_clip} | settings))

    plain = build(weight=0.0)
    assert plain.learner.teacher is None
    ce = losses(plain, images)
    assert ce.keys() == {"ce"}
    student = plain(images).logits
    teacher = model_of(small_clip, ZeroShot("single"))(images).logits
    t, w = 2.0, 0.25
    kl = t**2 * F.kl_div((student / t).log_softmax(1), (teacher / t).softmax(1), reduction="none").sum(1)
    target = (1 - w) * F.one_hot(LABELS, len(NAMES)) + w * (teacher / t).softmax(1)
    expected = {
        "sum": ce["ce"] + w * kl,
        "convex": (1 - w) * ce["ce"] + w * kl,
        "mixed_target": -(target * student.log_softmax(1)).sum(1),
    }
    for form, loss in expected.items():
        ours = losses(build(form=form, weight=w, temperature=t), images)
        torch.testing.assert_close(ours["ce"] + ours["kd"], loss)


def test_18_a_student_that_is_its_teacher_learns_nothing_from_it(small_clip, images):
    torch.manual_seed(0)
    distilled = rpp(n_text=4, n_image=0, depth_text=1, init="a photo of a", distillation={"teacher": lambda: small_clip})
    model = PromptedCLIP(small_clip, distilled)
    model.setup(TrainInfo(NAMES, 0))
    assert losses(model, images)["kd"].abs().max() < 1e-5
    grads = gradients(model, images, lambda out: model.losses(out, LABELS, INDEX)["kd"].sum())
    hard = gradients(model, images, lambda out: model.losses(out, LABELS, INDEX)["ce"].sum())
    assert max(g.norm() for g in grads.values()) < 1e-3 * max(g.norm() for g in hard.values())


def test_19_soft_labels_of_sampled_and_of_all_classes(small_clip, images):
    def build(**settings):
        return model_of(small_clip, rpp(local_contrast=THREE, distillation={"teacher": lambda: small_clip} | settings))

    model, every, shifted = build(), build(class_set="all"), build(local_correction=True)
    sample, full = (m.learner.sample(LABELS, INDEX, 5) for m in (model, every))
    some, all_, corrected = losses(model, images, sample), losses(every, images, full), losses(shifted, images, sample)
    torch.testing.assert_close(some["ce"], all_["ce"])  # the hard labels' classes are the same
    logits = model(images).logits
    teacher = model_of(small_clip, ZeroShot("single"))(images).logits
    kl = F.kl_div(logits.log_softmax(1), teacher.softmax(1), reduction="none").sum(1)
    torch.testing.assert_close(all_["kd"], kl)
    for loss, shift in ((some, 0), (corrected, model.learner.local_contrast.shift(sample, len(NAMES)))):
        for i in range(len(images)):
            ids, move = sample.ids[sample.allowed[i]], (shift + torch.zeros(sample.allowed.shape))[i, sample.allowed[i]]
            s, t = (logits[i, ids] + move).log_softmax(0), (teacher[i, ids] + move).softmax(0)
            torch.testing.assert_close(loss["kd"][i], (t * (t.log() - s)).sum(), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(some["kd"], corrected["kd"])


def test_19_the_teacher_is_nobodys_tensor_and_an_evaluation_builds_none(small_clip, images):
    def refuse():
        raise AssertionError("built")

    model = model_of(small_clip, rpp(distillation={"teacher": refuse}))
    assert all(name.startswith(("text_ctx.", "image_ctx.")) for name in model.learner.state_dict())
    assert set(dict(model.learner.named_modules())) & {"teacher", "teacher.clip"} == set()
    with torch.no_grad():
        model.eval()(images)
    with pytest.raises(AssertionError, match="built"):
        losses(model, images)


def test_28_tuning_starts_where_pretraining_ended(small_clip, images):
    model = model_of(small_clip, rpp(local_contrast=THREE, distillation={"teacher": lambda: small_clip}))
    state, distilled = model.prompt_state()
    model.bind(NAMES[:4])
    labels = LABELS % 4
    zero_shot = F.cross_entropy(model(images).logits, labels)
    tuned = model_of(small_clip, rpp(), NAMES[:4], seed=1)
    tuned.load_prompt_state(state, distilled)
    first = tuned.losses(tuned(images), labels, INDEX)
    assert first.keys() == {"ce"}
    torch.testing.assert_close(first["ce"].mean(), zero_shot)


def test_26_unshared_prompts_fit_at_least_as_well_as_shared_ones(small_clip):
    final = {"shared": [], "unshared": []}
    for share, seed in itertools.product(final, range(3)):
        torch.manual_seed(seed)
        model = PromptedCLIP(small_clip, rpp(2, qkv_share=share))
        model.setup(TrainInfo(NAMES, 0))
        pictures = torch.randn(6, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        labels = torch.arange(6)
        optimiser = torch.optim.Adam(model.learner.parameters(), lr=0.03)
        for _ in range(50):
            loss = F.cross_entropy(model(pictures).logits, labels)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        final[share].append(loss.item())
    shared, unshared = (sum(values) / 3 for values in final.values())
    assert shared < 1.5  # both learn: chance is 1.79
    assert unshared <= shared + 0.1
