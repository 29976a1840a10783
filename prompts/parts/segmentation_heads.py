"""Heads that make logits of pixels from a pyramid: Semantic FPN (Kirillov et al., CVPR 2019, arXiv 1901.02446, section 3) and
UPerNet (Xiao et al., ECCV 2018, arXiv 1807.10221, section 3), as in mmsegmentation. docs/denseclip.md says what of it is from
memory.

Shapes: B images, K classes, D_i channels of level i, h x w positions of the finest level.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import FeaturePyramidNetwork

from prompts.parts.rank_norm import MapNorm, Norm
from prompts.parts.training_draws import Draws

POOLED = (1, 2, 3, 6)  # grids of the pyramid pooling module (Zhao et al., CVPR 2017, arXiv 1612.01105)
STD = 0.01  # of the last layer's initial weights


class ConvUnit(nn.Module):
    """Convolution without bias, normalisation, ReLU."""

    def __init__(self, inputs: int, outputs: int, size: int, norm: Norm):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = MapNorm(norm, outputs)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,inputs,h,w) -> (B,outputs,h,w)"""
        return F.relu(self.bn(self.conv(x), draws))


def resized(x: Tensor, like: Tensor) -> Tensor:
    """A map resized bilinearly to the size of another."""
    return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)


class _Classifier(nn.Module):
    """Dropout of whole channels, then a 1x1 convolution to K logits."""

    def __init__(self, channels: int, classes: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.conv_seg = nn.Conv2d(channels, classes, 1)
        nn.init.normal_(self.conv_seg.weight, std=STD)
        nn.init.zeros_(self.conv_seg.bias)

    def forward(self, x: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,C,h,w) -> (B,K,h,w) float32"""
        return self.conv_seg(draws.dropout(x, self.dropout, channels=True) if draws else x).float()


class SemanticFPN(nn.Module):
    """A feature pyramid network of `channels`; its levels are brought to the finest one's size by convolutions and upsampling,
    and summed."""

    def __init__(self, inputs: Sequence[int], classes: int, channels: int = 256, dropout: float = 0.1, norm: Norm = "batch"):
        super().__init__()
        self.fpn = FeaturePyramidNetwork(list(inputs), channels)
        self.towers = nn.ModuleList(
            nn.ModuleList(ConvUnit(channels, channels, 3, norm) for _ in range(max(1, level))) for level in range(len(inputs))
        )
        self.classifier = _Classifier(channels, classes, dropout)

    def forward(self, levels: Sequence[Tensor], draws: Draws | None = None) -> Tensor:
        """4 x (B,D_i,h_i,w_i), finest first -> logits (B,K,h,w) float32"""
        levels = list(self.fpn({str(i): x for i, x in enumerate(levels)}).values())
        total = levels[0].new_zeros(())
        for i, (x, tower) in enumerate(zip(levels, self.towers, strict=True)):
            for step, unit in enumerate(tower):  # type: ignore[arg-type]
                x = unit(x, draws)
                if i > step:  # the next finer level's size, which is twice this one's but for odd sides
                    x = resized(x, levels[i - step - 1])
            total = total + x
        return self.classifier(total, draws)


class UPerNet(nn.Module):
    """A pyramid pooling module on the coarsest level, a top-down path, and the fusion of all levels."""

    def __init__(self, inputs: Sequence[int], classes: int, channels: int = 512, dropout: float = 0.1, norm: Norm = "batch"):
        super().__init__()
        self.pooled = nn.ModuleList(ConvUnit(inputs[-1], channels, 1, norm) for _ in POOLED)
        self.bottleneck = ConvUnit(inputs[-1] + len(POOLED) * channels, channels, 3, norm)
        self.lateral = nn.ModuleList(ConvUnit(width, channels, 1, norm) for width in inputs[:-1])
        self.smooth = nn.ModuleList(ConvUnit(channels, channels, 3, norm) for _ in inputs[:-1])
        self.fuse = ConvUnit(len(inputs) * channels, channels, 3, norm)
        self.classifier = _Classifier(channels, classes, dropout)

    def forward(self, levels: Sequence[Tensor], draws: Draws | None = None) -> Tensor:
        """4 x (B,D_i,h_i,w_i), finest first -> logits (B,K,h,w) float32"""
        *finer, coarsest = levels
        pools = [unit(F.adaptive_avg_pool2d(coarsest, side), draws) for side, unit in zip(POOLED, self.pooled, strict=True)]
        top = self.bottleneck(torch.cat([coarsest, *(resized(pool, coarsest) for pool in pools)], 1), draws)
        maps = [unit(x, draws) for unit, x in zip(self.lateral, finer, strict=True)] + [top]
        for i in range(len(maps) - 1, 0, -1):
            maps[i - 1] = maps[i - 1] + resized(maps[i], maps[i - 1])
        maps = [unit(x, draws) for unit, x in zip(self.smooth, maps[:-1], strict=True)] + maps[-1:]
        return self.classifier(self.fuse(torch.cat([maps[0], *(resized(x, maps[0]) for x in maps[1:])], 1), draws), draws)
