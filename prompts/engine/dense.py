"""Dense features of an image tower: maps of its patches or stages, patches in the joint space, images of other sizes.

Shapes: B images, h x w patches or positions of a map, D width of the tower, d width of the shared embedding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.modified_resnet import AttentionPool2d, ModifiedResNet
from torch import Tensor

from prompts.engine.blocks import linear, merge_heads, split_heads
from prompts.engine.image_tower import ImageTower, OpaqueImageTower
from prompts.engine.rows import NO_PROMPTS, TowerPrompts

STRIDE = 32  # of a ResNet's last stage, in pixels


@dataclass(frozen=True)
class DenseFeatures:
    """Features of a batch, float32, un-normalised.

    `pooled` (B,d) is the result of `encode_image`. `projected` (B,d,h,w) are the last block's patches in the joint space; None
    where the tower cannot project patches, as with attention pooling by learned queries. `maps` holds the output (B,D,h,w) of
    each block (or stage), without CLS, registers and prompts.
    """

    pooled: Tensor
    projected: Tensor | None
    maps: dict[int, Tensor]


def dense_features(
    tower: ImageTower | OpaqueImageTower,
    images: Tensor,
    blocks: Sequence[int] = (),
    prompts: TowerPrompts = NO_PROMPTS,
    recompute: bool = False,
    class_embedding_twice: bool = False,
) -> DenseFeatures:
    """The dense features of images (B,3,H,W). `blocks` count from 0, or from the end where negative.

    `class_embedding_twice` adds the class embedding of CLIP's own vision transformer to its row a second time, as DenseCLIP's
    released code does; the features then differ from those that CLIP was trained for.

    Raises:
        ValueError: a block that the tower lacks, a size that it cannot take, prompts for a tower that takes none, or a tower
            that gives no maps, or has no class embedding of its own.
    """
    if class_embedding_twice:
        tower = _with_class_embedding_twice(tower)
    if isinstance(tower, ImageTower):
        return _of_transformer(tower, images, blocks, prompts, recompute)
    tower.check_prompts(prompts)
    if isinstance(tower.module, ModifiedResNet):
        return _of_resnet(tower.module, images, blocks)
    return _of_timm(tower, images, blocks)


def _with_class_embedding_twice(tower: Any) -> ImageTower:
    row = tower.patches.class_row if isinstance(tower, ImageTower) else None
    if row is None:
        raise ValueError(
            "method.class_embedding_twice is for CLIP's own vision transformers, and this image tower is none: give false."
        )

    def twice(embed: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        def embedded(images: Tensor) -> Tensor:
            x = embed(images)
            return torch.cat([x[:, :1] + row.float(), x[:, 1:]], 1)

        return embedded

    return replace(tower, embed=twice(tower.embed), patches=replace(tower.patches, embed=twice(tower.patches.embed)))


def _wanted(blocks: Sequence[int], count: int, what: str) -> dict[int, int]:
    """{block as given: its number from 0}. ValueError for a block that does not exist."""
    for block in blocks:
        if isinstance(block, bool) or not isinstance(block, int) or not -count <= block < count:
            raise ValueError(
                f"blocks={list(blocks)}: {block} is none of the {count} {what} of this image tower, 0 to {count - 1}."
            )
    return {block: block % count for block in blocks}


def _check_size(images: Tensor, unit: tuple[int, int], why: str) -> None:
    """ValueError where the images' sides are no multiples of `unit`."""
    height, width = images.shape[-2:]
    if height < unit[0] or width < unit[1] or height % unit[0] or width % unit[1]:
        raise ValueError(
            f"images of {height} x {width} pixels do not fit {why} of {unit[0]} x {unit[1]}: "
            "give sides that are multiples of it."
        )


def resized(positions: Tensor, old: tuple[int, int], new: tuple[int, int], mode: str = "bicubic") -> Tensor:
    """Positional embeddings (1+N,D), the first of which has no place, for another grid: (1+N',D). The mode "bicubic" is with
    antialiasing, as open_clip resizes a vision transformer's when it loads one. The same tensor where the grid is the same."""
    if old == new:
        return positions
    grid = positions[1:].T.reshape(1, -1, *old)
    grid = F.interpolate(grid, new, mode=mode, antialias=mode == "bicubic", align_corners=False)
    return torch.cat([positions[:1], grid.flatten(2)[0].T])


def _of_transformer(
    tower: ImageTower, images: Tensor, blocks: Sequence[int], prompts: TowerPrompts, recompute: bool
) -> DenseFeatures:
    patches, count = tower.patches, len(tower.blocks)
    wanted = _wanted(blocks, count, "blocks")
    _check_size(images, patches.size, "patches")
    h, w = grid = (images.shape[-2] // patches.size[0], images.shape[-1] // patches.size[1])
    if grid != patches.grid:
        tower = replace(tower, embed=patches.embed, blocks=[block.at(grid) for block in tower.blocks])

    def as_map(x: Tensor) -> Tensor:
        return x[:, patches.first : patches.first + h * w].transpose(1, 2).unflatten(2, (h, w)).float()

    kept: dict[int, Tensor] = {}
    x = tower.run(images, prompts, recompute, keep=lambda i, x: kept.update({i: x}) if i in wanted.values() else None)
    projected = None if patches.project is None else as_map(patches.project(x))
    return DenseFeatures(tower.project(x), projected, {given: as_map(kept[block]) for given, block in wanted.items()})


def _of_resnet(visual: ModifiedResNet, images: Tensor, blocks: Sequence[int]) -> DenseFeatures:
    """Maps of the stages at strides 4, 8, 16 and 32."""
    stages = (visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    wanted = _wanted(blocks, len(stages), "stages")
    _check_size(images, (STRIDE, STRIDE), "the stride")
    x, outputs = visual.stem(images), []
    for stage in stages:
        x = stage(x)
        outputs.append(x)
    h, w = x.shape[-2:]
    rows = pooled_everywhere(visual.attnpool, x)
    projected = rows[:, 1:].transpose(1, 2).unflatten(2, (h, w))
    return DenseFeatures(rows[:, 0], projected, {given: outputs[stage].float() for given, stage in wanted.items()})


def pooled_everywhere(pool: AttentionPool2d, x: Tensor) -> Tensor:
    """Attention pooling with every position as a query: (B,D,h,w) -> (B,1+hw,d), the pooled feature first, float32. Positions
    are resized bilinearly, as in DenseCLIP (Rao et al., CVPR 2022, arXiv 2112.01518)."""
    side = round((len(pool.positional_embedding) - 1) ** 0.5)
    with torch.autocast(x.device.type, enabled=False):
        positions = resized(pool.positional_embedding.float(), (side, side), (x.shape[-2], x.shape[-1]), "bilinear")
        rows = x.float().flatten(2).transpose(1, 2)
        rows = torch.cat([rows.mean(1, keepdim=True), rows], 1) + positions
        layers = (pool.q_proj, pool.k_proj, pool.v_proj)
        q, k, v = (split_heads(linear(rows, layer.weight, layer.bias), pool.num_heads) for layer in layers)
        return pool.c_proj(merge_heads(F.scaled_dot_product_attention(q, k, v)))


def _of_timm(tower: OpaqueImageTower, images: Tensor, blocks: Sequence[int]) -> DenseFeatures:
    """Maps from timm's own feature extraction."""
    trunk = getattr(tower.module, "trunk", None)
    stages = getattr(trunk, "feature_info", None)
    if not hasattr(trunk, "forward_intermediates") or not stages:
        raise ValueError(
            f"this CLIP's image tower is {tower.kind}, which gives no maps of its features: use a ViT or a ResNet."
        )
    wanted = _wanted(blocks, len(stages), "stages")
    try:
        out = tower.module.forward_intermediates(images, indices=sorted(set(wanted.values())) or [len(stages) - 1])
    except (AssertionError, RuntimeError) as error:
        height, width = images.shape[-2:]
        raise ValueError(
            f"{tower.kind} takes no images of {height} x {width} pixels: {str(error)[:120] or 'see timm'}."
        ) from error
    by_stage = dict(zip(sorted(set(wanted.values())), out["image_intermediates"], strict=False))
    return DenseFeatures(out["image_features"].float(), None, {given: by_stage[s].float() for given, s in wanted.items()})
