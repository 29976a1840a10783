"""CLIPModel and SiglipModel of transformers': configs, tensors, several files. By hand in their layout, and compared with
transformers' own features where that package is installed."""

import json

import pytest
import torch
from layouts_by_hand import (
    clip_as_transformers,
    clip_config,
    randomised,
    register_small_siglip,
    siglip_as_transformers,
    siglip_config,
)
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from sizes import SMALL

from prompts.engine import architecture
from prompts.engine.clip import build, load_clip
from prompts.engine.fitting import fill, set_activation
from prompts.engine.weights import read_weights


def folder_of(tmp_path, config, tensors, **others):
    """A folder in transformers' layout; `others`: json files."""
    for name, content in {"config": config, **others}.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "model.safetensors", {"format": "pt"})
    return f"local-dir:{tmp_path}"


@pytest.fixture(scope="module")
def clip():
    return randomised(build(SMALL))


@pytest.fixture
def siglip(monkeypatch):
    """-> (open_clip's model of the small SigLIP, made from transformers' config)"""
    register_small_siglip(monkeypatch)
    return randomised(siglip_towers("config.json", siglip_config()))


def siglip_towers(name, config):
    from prompts.engine import clip_config, transformers_config

    built, _ = clip_config.checked(transformers_config.of_transformers(config, name), name, brings_tokenizer=True)
    towers = CustomTextCLIP(**{key: value for key, value in built.items() if key != "custom_text"})
    set_activation(towers, built["vision_cfg"])
    return towers


def same(model, other):
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_a_folder_of_transformers_clip(clip, tmp_path, dtype):
    tensors = {
        name: tensor.to(dtype) if tensor.is_floating_point() else tensor
        for name, tensor in clip_as_transformers(clip.state_dict()).items()
    }
    loaded = load_clip(folder_of(tmp_path, clip_config(), tensors))
    expected = {name: tensor.to(dtype).float() for name, tensor in clip.state_dict().items()}
    assert all(torch.equal(tensor, expected[name]) for name, tensor in loaded.model.state_dict().items())
    assert loaded.identity["activation"] == "quickgelu"
    assert (loaded.image_spec["interpolation"], loaded.image_spec["resize_mode"]) == ("bicubic", "shortest")
    if dtype == torch.float32:
        images, tokens = torch.randn(2, 3, 16, 16), loaded.tokenizer(["a cat", "two dogs and a bird"])
        torch.testing.assert_close(loaded.model.encode_text(tokens), clip.encode_text(tokens))
        torch.testing.assert_close(loaded.encode_image(images), clip.encode_image(images), rtol=1e-4, atol=1e-5)


def test_a_file_of_transformers_clip_in_a_named_architecture(clip, tmp_path):
    folder_of(tmp_path, clip_config(), clip_as_transformers(clip.state_dict()))
    config = tmp_path / "mine.json"
    config.write_text(json.dumps(SMALL))
    same(load_clip(str(config), str(tmp_path / "model.safetensors")).model, clip)
    config.write_text(json.dumps({key: value for key, value in SMALL.items() if key != "quick_gelu"}))
    with pytest.raises(ValueError, match=f"do not say .*, or use clip=hub clip.model=local-dir:{tmp_path}, whose"):
        load_clip(str(config), str(tmp_path / "model.safetensors"))


def test_a_model_in_several_files(clip, tmp_path):
    model = folder_of(tmp_path, clip_config(), clip_as_transformers(clip.state_dict()))
    tensors = clip_as_transformers(clip.state_dict())
    names = sorted(tensors)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, held in parts.items():
        save_file({name: tensors[name].contiguous() for name in held}, tmp_path / file)
    index = {"metadata": {}, "weight_map": {name: file for file, held in parts.items() for name in held}}
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    same(load_clip(model).model, clip)
    missing = dict.fromkeys(names, "model-00001-of-00002.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": missing}))
    with pytest.raises(ValueError, match="model-00001-of-00002.safetensors lacks .*, which the index says it holds"):
        load_clip(model)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match="the part of the weights .*model-00002-of-00002.safetensors cannot be read"):
        load_clip(model)


@pytest.mark.parametrize("place", ["../outside.safetensors", "/etc/passwd", "folder/a.safetensors", "a.pkl", 3, None])
def test_an_index_names_files_of_its_folder_alone(clip, tmp_path, place):
    model = folder_of(tmp_path, clip_config(), {})
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"logit_scale": place}}))
    with pytest.raises(ValueError, match="no file of the folder"):
        load_clip(model)


def test_the_tensors_of_siglip(siglip, tmp_path):
    """Every tensor of a SiglipModel comes to its place, in the names of timm and of open_clip's text tower."""
    model = folder_of(tmp_path, siglip_config(), siglip_as_transformers(siglip.state_dict()))
    source = architecture.find(model, None)
    assert source.config["vision_cfg"]["timm_model_name"] == "vit_small_patch8_siglip_16"
    assert source.image == {
        "image_mean": (0.5,) * 3, "image_std": (0.5,) * 3, "interpolation": "bicubic", "resize_mode": "squash"
    }  # fmt: skip
    with torch.device("meta"):
        towers = siglip_towers(model, siglip_config())
    fill(towers, read_weights(source.weights).state, "weights", model)
    same(towers, siglip)
    images, tokens = torch.randn(2, 3, 16, 16), torch.randint(0, 100, (3, 12))
    assert torch.equal(towers.encode_text(tokens), siglip.encode_text(tokens))
    assert torch.equal(towers.encode_image(images), siglip.encode_image(images))


def test_siglip_in_transformers_gives_the_same_features(siglip, tmp_path):
    transformers = pytest.importorskip("transformers")
    config = siglip_config()
    theirs = transformers.SiglipModel(
        transformers.SiglipConfig(text_config=config["text_config"], vision_config=config["vision_config"])
    )
    randomised(theirs).save_pretrained(tmp_path)
    towers = siglip_towers("folder", json.loads((tmp_path / "config.json").read_text()))
    fill(towers.eval(), read_weights(tmp_path / "model.safetensors").state, "weights", "folder")
    images, tokens = torch.randn(2, 3, 16, 16), torch.randint(0, 100, (3, 12))
    torch.testing.assert_close(towers.encode_text(tokens), pooled(theirs.get_text_features(tokens)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(towers.encode_image(images), pooled(theirs.get_image_features(images)), rtol=1e-5, atol=1e-5)
    assert towers.logit_bias.item() == theirs.logit_bias.item()


@pytest.mark.parametrize(
    ("text", "act"),
    [({}, "quick_gelu"), ({}, "gelu"), ({}, "gelu_pytorch_tanh"), ({"vocab_size": 90, "eos_token_id": 50}, "quick_gelu")],
)
def test_clip_in_transformers_gives_the_same_features(tmp_path, text, act):
    transformers = pytest.importorskip("transformers")
    ours = clip_config()
    for part in ("text_config", "vision_config"):
        ours[part] |= {"hidden_act": act, "layer_norm_eps": 1e-4}
    ours["text_config"] |= text
    config = transformers.CLIPConfig(text_config=ours["text_config"], vision_config=ours["vision_config"], projection_dim=32)
    theirs = randomised(transformers.CLIPModel(config))
    theirs.save_pretrained(tmp_path)
    source = architecture.find(f"local-dir:{tmp_path}", None)
    assert source.tokenizer.kind == ("hf" if text else "simple")
    towers = build(source.config).eval()
    fill(towers, read_weights(source.weights).state, "weights", "folder")
    eos = ours["text_config"]["eos_token_id"]
    tokens = torch.randint(3, min(eos, 40), (3, 28))
    tokens[torch.arange(3), torch.tensor([5, 9, 27])] = eos
    images = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(towers.encode_text(tokens), pooled(theirs.get_text_features(tokens)), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(towers.encode_image(images), pooled(theirs.get_image_features(images)), rtol=1e-5, atol=1e-5)


def pooled(output):
    """The features, which newer versions of transformers wrap."""
    return getattr(output, "pooler_output", output)
