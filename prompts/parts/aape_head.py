"""AAPE's two networks that an evaluation needs: the generator h and the head g (sections 3.2 and 3.3 of arXiv 2410.23698).

Shapes: B images, C classes, d width of the shared embedding, r hidden width.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPS = 1e-12  # least squared length, so that a row that is all zeros after the ReLU has cosine 0 and not NaN


def generator(d: int, hidden: int, bias: bool) -> nn.Sequential:
    """h: image embedding (B,d) -> prompt embedding (B,d), by two linear layers with a ReLU between them."""
    layers = [("linear1", nn.Linear(d, hidden, bias)), ("relu", nn.ReLU()), ("linear2", nn.Linear(hidden, d, bias))]
    return nn.Sequential(OrderedDict(layers))


class BottleneckHead(nn.Module):
    """g([w; h]) = linear2(relu(linear1([w; h]))), plus w with `residual`: 2d -> r -> d, which fits the paper's count."""

    def __init__(self, d: int, hidden: int, bias: bool = False, residual: bool = False):
        super().__init__()
        self.linear1, self.linear2 = nn.Linear(2 * d, hidden, bias), nn.Linear(hidden, d, bias)
        self.d, self.residual = d, residual

    def hidden(self, w_CD: Tensor, h_BD: Tensor) -> Tensor:
        """relu(linear1([w; h])): (B,C,r)."""
        left, right = self.linear1.weight.split(self.d, 1)
        return (F.linear(w_CD, left) + F.linear(h_BD, right, self.linear1.bias)[:, None]).relu()

    def forward(self, w_CD: Tensor, h_BD: Tensor) -> Tensor:
        """The text features (B,C,d). Logits are computed without them, see `cosine`."""
        y = self.linear2(self.hidden(w_CD, h_BD))
        return y + w_CD if self.residual else y

    def cosine(self, x_BD: Tensor, w_CD: Tensor, h_BD: Tensor) -> Tensor:
        """(B,C) cosines of the images `x_BD`, of length 1, and g, without a tensor of B x C x d.

        g = base_c + W a_bc, so x.g = x.base + (W'x).a and |g|^2 = |base|^2 + 2 a.(W'base) + a.(W'W a).
        """
        a, W = self.hidden(w_CD, h_BD), self.linear2.weight
        dots = torch.einsum("bcr,br->bc", a, x_BD @ W)
        squares = (a @ (W.T @ W) * a).sum(-1)
        if self.residual or self.linear2.bias is not None:
            base_CD = w_CD * self.residual + (0 if self.linear2.bias is None else self.linear2.bias)
            dots = dots + x_BD @ base_CD.T
            squares = squares + base_CD.square().sum(-1) + 2 * torch.einsum("bcr,cr->bc", a, base_CD @ W)
        return dots * squares.clamp_min(EPS).rsqrt()


class LinearHead(nn.Module):
    """g([w; h]) = relu(linear([w; h])), plus w with `residual`: the paper's words; 2 d^2 parameters, B x C x d in memory."""

    def __init__(self, d: int, bias: bool = False, residual: bool = False):
        super().__init__()
        self.linear1, self.d, self.residual = nn.Linear(2 * d, d, bias), d, residual

    def forward(self, w_CD: Tensor, h_BD: Tensor) -> Tensor:
        """The text features, (B,C,d)."""
        left, right = self.linear1.weight.split(self.d, 1)
        y = (F.linear(w_CD, left) + F.linear(h_BD, right, self.linear1.bias)[:, None]).relu()
        return y + w_CD if self.residual else y

    def cosine(self, x_BD: Tensor, w_CD: Tensor, h_BD: Tensor) -> Tensor:
        """(B,C) cosines of the images `x_BD`, of length 1, and g."""
        y = self(w_CD, h_BD)
        return torch.einsum("bcd,bd->bc", y, x_BD) * y.square().sum(-1).clamp_min(EPS).rsqrt()
