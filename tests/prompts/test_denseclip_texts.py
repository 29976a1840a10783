"""DenseCLIP with the class texts of other methods (method.text)."""

import pytest
import torch
from dense_models import NAMES, check_saved, model_of, pictures, train

from prompts.learner import TrainInfo
from prompts.parts.named_learners import learner_classes
from prompts.parts.text_branch import learner_of

TEXTS = [
    {"name": "coop", "n_ctx": 2},
    {"name": "dpl", "prompt_lengths": {"text": [2, 0, 1], "image": [1, 1, 1]}},
    {"name": "maple", "depth": 2},
    {"name": "cocoop", "n_ctx": 2},
    {"name": "zeroshot", "templates": ["a {}."]},
]


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text["name"])
def test_another_method_s_texts_stand_in(small_clip, text):
    model = model_of(small_clip, text=text)
    assert len(train(model, small_clip, 2)[0]) == 2  # every trainable tensor gets a gradient
    trained = {name for name, p in model.learner.guided.branch.named_parameters() if p.requires_grad}
    if text["name"] == "maple":  # its text side alone
        assert trained == {"learner.ctx", "learner.compound_prompts_text.0"}
    assert bool(trained) == (text["name"] != "zeroshot")
    alone = learner_of(text)
    torch.manual_seed(3)
    alone.setup(small_clip, TrainInfo(NAMES, 4, fit=False))
    alone.bind(small_clip, NAMES)
    alone.load_state_dict(model.learner.guided.branch.learner.state_dict())
    model.eval()
    with torch.no_grad():
        image = small_clip.encode_image(small_clip.normalised(pictures(height=16, width=16)))
        found = model.learner.guided.class_texts(small_clip, image)
        torch.testing.assert_close(found, alone.encode_text(small_clip, image))
        assert found.dim() == (3 if text["name"] == "cocoop" else 2)
        model.learner.segment(small_clip, pictures())


@pytest.mark.parametrize("text", TEXTS, ids=lambda text: text["name"])
def test_saved_prompts_bring_the_other_method(small_clip, text):
    check_saved(small_clip, {"text": text})


def test_zero_shot_pixels_train_nothing(small_clip):
    model = model_of(small_clip, head="none", guidance="text", text=TEXTS[-1])
    assert not model.learner.uses_gradients
    assert not list(model.learner.parameters())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ({"name": "limber"}, "names no method with class texts"),
        ({"name": "linear_probe"}, "LinearProbe, which makes no class texts"),
        ({"name": "coop", "depth": 3}, "method.text.depth is no setting of coop"),
        ({"name": "coop", "n_ctx": "4"}, "method.text.n_ctx='4' is not of the type int"),
        ({"name": "coop", "n_ctx": 0}, r"^method.text=\{name: coop\}: method.text.n_ctx=0 leaves no context"),
        ({"name": "coop", "n_ctx": 40}, r"^method.text=\{name: coop\}: .* use fewer context tokens"),
        ({"name": "cupl"}, r"^method.text=\{name: cupl\}: .* give method.text.prompts=PATH of a JSON file"),
        ({"name": "maple"}, r"^method.text=\{name: maple\}: a prompt depth of 9 does not fit the text tower's 3 blocks"),
        ({"name": "dpl_search"}, "learns from validation images between the training batches.*name one of aape, .*dpl, ivlp"),
        ({"name": "vpt", "depth": 2}, "vpt}: its class texts depend on nothing that it trains"),
        ({"name": "aape_captions"}, "aape_captions}: its class texts depend on nothing that it trains"),
        ({"name": "aape"}, "aape}: its class texts depend on nothing that it trains"),  # it learns in its head
    ],
    ids=str,
)
def test_mistakes_name_the_keys_of_the_text(small_clip, text, message):
    with pytest.raises(ValueError, match=message) as error:
        model_of(small_clip, text=text)
    assert "method." not in str(error.value).replace("method.text", "")


def test_a_later_class_list_is_refused_alike(small_clip):
    model = model_of(small_clip, head="none", text=TEXTS[0])
    with pytest.raises(ValueError, match=r"^method.text=\{name: coop\}: .* but this CLIP's text tower holds 28"):
        model.bind(["a very very long name of a thing that nobody would ever call so " * 2])


def test_those_that_alternate_are_the_ones_whose_recipe_says_so():
    assert [name for name, kind in learner_classes().items() if kind.alternates] == ["dpl_search"]
