"""Tensors' names of training, compiling, TinyCLIP and CustomTextCLIP in open_clip's; what is said where weights do not fit."""

import json

import open_clip
import pytest
import torch
import yaml
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import save_file
from sizes import RESNET, SMALL
from toys import ROOT

from prompts.engine import fitting
from prompts.engine.clip import build, load_clip
from prompts.engine.fitting import fill
from prompts.engine.fitting import fitting as names_that_fit
from prompts.engine.layouts import as_expected, plain
from prompts.engine.weights import read_weights


@pytest.fixture(scope="module", params=[SMALL, RESNET], ids=["vit", "resnet"])
def clip(request):
    return request.param, build(request.param)


def config_of(tmp_path, config):
    (tmp_path / "config.json").write_text(json.dumps(config))
    return str(tmp_path / "config.json")


def same(state, other):
    assert state.keys() == other.keys()
    assert all(torch.equal(state[name], other[name]) for name in state)


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_a_checkpoint_of_training(clip, tmp_path, prefix):
    config, model = clip
    optimizer = torch.optim.AdamW(model.parameters())
    model.logit_scale.grad = torch.ones(())
    optimizer.step()
    content = {"epoch": 32, "name": "2023_model_ViT", "optimizer": optimizer.state_dict(), "scaler": {"scale": 65536.0}}
    content["state_dict"] = {f"{prefix}{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save(content, tmp_path / "epoch_32.pt")
    same(load_clip(config_of(tmp_path, config), str(tmp_path / "epoch_32.pt")).model.state_dict(), model.state_dict())


@pytest.mark.parametrize("wrapper", ["", "module."])
def test_tinyclips_names(clip, tmp_path, wrapper):
    config, model = clip
    state = {}
    for name, tensor in model.state_dict().items():
        tower = "_image_encoder." if name.startswith("visual.") else "_text_encoder."
        tower = "_logit_scale." if name == "logit_scale" else tower
        state[f"{tower}{wrapper}{name}"] = tensor
        if tower == "_image_encoder.":
            state[f"image_encoder_without_ddp.{name}"] = tensor
    state["_image_encoder.l0_module.heads_loga"] = torch.zeros(3)
    state["l0_module_text.heads_loga"] = torch.zeros(3)
    torch.save({"state_dict": state, "epoch": 1}, tmp_path / "tiny.pt")
    same(load_clip(config_of(tmp_path, config), str(tmp_path / "tiny.pt")).model.state_dict(), model.state_dict())


def test_the_text_tower_with_and_without_a_name_of_its_own(clip):
    config, model = clip
    parts = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg", "quick_gelu")}
    custom = CustomTextCLIP(**parts)
    tokens = torch.randint(1, 400, (3, 28))
    fill(custom.eval(), dict(model.state_dict()), "weights", "custom")
    assert torch.equal(custom.encode_text(tokens), model.encode_text(tokens))
    other = CLIP(**parts)
    fill(other, dict(custom.state_dict()), "weights", "plain")
    same(other.state_dict(), model.state_dict())


def test_a_projection_as_a_matrix_or_as_a_layer():
    model = build(SMALL)
    with_bias = SMALL["text_cfg"] | {"proj_bias": True}
    linear = CustomTextCLIP(SMALL["embed_dim"], SMALL["vision_cfg"], with_bias)
    matrix = plain(as_expected(dict(linear.state_dict()), model.state_dict()))["text_projection"]
    assert torch.equal(matrix, linear.text.text_projection.weight.T)
    with pytest.raises(ValueError, match="a tensor differs: text_projection.bias, which the architecture does not have"):
        fill(model, dict(linear.state_dict()), "weights", "plain")
    with pytest.raises(ValueError, match="a tensor differs: text.text_projection.bias, which is missing"):
        fill(linear, dict(model.state_dict()), "weights", "custom")


def test_a_scale_of_one_number_in_another_shape():
    model = build(SMALL)
    state = dict(model.state_dict()) | {"logit_scale": torch.tensor([1.5])}
    fill(model, state, "weights", "mine")
    assert model.logit_scale.shape == ()
    assert float(model.logit_scale) == 1.5
    with pytest.raises(ValueError, match="logit_scale, which has the shape 2 where \\(\\) belongs"):
        fill(model, state | {"logit_scale": torch.ones(2)}, "weights", "mine")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("file", ["weights.safetensors", "weights.pt"])
def test_numbers_of_any_type_become_float32(tmp_path, dtype, file):
    tensor = torch.randn(5, 7).to(dtype)
    (save_file if file.endswith("safetensors") else torch.save)({"a": tensor, "b": torch.ones(1).to(dtype)}, tmp_path / file)
    state = read_weights(tmp_path / file).state
    assert torch.equal(state["a"], tensor.float())
    assert {value.dtype for value in state.values()} == {torch.float32}


# ---------------------------------------------------------------- what does not fit


def shapes_of(name, **changes):
    """The tensors of an architecture of open_clip's, without numbers."""
    config = open_clip.get_model_config(name)
    return dict(build(config | changes, empty=True).state_dict())


def message(name, state):
    with pytest.raises(ValueError, match="do not fit the architecture") as caught:
        fill(build(open_clip.get_model_config(name), empty=True), state, "weights.pt", name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    return str(caught.value)


@pytest.mark.parametrize(
    ("wanted", "held", "says"),
    [
        ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu", "they are of ViT-B-16-quickgelu or ViT-B-16"),
        ("ViT-B-32-quickgelu", "ViT-B-16-quickgelu", "try clip=vit_b16 or clip=hub clip.model=ViT-B-16"),
        (
            "ViT-B-32-quickgelu",
            "ViT-B-16-quickgelu",
            "2 tensors differ, first visual.positional_embedding, which has the shape 197x768",
        ),
        (
            "ViT-L-14-336-quickgelu",
            "ViT-L-14",
            "a tensor differs: visual.positional_embedding, which has the shape 257x1024",
        ),
        ("ViT-L-14-336-quickgelu", "ViT-L-14", "try clip=vit_l14 or clip=hub clip.model=ViT-L-14"),
        ("RN50-quickgelu", "RN50x4-quickgelu", "try clip=rn50x4"),
        ("ViT-B-16", "RN101", "try clip=rn101"),
        ("RN50-quickgelu", "ViT-H-14", "try clip=hub clip.model=ViT-H-14"),
    ],
)
def test_weights_of_another_architecture_name_their_own(wanted, held, says):
    assert says in message(wanted, shapes_of(held))


@pytest.mark.parametrize("name", ["RN50x64", "ViT-B-32-256", "ViT-S-32-alt", "ViT-L-14-280", "ViT-H-14-CLIPA-336"])
def test_architectures_of_open_clips_own_towers_are_found_by_their_shapes(name):
    assert name in names_that_fit(shapes_of(name))


def test_architectures_with_a_tower_of_timms_are_found_by_its_shapes():
    config = open_clip.get_model_config("ViT-B-16-SigLIP-256")
    parts = {key: config[key] for key in ("embed_dim", "vision_cfg", "text_cfg")}
    with torch.device("meta"):
        state = plain(dict(CustomTextCLIP(**parts).state_dict()))
    assert names_that_fit(state) == ["ViT-B-16-SigLIP-256"]


def test_sizes_that_nobody_published_are_told():
    text = message("ViT-B-16", dict(build(SMALL).state_dict()))
    assert "an image tower of 3 x 96 with patches of 8 for 16 pixels, a text tower of 3 x 64, which no architecture" in text


def test_one_tower_alone_and_missing_tensors_are_told():
    state = shapes_of("ViT-B-32")
    image = {name: tensor for name, tensor in state.items() if name.startswith("visual.")}
    assert "they hold an image tower alone, without a text tower" in message("ViT-B-32", image)
    assert "they hold a text tower alone, without an image" in message(
        "ViT-B-32", {name: tensor for name, tensor in state.items() if name not in image}
    )
    state.pop(gone := "visual.transformer.resblocks.7.attn.in_proj_bias")
    assert message("ViT-B-32", state).endswith(f"a tensor differs: {gone}, which is missing.")


def test_the_options_that_sentences_name_are_those_of_the_project():
    found = {path.stem: yaml.safe_load(path.read_text()) for path in (ROOT / "conf/clip").glob("*.yaml")}
    models = {content["model"]: option for option, content in found.items() if "-quickgelu" in str(content.get("model"))}
    assert models == fitting.OPTIONS
