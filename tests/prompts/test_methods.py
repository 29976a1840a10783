"""One matrix over all methods: each is made from its own yaml, cut to the size of the small CLIP."""

from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from omegaconf import OmegaConf

from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

CONF = Path(__file__).parents[2] / "conf" / "method"
NAMES, OTHERS = ["rose", "cat", "sea or lake", "dog"], ["tulip", "golden_retriever"]
SENTENCES = {"prompts": {name: [f"a {name}.", f"{name} outside", "no idea"] for name in NAMES}, "dataset": "toy"}
SMALL = {  # settings that the published ones, meant for 12 blocks, need here
    "aape": SENTENCES,
    "aape_residual": SENTENCES,
    "aape_captions": {"distill_weight": 0},  # what images without captions have to teach; the rest is in test_aape_captions.py
    "maple": {"depth": 3},
    "vpt": {"depth": 3, "n_ctx": 2},
    "cupl": {"prompts": {name: [f"a {name}.", f"see the {name} there."] for name in [*NAMES, *OTHERS]}, "dataset": "toy"},
    "dpl": {"prompt_lengths": {"text": [2, 0, 3], "image": [0, 4, 1]}, "teacher_templates": ["a {}."], "dataset": "toy"},
    "dpl_search": {"lengths": [0, 1, 3], "dataset": "toy"},
    "ivlp": {"depth_text": 3, "depth_image": 3},
    "kgcoop": {"templates": ["a photo of a {}."], "weight": 0.5},  # at 8 the random towers want a smaller step
    "promptsrc": {"depth_text": 3, "depth_image": 3},
    "rpp": {"depth_text": 2, "depth_image": 3, "n_text": 2, "n_image": 3, "distillation": {"teacher": None}},
    "zeroshot": {"dataset_templates": ["a {} flower.", "{}."], "dataset": "toy"},
}


def offers(method):
    return resolve_name(config_of(method)["_target_"]).offers


def make(method, **settings):
    from hydra.utils import instantiate

    return instantiate(OmegaConf.merge(config_of(method), SMALL.get(method, {}), settings), _convert_="all")


def config_of(method):
    """The method's part of its yaml, with that of the method it starts from."""
    config = OmegaConf.load(CONF / f"{method}.yaml")
    config = config.get("method", config)  # of a file that sets keys of the root too
    defaults = config.pop("defaults", [])  # other groups that a method brings (RPP's teacher) are left out
    starts_from = [config_of(name) for name in defaults if isinstance(name, str) and name != "_self_"]
    return OmegaConf.merge(*starts_from, config)


METHODS = sorted(path.stem for path in CONF.glob("*.yaml") if "class logits" in offers(path.stem))


def model_of(clip, learner, names=NAMES):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(names, num_images=16, alternating=True))
    return model


def batch(n=8):
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(n) % len(NAMES)
    return torch.randn(n, 3, 16, 16, generator=generator) + labels[:, None, None, None], labels


def train(model, steps=8, autocast=False):
    images, labels = batch()
    optimiser, losses = torch.optim.SGD(model.learner.parameters(), lr=0.01, momentum=0.9), []
    for _ in range(steps):
        optimiser.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(images)
            loss = sum(part.mean() for part in model.losses(out, labels, torch.arange(len(labels))).values())
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def fitted(model):
    if model.learner.uses_gradients:
        train(model)
    else:
        images, labels = batch(16)
        features = model.clip.encode_image(images)
        model.learner.fit(model, (features, labels), (features, labels), seed=1)
    return model.eval()


@torch.no_grad()
def logits(model, n=8):
    return model(batch(n)[0]).logits


@pytest.mark.parametrize("method", METHODS)
def test_learns_and_only_prompts_move(small_clip, method):
    model = model_of(small_clip, make(method))
    frozen = {k: v.clone() for k, v in small_clip.state_dict().items()}
    before = logits(model)
    if model.learner.uses_gradients:
        losses = train(model)
        assert losses[-1] < losses[0] - 0.01
        assert all(p.grad is not None and p.dtype == torch.float32 for p in model.learner.parameters())
    else:
        fitted(model)
    learns = model.learner.uses_gradients or any(True for _ in model.learner.parameters())
    assert (not torch.equal(before, logits(model))) == learns
    assert all(torch.equal(v, frozen[k]) for k, v in small_clip.state_dict().items())
    assert all(p.grad is None and not p.requires_grad for p in small_clip.parameters())
    assert not any(module.training for module in model.train().clip.modules())


@pytest.mark.parametrize("method", METHODS)
def test_round_trip(small_clip, method):
    model = fitted(model_of(small_clip, make(method)))
    state, class_names = model.prompt_state()
    torch.manual_seed(7)
    again = PromptedCLIP(small_clip, make(method))
    again.setup(TrainInfo(NAMES, 16, alternating=True))
    again.load_prompt_state(state, class_names)
    assert torch.equal(logits(model), logits(again.eval()))
    if state:
        first = sorted(state)[0]
        with pytest.raises(ValueError, match=f"does not fit.*{first} is absent in the checkpoint"):
            again.load_prompt_state({k: v for k, v in state.items() if k != first}, class_names)


@pytest.mark.parametrize("method", METHODS)
def test_binds_to_other_classes(small_clip, method):
    model = fitted(model_of(small_clip, make(method)))
    before = logits(model)
    if model.learner.class_specific:
        with pytest.raises(ValueError, match="learned tensors for each of its 4 classes"):
            model.bind(OTHERS)
        return
    model.bind(OTHERS)
    assert logits(model).shape == (8, 2)
    model.bind(NAMES[::-1])
    torch.testing.assert_close(logits(model), before.flip(1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_bf16_is_close(small_clip, method):
    model = model_of(small_clip, make(method))
    if model.learner.uses_gradients:
        exact, rounded = train(model, 1), train(model_of(small_clip, make(method)), 1, autocast=True)
        assert rounded[0] == pytest.approx(exact[0], rel=0.05)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = logits(model)
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, logits(model), rtol=0.1, atol=0.2)


@pytest.mark.parametrize("method", METHODS)
def test_images_do_not_mix(small_clip, method):
    """A batch equals its images one by one, in any order (spec H5.2)."""
    model = fitted(model_of(small_clip, make(method)))
    images, whole = batch()[0], logits(model)
    with torch.no_grad():
        single = torch.cat([model(image[None]).logits for image in images])
        order = torch.randperm(len(images))
        shuffled = model(images[order]).logits
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(shuffled, whole[order], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_resnet(resnet_clip, method):
    learner = make(method)
    if method in ("dpl", "dpl_search", "maple", "vpt", "ivlp", "promptsrc", "rpp"):
        with pytest.raises(ValueError, match="image tower is a ResNet: use a ViT"):
            model_of(resnet_clip, learner)
        return
    model = model_of(resnet_clip, learner)
    with torch.no_grad():
        assert model(torch.randn(2, 3, 32, 32)).logits.isfinite().all()


@pytest.mark.parametrize("method", METHODS)
def test_class_names_are_encoded_once_per_evaluation(small_clip, method):
    model = fitted(model_of(small_clip, make(method)))
    if not model.learner.class_specific:
        model.bind(NAMES[:3])  # as binding the same list again does nothing
    model.bind(NAMES)
    count = model.text_encodings
    logits(model, 4), logits(model, 8)
    assert model.text_encodings - count == (2 if method == "cocoop" else 1)
    if method == "coop":  # cached features are no older than the tensors they come from
        train(model, 1)
        changed = logits(model)
        model.bind(NAMES)
        assert torch.equal(logits(model), changed)


def test_class_specific_contexts_refuse_other_classes_on_loading(small_clip):
    model = model_of(small_clip, CoOp(4, class_context=True))
    state, class_names = model.prompt_state()
    other = model_of(small_clip, CoOp(4, class_context=True), NAMES[::-1])
    with pytest.raises(ValueError, match="class-specific tensors belong to 4 classes"):
        other.load_prompt_state(state, class_names)
