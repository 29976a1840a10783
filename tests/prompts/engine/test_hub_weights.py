"""Repositories of the hub in open_clip's and transformers' format, with the downloads replaced by folders."""

import json
import shutil

import pytest
import torch
from huggingface_hub import errors
from layouts_by_hand import clip_as_transformers, clip_config
from safetensors.torch import save_file
from sizes import SMALL

from prompts.engine import hub
from prompts.engine.clip import build, load_clip
from runs.identity import digest_of

PROCESSOR = {"size": {"height": 16, "width": 16}, "do_center_crop": False, "resample": 2, "image_mean": [0.1, 0.2, 0.3]}


@pytest.fixture
def remote(tmp_path, monkeypatch):
    """A repository org/clip without files; a file that it does not have fails as on the hub, as open_clip hands it on."""
    folder = tmp_path / "remote"
    folder.mkdir()

    def download(hub_id, filename="open_clip_pytorch_model.bin"):
        assert hub_id == "org/clip"
        if not (folder / filename).exists():
            try:
                raise errors.EntryNotFoundError(filename)
            except errors.EntryNotFoundError as error:
                raise FileNotFoundError(f"Failed to download file ({filename}). Last error: {error}")  # noqa: B904 - as there
        return str(folder / filename)

    monkeypatch.setattr(hub, "download_pretrained_from_hf", download)
    return folder


@pytest.fixture(scope="module")
def tensors():
    return {name: tensor.contiguous() for name, tensor in clip_as_transformers(build(SMALL).state_dict()).items()}


def in_parts(folder, tensors):
    names = sorted(tensors)
    parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, held in parts.items():
        save_file({name: tensors[name] for name in held}, folder / file)
    index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("several", [False, True])
def test_a_repository_of_transformers(remote, tensors, several):
    (remote / "config.json").write_text(json.dumps(clip_config()))
    (remote / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    if several:
        in_parts(remote, tensors)
    else:
        save_file(tensors, remote / "model.safetensors")
    clip, expected = load_clip("hf-hub:org/clip"), build(SMALL).state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in clip.model.state_dict().items())
    assert (clip.image_spec["mean"], clip.image_spec["resize_mode"]) == ((0.1, 0.2, 0.3), "squash")


def test_open_clips_format_goes_first(remote, tensors):
    for name, content in {"config.json": clip_config(), "open_clip_config.json": {"model_cfg": SMALL}}.items():
        (remote / name).write_text(json.dumps(content))
    save_file(tensors, remote / "model.safetensors")
    torch.save(build(SMALL).state_dict(), remote / "open_clip_pytorch_model.bin")
    assert load_clip("hf-hub:org/clip").image_spec["mean"][0] == pytest.approx(0.4815, abs=1e-4)


def test_a_repository_without_weights_or_config_is_a_sentence(remote):
    with pytest.raises(ValueError, match="hf-hub:org/clip cannot be downloaded, the hub is out of reach or has no such id"):
        load_clip("hf-hub:org/clip")
    (remote / "config.json").write_text(json.dumps(clip_config()))
    with pytest.raises(ValueError, match="hf-hub:org/clip has no weights named model.safetensors or the like"):
        load_clip("hf-hub:org/clip")


def test_a_processor_that_cannot_be_fetched_is_never_replaced(remote, tensors, monkeypatch):
    """Only where the hub says that it has none, the type's own stands in."""
    (remote / "config.json").write_text(json.dumps(clip_config()))
    save_file(tensors, remote / "model.safetensors")
    load_clip("hf-hub:org/clip")
    download = hub.download_pretrained_from_hf

    def offline(hub_id, filename="open_clip_pytorch_model.bin"):
        if "processor" in filename:
            raise FileNotFoundError("no network")
        return download(hub_id, filename)

    monkeypatch.setattr(hub, "download_pretrained_from_hf", offline)
    with pytest.raises(ValueError, match="cannot be downloaded, the hub is out of reach"):
        load_clip("hf-hub:org/clip")


def test_all_that_is_read_of_a_folder_is_in_its_digest(tmp_path, tensors):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(clip_config()))
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR))
    for name in ("tokenizer", "open_clip_config"):
        (folder / f"{name}.json").write_text("{}")
    for name in ("tower", "org/tower"):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text("{}")
    in_parts(folder, tensors)
    digests = {digest_of(f"local-dir:{folder}")}
    shutil.copytree(folder, tmp_path / "copy")
    assert digests == {digest_of(str(tmp_path / "copy"))}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    assert len(files) == 9
    for file in files:
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        digests.add(digest_of(f"local-dir:{folder}"))
        file.write_bytes(content)
    assert len(digests) == 1 + len(files)
