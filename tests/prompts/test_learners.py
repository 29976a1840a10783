"""Tests of single methods (spec C, H3, H5). Tests for all methods: test_methods.py."""

import pytest
import torch
import torch.nn.functional as F

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import IMAGENET_TEMPLATES, FrozenCLIP, build
from prompts.engine.text_plan import token_lists
from prompts.ivlp import IVLP
from prompts.learner import TrainInfo
from prompts.linear_probe import GRID, LinearProbe, best_regularisation
from prompts.maple import MaPLe
from prompts.prompted_clip import PromptedCLIP
from prompts.vpt import VPT
from prompts.zeroshot import SELECTED_TEMPLATES, ZeroShot

NAMES = ["cat", "golden_retriever", "sea or lake"]


def model_of(clip, learner, names=NAMES):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(names, 0, alternating=True))
    return model


@torch.no_grad()
def logits(model, images):
    return model(images).logits


@pytest.fixture(scope="module")
def images():
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def b16():
    """ViT-B/16's widths and depths; a thin MLP, which no prompt sees."""
    vision = {"layers": 12, "width": 768, "patch_size": 16, "image_size": 32, "mlp_ratio": 0.01}
    return FrozenCLIP(build({"embed_dim": 512, "vision_cfg": vision, "text_cfg": {"mlp_ratio": 0.01}, "quick_gelu": True}))


@pytest.mark.parametrize(
    ("learner", "count"),
    [
        (CoOp(4), 2_048),
        (CoOp(16), 8_192),
        (CoOp(4, class_context=True), 3 * 2_048),
        (CoCoOp(), 35_360),
        (MaPLe(2, 9), 3_555_072),
        (MaPLe(2, 3), 1_185_024),
        (IVLP(2, 2, 12, 12), 30_720),
        (IVLP(4, 0, 12, 12), 24_576),
        (IVLP(4, 4, 9, 9), 46_080),
        (VPT(8, 12), 73_728),
    ],
)
def test_trainable_counts_of_vit_b16(b16, learner, count):
    learner.setup(b16, TrainInfo(NAMES, 0))
    assert sum(p.numel() for p in learner.parameters() if p.requires_grad) == count


def test_coop_from_words_starts_as_zero_shot(small_clip, images):
    coop = model_of(small_clip, CoOp(4, init="a photo of a"))
    torch.testing.assert_close(logits(coop, images), logits(model_of(small_clip, ZeroShot("single")), images))


def test_maple_keeps_of_a_as_words(small_clip):
    learner = model_of(small_clip, MaPLe(2, 3)).learner
    of_a = small_clip.tokenizer.encode("of a")
    assert learner.plan.prefix.tolist() == [small_clip.tokenizer.sot_token_id, -1, -2, *of_a]


def test_maple_deep_prompts_all_matter_and_start_with_one_map(small_clip, images):
    model = model_of(small_clip, MaPLe(2, 3))
    first, second = model.learner.compound_prompt_projections
    assert torch.equal(first.weight, second.weight)
    before = logits(model, images)
    for deep in model.learner.compound_prompts_text:
        with torch.no_grad():
            deep += 0.1
        after = logits(model, images)
        assert not torch.equal(before, after)
        before = after
    assert len(model_of(small_clip, MaPLe(2, 1)).learner.compound_prompts_text) == 0


def test_cocoop_without_its_bias_is_coop(small_clip, images):
    model = model_of(small_clip, CoCoOp())
    torch.nn.init.zeros_(model.learner.meta_net.linear2.weight)
    torch.nn.init.zeros_(model.learner.meta_net.linear2.bias)
    torch.testing.assert_close(logits(model, images), logits(model_of(small_clip, CoOp(4, init="a photo of a")), images))


def test_text_of_a_language_only_ivlp_leaves_images_alone(small_clip, images):
    model = model_of(small_clip, IVLP(n_text=4, n_image=0, depth_text=3))
    assert torch.equal(model(images).image_features, small_clip.encode_image(images))


def test_zeroshot_ensemble_averages_normalised_features(small_clip, images):
    templates = ["a photo of a {}.", "art of the {}.", "{} texture."]
    by_template = [F.normalize(model_of(small_clip, ZeroShot([t])).text_features(images), dim=-1) for t in templates]
    expected = small_clip.logits(small_clip.encode_image(images), torch.stack(by_template).mean(0))
    torch.testing.assert_close(logits(model_of(small_clip, ZeroShot(templates)), images), expected)


def test_zeroshot_named_ensembles():
    assert len(IMAGENET_TEMPLATES) == 80
    assert ZeroShot("imagenet80").templates == IMAGENET_TEMPLATES
    templates_of_dataset = ["{} texture."]
    assert ZeroShot("dataset", templates_of_dataset, "dtd").templates == templates_of_dataset
    assert ZeroShot("selected", templates_of_dataset, "dtd").templates == SELECTED_TEMPLATES + templates_of_dataset
    assert ZeroShot("selected", ["a photo of a {}."], "imagenet").templates == SELECTED_TEMPLATES
    assert set(SELECTED_TEMPLATES) <= set(IMAGENET_TEMPLATES)


def test_published_token_ids(small_clip):
    sot, eot = 49406, 49407
    cat, retriever, sea = token_lists(small_clip.tokenizer, NAMES, "a photo of a {}.", 0, "end")
    assert cat == [sot, 320, 1125, 539, 320, 2368, 269, eot]
    assert retriever[5:7] == [3878, 28394]
    assert sea[5:8] == [2102, 541, 2553]


def test_search_of_the_linear_probe():
    """Spec C.6: the grid's best C, then eight bisection steps; ties go left."""
    seen = []

    def fit(c):
        seen.append(c)
        return 0.5, c  # all equal: the first of the grid, then always the left end

    chosen = best_regularisation(fit)
    assert seen[: len(GRID)] == list(GRID)
    assert len(seen) == len(GRID) + 2 * 8
    assert chosen == pytest.approx(GRID[0] / 10)
    best = best_regularisation(lambda c: (-abs(torch.tensor(c).log10().item() - 2.3), c))
    assert torch.tensor(best).log10().item() == pytest.approx(2.3, abs=0.02)


@pytest.mark.parametrize("classes", [2, 5])
def test_linear_probe_predicts_as_scikit_learn(small_clip, classes):
    torch.manual_seed(0)
    centres = torch.randn(classes, small_clip.embed_dim)
    labels = torch.arange(40) % classes
    features = centres[labels] + 0.3 * torch.randn(40, small_clip.embed_dim)
    model = model_of(small_clip, LinearProbe(), [f"class {i}" for i in range(classes)])
    model.learner.fit(model, (features, labels), (features, labels), seed=1)
    assert (model.learner.logits(small_clip, features, None).argmax(1) == labels).all()
    with pytest.raises(ValueError, match="chooses its regularisation on validation images"):
        model.learner.fit(model, (features, labels), (features[:0], labels[:0]), seed=1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CoOp(0), "n_ctx=0 leaves no context"),
        (lambda: CoOp(4, position="back"), "none of end, middle, front"),
        (lambda: CoOp(4, init="a photo of a", class_context=True), "start at random"),
        (lambda: CoOp(6, init="a photo of a"), "has 4 tokens, fewer than the n_ctx=6"),
        (lambda: MaPLe(2, 9), "depth of 9 does not fit the text tower's 3 blocks"),
        (lambda: VPT(2, 0), "VPT with method.n_ctx=2 and method.depth=0 learns nothing"),
        (lambda: IVLP(0, 0), "learns nothing"),
        (lambda: ZeroShot("mine"), "none of single, dataset"),
        (lambda: ZeroShot(["a photo."]), "has no {} for the class name"),
        (lambda: ZeroShot([]), "at least one template"),
    ],
)
def test_a_wrong_setting_is_one_sentence(small_clip, make, message):
    with pytest.raises(ValueError, match=message):
        model_of(small_clip, make())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_numbers_that_are_not_finite_are_not_taken_over(small_clip, value):
    model = model_of(small_clip, VPT(2, 3))
    state = {name: tensor.double() for name, tensor in model.prompt_state()[0].items()}
    state["image_ctx.1"][0, 3] = value
    before = {name: tensor.clone() for name, tensor in model.learner.state_dict().items()}
    with pytest.raises(ValueError, match="tensor image_ctx.1 holds NaN or infinite numbers"):
        model.load_prompt_state(state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.learner.state_dict().items())


def test_prompts_that_are_not_finite_are_not_given_away(small_clip):
    model = model_of(small_clip, VPT(2, 3))
    with torch.no_grad():
        model.learner.image_ctx["2"][1, 1] = float("inf")
    with pytest.raises(ValueError, match=r"VPT has learned is not finite .*in image_ctx\.2\): lower optim.lr"):
        model.prompt_state()
