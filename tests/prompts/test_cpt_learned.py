"""CPT with learned prompts. Numbers in names are those of the specification's list of tests (3.4)."""

import pytest
import torch
from region_stubs import noise

from prompts.cpt import CPT
from prompts.cpt_learned import LearnedCPT, bounded, unbounded
from prompts.learner import TrainInfo
from prompts.parts.marking import box_area
from prompts.parts.regions import region_losses
from prompts.prompted_clip import PromptedCLIP

BOXES = torch.tensor([[0.0, 0, 12, 12], [20, 2, 30, 14], [4, 10, 16, 24]])
TEXTS = ["The red thing.", "something else"]
IMAGES = [noise(32, 40), noise(28, 36, seed=1)]
EACH = [BOXES, BOXES[:2]]


def model_of(clip, **settings):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, LearnedCPT(**settings))
    model.setup(TrainInfo(["x"], 2))
    return model


def scores(model, **more):
    return model.learner.region_scores(model.clip, IMAGES, EACH, TEXTS, **more)


def steps(model, count, targets=(2, 0)):
    groups = model.learner.parameter_groups()
    optimiser, losses = torch.optim.AdamW(groups, lr=0.02, weight_decay=0.01), []
    for _ in range(count):
        optimiser.zero_grad()
        loss = model.learner.grounding_losses(scores(model), list(targets))["ce"].sum()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(
    "marker", ["fill_box", "ellipse", {"name": "fill_box", "colour": [0, 10, 255], "word": "blue"}], ids=str
)
def test_training_starts_at_the_zero_shot_scores(small_clip, marker):
    learns = marker != "crop"
    model = model_of(small_clip, marker=marker, learn_marker=learns)
    zero = CPT([marker])
    for image, boxes in zip(IMAGES, EACH if learns else [], strict=learns):
        assert torch.equal(model.learner.draw(image, boxes), zero.markers[0].mark(image, boxes).float())
    with torch.no_grad():
        found = scores(model)
    wanted = zero.region_scores(small_clip, IMAGES, EACH, TEXTS)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)


def test_3_4_11_gradients_reach_the_marker_from_its_own_place_alone(small_clip):
    model = model_of(small_clip, learn_context=False)
    learner, frozen = model.learner, {name: t.clone() for name, t in small_clip.state_dict().items()}
    drawn, inside = learner.draw(IMAGES[0], BOXES), box_area(BOXES, 32, 40)[:, None].expand(-1, 3, -1, -1)
    (outer,) = torch.autograd.grad((drawn * ~inside).sum(), learner.look, retain_graph=True)
    assert torch.equal(outer, torch.zeros(4))
    weights = torch.rand(drawn.shape, generator=torch.Generator().manual_seed(0))
    (inner,) = torch.autograd.grad((drawn * weights * inside).sum(), learner.look)
    assert (inner != 0).all()  # green, which the released red has none of, among them
    loss = learner.grounding_losses(scores(model), [2, 0])["ce"].sum()
    loss.backward()
    assert (learner.look.grad != 0).all()
    before = learner.appearance.detach().clone()
    losses = steps(model, 8)
    assert losses[-1] < losses[0]
    moved = (learner.appearance - before).abs()
    assert (moved > 1e-4).all()
    assert (learner.appearance >= 0).all()
    assert (learner.appearance <= 1).all()
    assert all(torch.equal(t, frozen[name]) for name, t in small_clip.state_dict().items())
    assert all(p.grad is None for p in small_clip.parameters())


def test_colours_pass_the_sigmoid_and_back():
    values = torch.tensor([0, 0.5, 30 / 255, 240 / 255, 1], dtype=torch.float64)
    torch.testing.assert_close(bounded(unbounded(values)), values, rtol=0, atol=1e-12)
    far = torch.tensor([-50.0, 50.0])
    assert bounded(far).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("settings", "shapes"),
    [
        ({}, {"ctx": (5, 64), "look": (4,)}),  # is in red color .
        ({"n_before": 3}, {"ctx": (8, 64), "look": (4,)}),
        ({"learn_context": False, "n_before": 2}, {"ctx": (2, 64), "look": (4,)}),
        ({"learn_marker": False}, {"ctx": (5, 64)}),
        ({"marker": "ellipse", "learn_marker": False, "temperature": True}, {"ctx": (3, 64), "log_factor": ()}),  # a photo of
        ({"marker": "crop", "learn_marker": False, "n_before": 1}, {"ctx": (4, 64)}),
        ({"none": "logit"}, {"ctx": (5, 64), "look": (4,), "none_logit": ()}),
    ],
    ids=str,
)
def test_what_is_chosen_learns_and_is_saved(small_clip, settings, shapes):
    model = model_of(small_clip, **settings)
    learner = model.learner
    assert {name: tuple(p.shape) for name, p in learner.named_parameters()} == shapes
    with torch.no_grad():
        start = scores(model)
    losses = steps(model, 5)
    assert losses[-1] < losses[0]
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learner.parameters())
    with torch.no_grad():
        learned = scores(model)
    assert not torch.equal(start[0], learned[0])
    state, _ = model.prompt_state()
    assert set(state) == set(shapes) - {"none_logit"}  # which only training has
    again = PromptedCLIP(small_clip, LearnedCPT(**settings))
    again.setup(TrainInfo(["x"], 0, fit=False))
    again.load_prompt_state(state)
    with torch.no_grad():
        assert all(torch.equal(*pair) for pair in zip(learned, scores(again), strict=True))


def test_a_marker_has_a_rate_of_its_own_and_no_decay(small_clip):
    groups = model_of(small_clip, marker_lr=0.5, temperature=True).learner.parameter_groups()
    assert [{key: value for key, value in group.items() if key != "params"} for group in groups] == [
        {},
        {"weight_decay": 0.0, "lr": 0.5},
    ]
    assert [len(group["params"]) for group in groups] == [1, 2]


def test_losses_are_those_of_the_expressions():
    given = [torch.tensor([1.0, 3.0, 2.0], requires_grad=True), torch.tensor([4.0, 4.0])]
    loss = region_losses(given, [1, -1])["ce"]
    wanted = torch.nn.functional.cross_entropy(given[0][None], torch.tensor([1])).item()
    assert loss.tolist() == pytest.approx([wanted, 0])
    loss[1].backward()  # of an expression that is skipped the graph is whole
    with_none = region_losses(given, [1, -1], torch.tensor(1.0))["ce"]
    # the further logit is the mean of the proposals' and 1: 3 beside 1, 3 and 2, and 5 beside 4 and 4
    assert with_none[0].item() == pytest.approx(-torch.tensor([1.0, 3, 2, 3]).log_softmax(0)[1].item())
    assert with_none[1].item() == pytest.approx(-torch.tensor([4.0, 4, 5]).log_softmax(0)[2].item())


def test_images_are_encoded_once_while_the_marker_stays(small_clip, monkeypatch):
    calls = []
    encode = type(small_clip).encode_image
    monkeypatch.setattr(
        type(small_clip), "encode_image", lambda clip, images: calls.append(len(images)) or encode(clip, images)
    )
    model = model_of(small_clip, learn_marker=False)
    for _ in range(2):
        scores(model, keys=["a", "b"])[0].sum().backward()
    assert calls == [3, 2]  # in training each image alone
    model = model_of(small_clip)
    with torch.no_grad():
        scores(model, keys=["a", "b"]), scores(model, keys=["a", "b"])
    assert calls == [3, 2, 5]
    steps(model, 1)
    with torch.no_grad():  # another marker: other copies
        scores(model, keys=["a", "b"])
    assert calls == [3, 2, 5, 5, 5]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"marker": "crop"}, "has no colour that could be learned"),
        ({"marker": "blur_outside"}, "has no colour that could be learned: set method.learn_marker=false"),
        ({"learn_context": False, "learn_marker": False}, "leave nothing to learn"),
        ({"none": "drop"}, "method.none"),
        ({"n_before": -1}, "method.n_before=-1"),
        ({"marker_lr": -0.1}, "method.marker_lr=-0.1"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        LearnedCPT(**settings)


def test_a_context_without_room_or_without_words_is_refused(small_clip):
    with pytest.raises(ValueError, match="leaves no room for it among the 28"):
        model_of(small_clip, n_before=40)
    with pytest.raises(ValueError, match="has no words to learn"):
        model_of(small_clip, marker={"name": "ellipse", "text": "{}"}, learn_marker=False)
