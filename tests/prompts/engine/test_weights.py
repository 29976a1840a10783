"""Every way weights come in, and what is refused where they or their activation are not said."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from sizes import RESNET, SMALL
from torch import nn

from prompts.engine import architecture, hub
from prompts.engine.clip import FrozenCLIP, build, load_clip


@pytest.fixture
def files(tmp_path):
    """A small CLIP's config and weights on disk; -> (config path, weights path, model)"""
    model = build(SMALL)
    config, weights = tmp_path / "config.json", tmp_path / "weights.safetensors"
    config.write_text(json.dumps(SMALL))
    save_file(model.state_dict(), weights)
    return str(config), str(weights), model.eval()


class Node(nn.Module):
    """Any tree of tensors as a module that TorchScript can save."""

    def __init__(self, tensors):
        super().__init__()
        children = {}
        for name, tensor in tensors.items():
            head, _, tail = name.partition(".")
            if tail:
                children.setdefault(head, {})[tail] = tensor
            else:
                self.register_buffer(head, tensor)
        for name, part in children.items():
            self.add_module(name, Node(part))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def openai_archive(model, path):
    """What OpenAI ships: TorchScript, float16 matrices, three integers beside the weights."""
    state = {k: v.half() if v.dim() > 1 else v for k, v in model.state_dict().items()}
    sizes = {"input_resolution": 16, "context_length": 28, "vocab_size": 49408}
    torch.jit.script(Node(state | {k: torch.tensor(v) for k, v in sizes.items()})).save(path)
    return state


def same_weights(clip, state):
    ours = clip.model.state_dict()
    assert ours.keys() == state.keys()
    assert all(torch.equal(ours[k], v.float()) for k, v in state.items())
    assert all(v.dtype == torch.float32 for v in ours.values())


def test_weights_from_safetensors_and_state_dicts(files, tmp_path):
    config, weights, model = files
    same_weights(load_clip(config, weights), model.state_dict())
    wrapped = tmp_path / "training.pt"
    torch.save({"state_dict": {f"module.{k}": v for k, v in model.state_dict().items()}, "epoch": 3}, wrapped)
    same_weights(load_clip(config, str(wrapped)), model.state_dict())
    images = torch.randn(1, 3, 16, 16)
    torch.testing.assert_close(
        load_clip(config, weights).encode_image(images), model.encode_image(images), rtol=1e-4, atol=1e-5
    )


@pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning")
def test_weights_from_openais_archive(tmp_path):
    model = build(SMALL)
    state = openai_archive(model, tmp_path / "ViT.pt")
    config = tmp_path / "config.json"
    config.write_text(json.dumps({key: value for key, value in SMALL.items() if key != "quick_gelu"}))
    clip = load_clip(str(config), str(tmp_path / "ViT.pt"))
    same_weights(clip, state)
    assert clip.identity["activation"] == "quickgelu"  # OpenAI's have it


def test_compact_token_rows(files, tmp_path):
    config, _, model = files
    state = model.state_dict()
    rows = torch.tensor([320, 2368, 49406, 49407])
    full = state.pop("token_embedding.weight")
    compact = tmp_path / "compact.safetensors"
    save_file(state | {"token_embedding.rows": rows, "token_embedding.weight": full[rows].contiguous()}, compact)
    embedding = load_clip(config, str(compact)).model.token_embedding.weight
    assert torch.equal(embedding[rows], full[rows])
    torch.testing.assert_close(embedding[7], full[rows].mean(0))


def test_random_weights_are_always_the_same(files):
    config, _, _ = files
    first, second = load_clip(config, "random"), load_clip(config, "random")
    same_weights(first, second.model.state_dict())


def test_tags_decide_the_activation_and_the_file(files, monkeypatch):
    _, weights, model = files
    pixels = {"mean": (0.1, 0.2, 0.3), "std": (1.0, 1.0, 1.0), "interpolation": "bilinear", "resize_mode": "squash"}
    tag = {"quick_gelu": True} | pixels
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(SMALL | {"quick_gelu": False})))
    monkeypatch.setattr(architecture, "get_pretrained_cfg", lambda name, tag_name: tag if tag_name == "openai" else {})
    monkeypatch.setattr(hub, "download_pretrained", lambda cfg: weights)
    clip = load_clip("ViT-small", "openai")
    same_weights(clip, model.state_dict())
    assert clip.image_spec == {"size": 16} | pixels


def test_hub_ids_bring_config_and_weights(files, tmp_path, monkeypatch):
    _, weights, model = files
    config = tmp_path / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": SMALL, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3}}))
    fetched = lambda model_id, filename=None: str(config) if filename else weights  # noqa: E731
    monkeypatch.setattr(hub, "download_pretrained_from_hf", fetched)
    clip = load_clip("hf-hub:me/small")
    same_weights(clip, model.state_dict())
    assert clip.image_spec["mean"] == (0.5, 0.5, 0.5)


def folder_of(tmp_path, weights, name="open_clip_model.safetensors", **model_cfg):
    """A CLIP in open_clip's folder format, as clip.model names it."""
    folder = tmp_path / "folder"
    folder.mkdir(exist_ok=True)
    config = {key: value for key, value in (SMALL | model_cfg).items() if value is not None}
    content = {"model_cfg": config, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}}
    (folder / "open_clip_config.json").write_text(json.dumps(content))
    (folder / name).write_bytes(Path(weights).read_bytes())
    return f"local-dir:{folder}"


def test_folders_bring_config_and_weights(files, tmp_path):
    _, weights, model = files
    clip = load_clip(folder_of(tmp_path, weights))
    same_weights(clip, model.state_dict())
    assert clip.image_spec["mean"] == (0.5, 0.5, 0.5)
    assert clip.identity["activation"] == "quickgelu"
    plain = load_clip(folder_of(tmp_path, weights, quick_gelu=None))  # in such a folder no word means GELU
    assert plain.identity["activation"] == "gelu"


def test_a_folder_without_weights_is_refused(files, tmp_path):
    _, weights, _ = files
    model = folder_of(tmp_path, weights, name="epoch_latest.dat")
    with pytest.raises(ValueError, match="holds no weights named open_clip_model.safetensors or the like"):
        load_clip(model)
    assert load_clip(model, weights).identity == load_clip(folder_of(tmp_path, weights)).identity


def test_weights_are_random_only_where_that_is_said(files):
    for model in (files[0], "ViT-B-16-quickgelu"):
        with pytest.raises(ValueError, match="brings no weights: give clip.weights=FILE, .* or random"):
            load_clip(model)


def test_an_activation_that_nobody_says_is_refused(files, tmp_path, monkeypatch):
    _, weights, _ = files
    silent = tmp_path / "silent.json"
    silent.write_text(json.dumps({key: value for key, value in SMALL.items() if key != "quick_gelu"}))
    monkeypatch.setattr(open_clip, "get_model_config", lambda name: json.loads(json.dumps(SMALL)))
    for model in (str(silent), "ViT-small-quickgelu"):  # of a name the weights may come from anywhere
        with pytest.raises(ValueError, match="do not say .* add clip.activation=quickgelu .* or clip.activation=gelu"):
            load_clip(model, weights)
        for activation in ("quickgelu", "gelu"):
            assert load_clip(model, weights, activation=activation).identity["activation"] == activation


@pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning")
def test_what_contradicts_itself_is_refused(files, tmp_path):
    config, weights, model = files
    with pytest.raises(ValueError, match="clip.activation=gelu, but .*config.json has quickgelu: leave it out"):
        load_clip(config, weights, activation="gelu")
    with pytest.raises(ValueError, match="clip.activation=relu: choose quickgelu or gelu"):
        load_clip(config, weights, activation="relu")
    archive = tmp_path / "ViT.pt"
    openai_archive(model, archive)
    silent, other = tmp_path / "silent.json", tmp_path / "gelu.json"
    silent.write_text(json.dumps({key: value for key, value in SMALL.items() if key != "quick_gelu"}))
    other.write_text(json.dumps(SMALL | {"quick_gelu": False}))
    with pytest.raises(ValueError, match="clip.activation=gelu, but .*ViT.pt has quickgelu"):
        load_clip(str(silent), str(archive), activation="gelu")
    with pytest.raises(ValueError, match="is OpenAI's, with QuickGELU, but .*gelu.json says GELU"):
        load_clip(str(other), str(archive))
    torch.jit.script(Node(model.state_dict())).save(tmp_path / "mine.pt")  # TorchScript alone does not make it OpenAI's
    with pytest.raises(ValueError, match="do not say"):
        load_clip(str(silent), str(tmp_path / "mine.pt"))


def test_the_identity_is_that_of_the_weights_wherever_they_lie(files, tmp_path):
    config, weights, model = files
    identity = load_clip(config, weights).identity
    assert identity == FrozenCLIP(build(SMALL)).identity
    assert identity["architecture"].startswith("ViT/8 of 3 x 96, 2 heads, 16 pixels; text 3 x 64, 4 heads, 28 positions")
    half = tmp_path / "half.safetensors"
    save_file({key: value.half() for key, value in model.state_dict().items()}, half)
    assert load_clip(config, str(half)).identity == identity  # OpenAI's float16 file and its float32 copy
    stored = load_clip(config, weights)
    stored.store_bf16()
    assert stored.identity == identity
    changes = {"heads": 2}, {"heads": 4}
    by_heads = [FrozenCLIP(build(SMALL | {"text_cfg": SMALL["text_cfg"] | change})).identity for change in changes]
    assert by_heads[0]["architecture"] != by_heads[1]["architecture"]
    assert by_heads[0]["weights"] == by_heads[1]["weights"]
    other = FrozenCLIP(build(SMALL))
    other.model.visual.transformer.resblocks[0].mlp.c_fc.bias.data[0] += 0.01
    assert other.identity["weights"] != identity["weights"]
    assert FrozenCLIP(build(RESNET)).identity["architecture"].startswith("ResNet of [1, 1, 1, 1] x 8")


@pytest.mark.parametrize(
    ("model", "weights", "message"),
    [
        ("ViT-Z", None, "open_clip knows no architecture 'ViT-Z'"),
        ("ViT-B-16-quickgelu", "opnai", r"neither a file nor a tag of ViT-B-16-quickgelu \(its tags: .*openai"),
        ("nowhere.json", None, "the CLIP model config nowhere.json cannot be read"),
        ("ViT-B-16-quickgelu", "openai", "out of reach: give a local file .* or use clip=tiny"),
        ("hf-hub:nobody/nothing", None, "hf-hub:nobody/nothing cannot be downloaded.*clip=tiny"),
    ],
)
def test_what_cannot_be_had_is_one_sentence(model, weights, message, monkeypatch):
    def unreachable(*_, **__):
        raise FileNotFoundError("Failed to download file")

    for fetch in ("download_pretrained", "download_pretrained_from_hf"):
        monkeypatch.setattr(hub, fetch, unreachable)
    with pytest.raises(ValueError, match=message):
        load_clip(model, weights)


def test_files_that_do_not_fit(files, tmp_path):
    config, weights, model = files
    (tmp_path / "torn.safetensors").write_bytes((tmp_path / "weights.safetensors").read_bytes()[:1000])
    with pytest.raises(ValueError, match="cannot be read .* is the file complete"):
        load_clip(config, str(tmp_path / "torn.safetensors"))
    (tmp_path / "other.json").write_text(json.dumps(SMALL | {"embed_dim": 48}))
    with pytest.raises(ValueError, match="do not fit the architecture.*first visual.proj|first text_projection"):
        load_clip(str(tmp_path / "other.json"), weights)
