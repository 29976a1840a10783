"""A vision transformer's maps as a pyramid (DenseCLIP's released code; the operations are those of BEiT's segmentation).

Shapes: B images, D width, h x w patches.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.parts.rank_norm import MapNorm, Norm
from prompts.parts.training_draws import Draws

FINEST = 4  # stride of the first level, in pixels
PUBLISHED = (3, 5, 7, 11), 12  # blocks whose maps are the levels, of how many


def default_blocks(count: int) -> list[int]:
    """The blocks of a tower of `count` whose maps become the levels: the published ones of 12, in proportion."""
    blocks, of = PUBLISHED
    return [max(round((block + 1) * count / of) - 1, 0) for block in blocks]


def doublings(patch: int) -> list[int]:
    """For each level how often the grid of patches is doubled (or halved, where negative) for strides near 4, 8, 16 and 32
    pixels. One of the four is 0."""
    first = min(max(round(math.log2(patch / FINEST)), 0), 3)
    return [first - level for level in range(4)]


class Level(nn.Module):
    """Makes a level of one map: GroupNorm, then deconvolutions with BatchNorm and GELU between them, or pooling."""

    def __init__(self, width: int, doubled: int, norm: Norm):
        super().__init__()
        self.halved = max(-doubled, 0)
        self.enter = nn.GroupNorm(1, width)
        self.deconvs = nn.ModuleList(nn.ConvTranspose2d(width, width, 2, 2) for _ in range(max(doubled, 0)))
        self.between = nn.ModuleList(MapNorm(norm, width) for _ in range(max(doubled - 1, 0)))

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,D,h,w) -> (B,D,h',w'); an odd side that is halved is rounded up."""
        x = self.enter(x)
        for i, deconv in enumerate(self.deconvs):
            if i:
                x = F.gelu(self.between[i - 1](x, draws))
            x = deconv(x)
        if self.halved:
            x = F.max_pool2d(x, 2**self.halved, ceil_mode=True)
        return x


class PyramidNeck(nn.Module):
    """Makes levels of strides of about 4, 8, 16 and 32 pixels of the maps of four blocks, with patches of `patch` pixels."""

    def __init__(self, width: int, patch: int, norm: Norm):
        super().__init__()
        self.doublings = doublings(patch)
        self.levels = nn.ModuleList(Level(width, doubled, norm) for doubled in self.doublings)

    @property
    def own_grid(self) -> int:
        """The level that has the patches' own grid."""
        return self.doublings.index(0)

    def forward(self, maps: list[Tensor], draws: Draws | None = None) -> list[Tensor]:
        """4 x (B,D,h,w) -> 4 x (B,D,h_i,w_i)"""
        return [level(x, draws) for level, x in zip(self.levels, maps, strict=True)]


def scores(dense: Tensor, texts: Tensor) -> Tensor:
    """The score map: cosines of the positions (B,d,h,w) with the class texts (K,d) or (B,K,d), float32: (B,K,h,w)."""
    with torch.autocast(dense.device.type, enabled=False):
        dense, texts = F.normalize(dense.float(), dim=1), F.normalize(texts.float(), dim=-1)
        return torch.einsum("bdhw,kd->bkhw" if texts.dim() == 2 else "bdhw,bkd->bkhw", dense, texts)
