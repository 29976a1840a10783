"""LiMBeR's prefix and AAPE's rows in it; with a language model behind them where transformers is installed."""

import json

import pytest
import torch
from safetensors.torch import save_file
from test_methods import NAMES, make

from prompts.aape_captions import AAPECaptions
from prompts.engine.clip import FrozenCLIP
from prompts.learner import TrainInfo
from prompts.limber import LiMBeR
from prompts.parts.saved_generator import read_generator
from prompts.prompted_clip import PromptedCLIP

WIDTH, PATCHES = 32, 4  # of the small CLIP: 16 px in patches of 8 px


def images(count=3):
    return torch.randn(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def saved_h(folder, clip, hidden=5, bias=True, **about):
    """What a run of aape_captions leaves of h, as `prompts.safetensors`."""
    learner = AAPECaptions(hidden=hidden, h_bias=bias, distill_weight=0)
    torch.manual_seed(2)
    learner.setup(clip, TrainInfo(NAMES, 3))
    state = {name: tensor.detach().contiguous() for name, tensor in learner.state_dict().items()}
    about = {"backbone": clip.identity, "classnames": NAMES, "own_classes": None} | about
    save_file(state, folder / "prompts.safetensors", {"about": json.dumps(about)})
    return learner


def model_of(clip, learner, fit=True, language_model=None):
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner, language_model=language_model)
    model.setup(TrainInfo(NAMES, 3, fit, prefix_width=WIDTH))
    return model.eval()


@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_the_image_s_rows_are_a_linear_map_of_its_positions(small_clip, resnet_clip, kind):
    clip = small_clip if kind == "vit" else resnet_clip
    pixels = torch.randn(2, 3, *2 * [clip.image_spec["size"]])
    learner = model_of(clip, LiMBeR()).learner
    made = learner.prefix(clip, pixels)
    dense = clip.encode_dense(pixels, [-1])
    positions = dense.maps[-1].flatten(2).transpose(1, 2)
    assert made.rows.shape == (2, positions.shape[1], WIDTH)
    torch.testing.assert_close(made.rows, positions @ learner.image_map.weight.T + learner.image_map.bias)
    assert torch.equal(made.image, dense.pooled)
    assert made.h is None
    if kind == "resnet":  # of the last stage, and not of the attention pooling behind it
        assert positions.shape[2] == clip.model.visual.layer4[-1].conv3.out_channels != clip.embed_dim


@pytest.mark.parametrize("position", ["after", "before"])
def test_rows_of_h_stand_behind_or_before_the_image_s(small_clip, tmp_path, position):
    source = saved_h(tmp_path, small_clip)
    learner = model_of(small_clip, LiMBeR(h=str(tmp_path), tokens=2, position=position)).learner
    made = learner.prefix(small_clip, images())
    assert made.rows.shape == (3, PATCHES + 2, WIDTH)
    assert torch.equal(made.h, source.query(made.image))
    alone = model_of(small_clip, LiMBeR()).learner.prefix(small_clip, images()).rows
    assert torch.equal(made.rows[:, :-2] if position == "after" else made.rows[:, 2:], alone)
    of_h = made.rows[:, -2:] if position == "after" else made.rows[:, :2]
    unit = made.h / made.h.norm(dim=-1, keepdim=True) * small_clip.embed_dim**0.5
    torch.testing.assert_close(of_h.flatten(1), learner.h_map(unit))


@pytest.mark.parametrize("train_h", [False, True])
def test_h_is_frozen_or_learns_and_the_clip_never_does(small_clip, tmp_path, train_h):
    saved_h(tmp_path, small_clip)
    learner = model_of(small_clip, LiMBeR(h=str(tmp_path), train_h=train_h)).learner
    learner.prefix(small_clip, images()).rows.square().sum().backward()
    assert all((p.grad is not None) == train_h for p in learner.h.parameters())
    assert all(p.grad is not None for part in (learner.image_map, learner.h_map) for p in part.parameters())
    assert all(p.grad is None for p in small_clip.parameters())
    [maps, *of_summary] = learner.parameter_groups()
    assert {id(p) for p in learner.h.parameters()} <= {id(p) for p in maps["params"]} or not train_h
    assert len(of_summary) == train_h
    assert learner.wants_captions == train_h


def test_finetuning_brings_the_distance_to_the_summary_of_the_captions(small_clip, tmp_path):
    saved_h(tmp_path, small_clip)
    learner = model_of(small_clip, LiMBeR(h=str(tmp_path), train_h=True, distill_weight=2.0)).learner
    prefix = learner.prefix(small_clip, images())
    captions, mask = torch.randn(3, 4, small_clip.embed_dim), torch.ones(3, 4, dtype=torch.bool)
    losses = learner.prefix_losses(small_clip, prefix, captions, mask)
    wanted = learner.summary.losses(prefix.image, prefix.h, captions, mask)
    assert set(losses) == {"distill", "reward"}
    torch.testing.assert_close(losses["distill"], 2 * wanted["distill"])
    losses["distill"].sum().backward()
    assert all(p.grad.abs().sum() > 0 for p in learner.h.parameters())
    assert all(p.grad is None for p in learner.image_map.parameters())
    with pytest.raises(ValueError, match="there are none here: give images with captions, or method.distill_weight=0"):
        learner.prefix_losses(small_clip, prefix, None, None)
    frozen = model_of(small_clip, LiMBeR(h=str(tmp_path))).learner
    assert frozen.prefix_losses(small_clip, prefix, None, None) == {}


@pytest.mark.parametrize("method", ["limber", "limber_aape", "limber_aape_finetuned"])
def test_round_trip_needs_no_file_of_h(small_clip, tmp_path, method):
    """Saved prompts hold h and its sizes; the aggregator, which only training needs, stays behind."""
    settings = {} if method == "limber" else {"h": str(tmp_path)}
    saved_h(tmp_path, small_clip, bias=False)
    model = model_of(small_clip, make(method, **settings))
    with torch.no_grad():
        for parameter in model.learner.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    state, classes = model.prompt_state()
    assert not [name for name in state if name.startswith("summary")]
    (tmp_path / "prompts.safetensors").unlink()
    again = model_of(small_clip, make(method, **dict(model.learner.found_settings)), fit=False)
    again.load_prompt_state(state, classes)
    assert torch.equal(again.learner.prefix(small_clip, images()).rows, model.learner.prefix(small_clip, images()).rows)


def test_dropout_is_a_function_of_seed_and_image(small_clip):
    learner = model_of(small_clip, LiMBeR(dropout=0.5)).learner
    exact = learner.prefix(small_clip, images()).rows
    learner.train()
    index = torch.tensor([5, 7, 2])
    dropped = learner.prefix(small_clip, images(), index, seed=3).rows
    share = (dropped == 0).float().mean()
    assert 0.3 < share < 0.7
    torch.testing.assert_close(dropped[dropped != 0], 2 * exact[dropped != 0])
    one = learner.prefix(small_clip, images()[1:2], index[1:2], seed=3).rows
    torch.testing.assert_close(one[0], dropped[1])
    assert not torch.equal(dropped == 0, learner.prefix(small_clip, images(), index, seed=4).rows == 0)


def test_images_do_not_mix_and_bf16_is_close(small_clip, tmp_path):
    saved_h(tmp_path, small_clip)
    learner = model_of(small_clip, LiMBeR(h=str(tmp_path))).learner
    whole = learner.prefix(small_clip, images()).rows
    single = torch.cat([learner.prefix(small_clip, image[None]).rows for image in images()])
    torch.testing.assert_close(single, whole, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = learner.prefix(small_clip, images()).rows
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, whole, rtol=0.1, atol=0.1)


# ---- mistakes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"position": "middle"}, "method.position='middle' is none of after, before"),
        ({"tokens": 0}, "method.tokens=0: give a number, 1 or more"),
        ({"dropout": 1.0}, "method.dropout=1.0"),
        ({"distill_weight": -1}, "method.distill_weight=-1"),
        ({"train_h": True}, "method.h is null: give the folder of a run"),
        ({"h": "nowhere"}, "method.h=nowhere: the prompts file nowhere cannot be read"),
        ({"h": {"hidden": 2**40, "bias": True}}, "method.h={'hidden': 1099511627776"),
        ({"h": {"hidden": 4}}, "give the folder of a run of aape_captions"),
    ],
)
def test_bad_settings_are_sentences(settings, message):
    with pytest.raises(ValueError, match=message) as caught:
        LiMBeR(**settings)
    assert "\n" not in str(caught.value)


def test_a_run_without_a_language_model_is_refused(small_clip):
    with pytest.raises(ValueError, match="this run has none: choose one by lm=NAME"):
        PromptedCLIP(small_clip, LiMBeR()).setup(TrainInfo(NAMES, 3))


def test_an_h_of_another_clip_is_refused(small_clip, tmp_path):
    saved_h(tmp_path, small_clip, backbone=small_clip.identity | {"weights": "0123"})
    with pytest.raises(ValueError, match="was trained on another CLIP \\(weights '0123' there"):
        model_of(small_clip, LiMBeR(h=str(tmp_path)))


@pytest.mark.parametrize(
    "change",
    [
        {"h.linear1.weight": torch.randn(5, 3)},
        {"h.linear1.bias": torch.randn(4)},
        {"h.linear2.bias": torch.full((64,), float("nan"))},
        {"h.linear1.weight": torch.randn(5, 64).double()},
        {"h.linear3.weight": torch.randn(2)},
    ],
    ids=["width", "bias", "nan", "type", "name"],
)
def test_a_file_without_an_h_is_refused(small_clip, tmp_path, change):
    learner = saved_h(tmp_path, small_clip)
    assert read_generator(str(tmp_path)).sizes == {"hidden": 5, "bias": True}
    save_file({**learner.state_dict(), **change}, tmp_path / "prompts.safetensors", {"about": "{}"})
    with pytest.raises(ValueError, match="holds no h of two layers"):
        read_generator(str(tmp_path))


def test_a_damaged_file_is_one_sentence(tmp_path):
    for content in (b"", b"\x80\x04." * 9, b"\xff" * 64):
        (tmp_path / "prompts.safetensors").write_bytes(content)
        with pytest.raises(ValueError, match="give the folder of a finished run of aape_captions") as caught:
            read_generator(str(tmp_path))
        assert "\n" not in str(caught.value)


# ---- with a language model


@pytest.mark.parametrize("train_h", [False, True])
def test_the_loss_of_a_caption_reaches_the_maps_and_h_where_it_learns(tmp_path, train_h):
    """Spec T21."""
    pytest.importorskip("transformers")
    from small_lms import small_lm
    from toys import toy_clip

    clip: FrozenCLIP = toy_clip()
    saved_h(tmp_path, clip)
    lm = small_lm()
    model = model_of(clip, LiMBeR(h=str(tmp_path), train_h=train_h), language_model=lm)
    prefix = model.learner.prefix(clip, torch.rand(2, 3, 32, 32))
    contexts = [[rows, "A picture of"] for rows in prefix.rows]
    assert len(lm.rows(contexts[0])) == 16 + 1 + len(lm.words.encode("A picture of"))
    losses = lm.losses(contexts, ["a red ball", "two green stars"])
    assert losses.shape == (2,)
    losses.sum().backward()
    learner = model.learner
    assert all(p.grad.abs().sum() > 0 for part in (learner.image_map, learner.h_map) for p in part.parameters())
    assert all((p.grad is not None and p.grad.abs().sum() > 0) == train_h for p in learner.h.parameters())
    assert all(p.grad is None for frozen in (clip, lm) for p in frozen.parameters())
