"""What files say about images: open_clip's preprocess_cfg, tags and transformers' processors, as image specs or a sentence."""

import json

import open_clip
import pytest
from layouts_by_hand import clip_config
from sizes import SMALL

from prompts.engine import architecture, hub
from prompts.engine.clip import load_clip
from prompts.engine.preprocessing import PROCESSORS, of_transformers

CLIP_PROCESSOR = {
    "crop_size": {"height": 16, "width": 16},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": [0.4, 0.5, 0.6],
    "image_std": [0.1, 0.2, 0.3],
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 16},
}


def spec(interpolation, resize_mode):
    return {
        "image_mean": (0.4, 0.5, 0.6),
        "image_std": (0.1, 0.2, 0.3),
        "interpolation": interpolation,
        "resize_mode": resize_mode,
    }


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("bicubic", "shortest")),
        ({"resample": 2}, ("bilinear", "shortest")),
        ({"size": 16, "crop_size": 16}, ("bicubic", "shortest")),  # as files of old versions write it
        ({"size": {"height": 16, "width": 16}}, ("bicubic", "squash")),
        ({"size": {"height": 16, "width": 16}, "do_center_crop": False, "crop_size": None}, ("bicubic", "squash")),
    ],
)
def test_transformers_processors(change, expected):
    data = CLIP_PROCESSOR | change
    assert of_transformers(data, "clip", 16) == spec(*expected)
    assert of_transformers({"image_processor": data, "processor_class": "CLIPProcessor"}, "clip", 16) == spec(*expected)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_the_types_own_processors_are_transformers_own(kind):
    transformers = pytest.importorskip("transformers")
    names = {"clip": "CLIPImageProcessor", "siglip": "SiglipImageProcessor"}
    data = json.loads(getattr(transformers, names[kind])().to_json_string())
    assert of_transformers(data, kind, 224) == PROCESSORS[kind] == of_transformers(None, kind, 224)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": {"shortest_edge": 20}}, r"its processor makes images of \[20, 16, 16\] pixels, its image tower wants 16"),
        ({"crop_size": {"height": 8, "width": 16}}, "pixels, its image tower wants 16"),
        ({"do_center_crop": False}, "crops nothing, which leaves no square"),
        ({"do_center_crop": "no"}, "do_center_crop is neither"),
        ({"resample": 0}, "resample is 0, neither 2"),
        ({"resample": True}, "resample is True"),
        ({"do_normalize": False}, "do_normalize=False, without which"),
        ({"do_rescale": None}, "do_rescale=None, without which"),
        ({"rescale_factor": 1}, "rescale_factor is not 1/255"),
        ({"image_mean": [0.5]}, "image mean is not three numbers"),
        ({"image_std": [0.5, 0, 0.5]}, "image std is not three numbers"),
        ({"size": "large"}, "pixels, its image tower wants 16"),
        ({"size": {}}, "pixels, its image tower wants 16"),
        ({"size": [16, 16]}, "pixels, its image tower wants 16"),
    ],
)
def test_a_processor_that_does_something_else_is_a_sentence(tmp_path, change, message):
    (tmp_path / "config.json").write_text(json.dumps(clip_config()))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(CLIP_PROCESSOR | change))
    with pytest.raises(ValueError, match=f"the images of clip.model=.* cannot be prepared: .*{message}") as caught:
        architecture.find(f"local-dir:{tmp_path}", "random")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[]", "3", "{", '{"image_processor": 3}'])
def test_a_processor_that_is_no_object_is_a_sentence(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(clip_config()))
    (tmp_path / "processor_config.json").write_text(content)
    with pytest.raises(ValueError, match="is no object|is not JSON"):
        architecture.find(f"local-dir:{tmp_path}", "random")


def folder_of(tmp_path, **pixels):
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": SMALL, "preprocess_cfg": pixels}))
    return f"local-dir:{tmp_path}"


@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear", "random"])
def test_open_clips_preprocessing_reaches_the_clip(tmp_path, interpolation, resize_mode):
    pixels = {"size": [16, 16], "mode": "RGB", "mean": [0.4, 0.5, 0.6], "std": [0.1, 0.2, 0.3], "fill_color": 0}
    model = folder_of(tmp_path, interpolation=interpolation, resize_mode=resize_mode, **pixels)
    assert load_clip(model, "random").image_spec == {
        "size": 16,
        "mean": (0.4, 0.5, 0.6),
        "std": (0.1, 0.2, 0.3),
        "interpolation": "bicubic" if interpolation == "random" else interpolation,
        "resize_mode": resize_mode,
    }


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        ({"size": 224}, "its images have 224 pixels a side, its image tower is made for 16"),
        ({"size": "16"}, "its images have '16' pixels a side"),
        ({"interpolation": "nearest"}, "image interpolation is 'nearest', not one of bicubic, bilinear, random"),
        ({"interpolation": ["bicubic"]}, "image interpolation is"),
        ({"resize_mode": "x" * 10**6}, "image resize_mode is 'xxx"),
        ({"fill_color": 128}, "bars that are not black"),
        ({"mode": "L"}, "or are no RGB"),
    ],
)
def test_open_clips_preprocessing_that_is_none_is_a_sentence(tmp_path, pixels, message):
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(folder_of(tmp_path, **pixels), "random")
    assert len(str(caught.value)) < 500


def test_what_nobody_says_is_as_in_open_clip(tmp_path):
    theirs = open_clip.transform.PreprocessCfg()
    ours = load_clip(folder_of(tmp_path), "random").image_spec
    assert ours == {"size": 16} | {key: getattr(theirs, key) for key in ("mean", "std", "interpolation", "resize_mode")}


def test_every_tag_of_open_clips_has_a_spec(monkeypatch):
    monkeypatch.setattr(hub, "download_pretrained", lambda tag: "/nowhere")
    modes = set()
    for model, tag in open_clip.list_pretrained():
        entry = open_clip.get_pretrained_cfg(model, tag)
        image = architecture.find(model, tag).image
        assert image == {
            "image_mean": entry["mean"],
            "image_std": entry["std"],
            "interpolation": entry["interpolation"],
            "resize_mode": entry["resize_mode"],
        }
        modes.add((image["interpolation"], image["resize_mode"]))
    assert len(modes) >= 4
