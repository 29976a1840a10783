"""Loads weights into a model of open_clip's. Where they do not fit, the error names open_clip's architectures that they do fit.

Shapes: W width of a tower, d width of the shared embedding.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, NamedTuple

import open_clip
import timm
import torch
from torch import Tensor, nn

from prompts.engine.layouts import State, as_expected, in_open_clips_names, plain

# The options of clip= by what they stand for (conf/clip)
OPTIONS = {
    "RN50-quickgelu": "rn50",
    "RN101-quickgelu": "rn101",
    "RN50x4-quickgelu": "rn50x4",
    "RN50x16-quickgelu": "rn50x16",
    "ViT-B-32-quickgelu": "vit_b32",
    "ViT-B-16-quickgelu": "vit_b16",
    "ViT-L-14-quickgelu": "vit_l14",
    "ViT-L-14-336-quickgelu": "vit_l14_336",
}
SHOWN = 3  # names that a sentence proposes
TRUNK, HEAD = "visual.trunk.", "head"  # of an image tower of timm's; its head depends on the CLIP


class Sizes(NamedTuple):
    """The sizes of a CLIP, from the shapes of its tensors; None where they cannot be told. `layers`, `width` and `patch` are of
    the image tower, where it is open_clip's own (a ResNet has four numbers of layers and no patch); `image`: pixels a side;
    `vocab`: tokens."""

    embed_dim: int | None
    width: int | None
    layers: int | tuple[int, ...] | None
    patch: int | None
    image: int | None
    text_width: int | None
    text_layers: int | None
    context: int | None
    vocab: int | None


def fill(model: nn.Module, state: State, weights: str, name: str) -> None:
    """Assigns the tensors of a file to the model (which may be on the meta device), whatever layout they have.

    Args:
        weights: the file, for the sentence.
        name: of the architecture, for the sentence.

    Raises:
        ValueError: they do not fit; the sentence names the architectures of open_clip's that they do fit.
    """
    expected = model.state_dict()
    try:
        renamed = in_open_clips_names(state)
    except ValueError as why:
        raise ValueError(f"CLIP weights {weights} do not fit the architecture {name}: {why}.") from None
    given = as_expected(renamed, expected)
    if difference := _difference(given, expected):
        raise ValueError(
            f"CLIP weights {weights} do not fit the architecture {name}: {difference}"
            f"{_proposal(plain(renamed), plain(expected))}."
        )
    model.load_state_dict({key: tensor.contiguous() for key, tensor in given.items()}, assign=True)


def set_activation(model: nn.Module, vision_cfg: dict[str, Any]) -> None:
    """Gives an image tower of timm's the approximation of GELU that its config names, in place: open_clip hands it on to towers
    of its own alone, and transformers' SigLIPs have the tanh's."""
    how = (vision_cfg.get("act_kwargs") or {}).get("approximate")
    trunk = getattr(model.visual, "trunk", None)
    if how is None or trunk is None:
        return
    for parent in list(trunk.modules()):
        for name, child in parent.named_children():
            if isinstance(child, nn.GELU | timm.layers.GELU | timm.layers.GELUTanh):
                setattr(parent, name, nn.GELU(approximate=how))


def _kind(tensor: Tensor) -> tuple:
    return tensor.shape, tensor.is_floating_point(), tensor.is_complex()


def _difference(given: State, expected: State) -> str:
    """How the tensors differ from those of the model, as a phrase; "" where they do not."""
    if alone := _one_tower(given, expected):
        return alone
    missing = [key for key in expected if key not in given]
    other = [key for key in expected if key in given and _kind(given[key]) != _kind(expected[key])]
    unknown = [key for key in given if key not in expected]
    if not (wrong := other + missing + unknown):
        return ""
    first = wrong[0][:80]
    if other:
        first += f", which {_differs(given[other[0]], expected[other[0]])}"
    elif missing:
        first += ", which is missing"
    else:
        first += ", which the architecture does not have"
    return f"a tensor differs: {first}" if len(wrong) == 1 else f"{len(wrong)} tensors differ, first {first}"


def _differs(given: Tensor, expected: Tensor) -> str:
    if given.shape == expected.shape:
        return f"holds numbers of type {str(given.dtype).removeprefix('torch.')}"
    return f"has the shape {_shape(given)} where {_shape(expected)} belongs"


def _one_tower(given: State, expected: State) -> str:
    """A phrase where the file holds one tower alone."""
    towers = ("an image tower", "visual."), ("a text tower", "")
    found = {
        what: any(
            key.startswith("visual.") == bool(prefix) and key in expected and not key.startswith("logit_") for key in given
        )
        for what, prefix in towers
    }
    if sum(found.values()) == 1:
        (had,), (lacked,) = ([what for what in found if found[what] is here] for here in (True, False))
        return f"they hold {had} alone, without {lacked}"
    return ""


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "()"


def _proposal(state: State, expected: State) -> str:
    """The options of clip= that would fit, as the end of a sentence; "" where the sizes are those of the wanted model."""
    if sizes_of(state) == sizes_of(expected):
        return ""
    names = fitting(state)
    if not names:
        sizes = sizes_of(state)
        tower = f"an image tower of {sizes.layers} x {sizes.width} with patches of {sizes.patch} for {sizes.image} pixels, "
        text = f"a text tower of {sizes.text_layers} x {sizes.text_width}" if sizes.text_width else ""
        return f" (they hold {tower if sizes.width else ''}{text}, which no architecture of open_clip's has)" if text else ""
    ways = [f"clip={OPTIONS[name]}" for name in names if name in OPTIONS]
    ways += [f"clip=hub clip.model={name}" for name in names if name not in OPTIONS]
    return f"; by their sizes they are of {' or '.join(names[:SHOWN])}: try {' or '.join(ways[:SHOWN])}"


def sizes_of(state: State) -> Sizes:
    """The sizes of a CLIP by its tensors, in the names of open_clip's CLIP."""
    shape = {name: tuple(tensor.shape) for name, tensor in state.items()}
    projection, vocabulary = shape.get("text_projection"), shape.get("token_embedding.weight", ())
    if projection is None and "text_projection.weight" in shape:
        projection = shape["text_projection.weight"][::-1]
    context = shape.get("positional_embedding", ())
    return Sizes(  # type: ignore[call-arg]
        projection[1] if projection and len(projection) == 2 else None,
        *_image_sizes(shape),
        vocabulary[1] if len(vocabulary) == 2 else None,
        _count(shape, r"transformer\.resblocks\.(\d+)\.") or None,
        context[0] if len(context) == 2 else None,
        vocabulary[0] if len(vocabulary) == 2 else None,
    )


def _image_sizes(shape: dict[str, tuple[int, ...]]) -> tuple[Any, ...]:
    """Width, layers, patch and image size of an image tower of open_clip's own; None four times for others."""
    stem = shape.get("visual.conv1.weight", ())
    if len(stem) != 4:
        return None, None, None, None
    if "visual.attnpool.positional_embedding" in shape:
        layers = tuple(_count(shape, rf"visual\.layer{i}\.(\d+)\.") for i in range(1, 5))
        return 2 * stem[0], layers, None, 32 * _side(shape["visual.attnpool.positional_embedding"])
    positions = shape.get("visual.positional_embedding", ())
    return stem[0], _count(shape, r"visual\.transformer\.resblocks\.(\d+)\."), stem[2], stem[2] * _side(positions)


def _side(positions: tuple[int, ...]) -> int:
    """The patches a side of an image, by the shape of its positions, which are one more for the class embedding."""
    return round((max(positions[0] - 1, 0)) ** 0.5) if positions else 0


def _count(names: Iterable[str], pattern: str) -> int:
    return len({match[1] for name in names if (match := re.match(pattern, name))})


def fitting(state: State) -> list[str]:
    """The architectures of open_clip's that tensors, in the names of open_clip's CLIP, have the sizes of; best known first."""
    sizes = sizes_of(state)
    if sizes.text_width is None:
        return []
    trunk = {name.removeprefix(TRUNK): tensor.shape for name, tensor in state.items() if name.startswith(TRUNK)}
    trunk = {name: shape for name, shape in trunk.items() if not name.startswith(HEAD)}
    names = [name for name in open_clip.list_models() if _fits(open_clip.get_model_config(name), sizes, trunk)]
    return sorted(names, key=lambda name: (name not in OPTIONS, len(name)))


def _fits(config: dict[str, Any], sizes: Sizes, trunk: dict[str, torch.Size]) -> bool:
    vision, text = config["vision_cfg"], config["text_cfg"]
    named = bool(vision.get("timm_model_name"))
    if "hf_model_name" in text or named != bool(trunk):
        return False
    ours = (config["embed_dim"], text["width"], text["layers"], text.get("context_length", 77), text.get("vocab_size", 49408))
    if ours != (sizes.embed_dim, sizes.text_width, sizes.text_layers, sizes.context, sizes.vocab):
        return False
    if named:
        return _trunk_shapes(vision["timm_model_name"]).items() >= trunk.items()
    layers = tuple(vision["layers"]) if isinstance(vision["layers"], list) else vision["layers"]
    patch = None if isinstance(layers, tuple) else vision["patch_size"]
    return (vision["width"], layers, patch, vision.get("image_size", 224)) == (
        sizes.width, sizes.layers, sizes.patch, sizes.image
    )  # fmt: skip


def _trunk_shapes(name: str) -> dict[str, torch.Size]:
    """The shapes of a model of timm's, which is built without numbers."""
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in timm.create_model(name, pretrained=False).state_dict().items()}
