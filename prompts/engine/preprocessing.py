"""The preprocessing of a CLIP, read from its files: open_clip's `preprocess_cfg`, or transformers' `preprocessor_config.json`.

An image spec has `image_mean` and `image_std` (three numbers each, of pixels between 0 and 1), `interpolation` (bicubic or
bilinear) and `resize_mode`: shortest (the shorter side resized, then a centre crop), squash (both sides, the shape changes) or
longest (the longer side, then black bars).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

INTERPOLATIONS = ("bicubic", "bilinear")
RESIZE_MODES = ("shortest", "squash", "longest")
RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers, which transformers writes
# The defaults of transformers' processors by type of model, for files without a processor's config
PROCESSORS: dict[str, dict[str, Any]] = {
    "clip": {
        "image_mean": OPENAI_DATASET_MEAN,
        "image_std": OPENAI_DATASET_STD,
        "interpolation": "bicubic",
        "resize_mode": "shortest",
    },
    "siglip": {
        "image_mean": (0.5,) * 3,
        "image_std": (0.5,) * 3,
        "interpolation": "bicubic",
        "resize_mode": "squash",
    },
}
STEPS = {"do_resize": True, "do_rescale": True, "do_normalize": True}  # all that a CLIP's processor must do


class Unfit(Exception):
    """The reason, as a phrase, why a config does not describe a CLIP that can be used here."""


def of_open_clip(pixels: Mapping[str, Any], image_size: int | list[int]) -> dict[str, Any]:
    """The image spec of open_clip's `preprocess_cfg` (or of a tag's entry), as far as it has one.

    Raises:
        Unfit: a value that is none, or a size other than the image tower's.
    """
    image: dict[str, Any] = _colours({key: pixels[key] for key in ("mean", "std") if key in pixels})
    if (size := pixels.get("size")) is not None and _sides(size) != _sides(image_size):
        raise Unfit(f"its images have {_shown(size)} pixels a side, its image tower is made for {_shown(image_size)}")
    for key, allowed in (("interpolation", (*INTERPOLATIONS, "random")), ("resize_mode", RESIZE_MODES)):
        if (value := pixels.get(key)) is not None:
            if value not in allowed:
                raise Unfit(f"image {key} is {_shown(value)}, not one of {', '.join(allowed)}")
            # as open_clip does: at random only where it trains
            image[key] = "bicubic" if value == "random" else value
    if pixels.get("fill_color") not in (None, 0) or pixels.get("mode") not in (None, "RGB"):
        raise Unfit("its images have bars that are not black or are no RGB")
    return image


def of_transformers(data: Any, model_type: str, image_size: int) -> dict[str, Any]:
    """The image spec of transformers' processor of a `model_type` in `PROCESSORS`.

    Args:
        data: the processor's config, or None for what the type of model has by default.

    Raises:
        Unfit: the processor does something else with images than a resize mode here, or for another size.
    """
    image = dict(PROCESSORS[model_type])
    if data is None:
        return image
    data = data.get("image_processor", data) if isinstance(data, dict) else data
    if not isinstance(data, dict):
        raise Unfit("its processor's config is no object")
    for key, wanted in STEPS.items():
        if data.get(key, True) is not wanted:
            raise Unfit(f"its processor has {key}={_shown(data[key])}, without which no CLIP here is trained")
    factor = data.get("rescale_factor", 1 / 255)
    if type(factor) not in (int, float) or abs(factor * 255 - 1) > 1e-3:
        raise Unfit("its processor's rescale_factor is not 1/255")
    image |= _colours({key: data[f"image_{key}"] for key in ("mean", "std") if data.get(f"image_{key}") is not None})
    if (resample := data.get("resample")) is not None:
        if type(resample) is not int or resample not in RESAMPLE:
            raise Unfit(f"its processor's resample is {_shown(resample)}, neither 2 (bilinear) nor 3 (bicubic)")
        image["interpolation"] = RESAMPLE[resample]
    if "size" in data:
        image["resize_mode"] = _resize_mode(data, image_size, crops=model_type == "clip")
    return image


def _resize_mode(data: dict[str, Any], image_size: int, crops: bool) -> str:
    """`crops`: whether this type of processor crops where the config does not say."""
    size, crops = data["size"], data.get("do_center_crop", crops)
    if type(crops) is not bool:
        raise Unfit("its processor's do_center_crop is neither true nor false")
    if isinstance(size, dict):
        shortest = size.get("shortest_edge")
        sides = [shortest] if shortest is not None else [size.get("height"), size.get("width")]
    else:
        sides, shortest = [size], size  # of old files, the shorter side
    crop = data.get("crop_size", image_size)
    crop = [crop.get("height"), crop.get("width")] if isinstance(crop, dict) else [crop]
    asked = [*sides, *(crop if crops else ())]
    if any(type(value) is not int or value != image_size for value in asked):
        raise Unfit(f"its processor makes images of {_shown(asked)} pixels, its image tower wants {image_size}")
    if shortest is not None and not crops:
        raise Unfit("its processor resizes the shorter side and crops nothing, which leaves no square")
    return "shortest" if shortest is not None else "squash"


def _colours(pixels: Mapping[str, Any]) -> dict[str, tuple[float, ...]]:
    """`image_mean` and `image_std` from `mean` and `std`."""
    for key, value in pixels.items():
        if not _is_colour(value) or (key == "std" and min(value) <= 0):
            raise Unfit(f"image {key} is not three numbers")
    return {f"image_{key}": tuple(map(float, value)) for key, value in pixels.items()}


def _is_colour(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 3 and all(type(v) in (int, float) and abs(v) < 1e6 for v in value)


def _sides(size: Any) -> list[Any]:
    return list(size) if isinstance(size, list | tuple) else [size, size]


def _shown(value: Any) -> str:
    return repr(value)[:80]
