"""DenseCLIP's context decoder (Rao et al., CVPR 2022, section 3.3): class texts, or learned queries, attend to an image's
features. Layers, widths and initial values are those of the released code.

Shapes: B images, N queries, M rows of the memory, `width` of the layers.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from prompts.parts.training_draws import Draws

STD = 0.02  # of the truncated normal distribution of initial weights


class Attention(nn.Module):
    """Multi-head attention; its query, key and value projections have no bias."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.q_proj, self.k_proj, self.v_proj = (nn.Linear(width, width, bias=False) for _ in range(3))
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor, draws: Draws | None) -> Tensor:
        """(B,N,width) with (B,M,width) -> (B,N,width)"""
        pairs = (self.q_proj, x), (self.k_proj, memory), (self.v_proj, memory)
        q, k, v = (layer(rows).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer, rows in pairs)
        out = self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return draws.dropout(out, self.dropout) if draws else out


class DecoderLayer(nn.Module):
    """Self-attention of the queries, attention to the memory, and an MLP of four times the width; LayerNorm before each."""

    def __init__(self, width: int, heads: int, dropout: float):
        super().__init__()
        self.dropout = dropout
        self.self_attn, self.cross_attn = Attention(width, heads, dropout), Attention(width, heads, dropout)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))
        self.mlp = nn.ModuleList([nn.Linear(width, 4 * width), nn.Linear(4 * width, width)])

    def forward(self, x: Tensor, memory: Tensor, draws: Draws | None) -> Tensor:
        """(B,N,width) with (B,M,width), which is not normalised again -> (B,N,width)"""
        normed = self.norm1(x)
        x = x + self.self_attn(normed, normed, draws)
        x = x + self.cross_attn(self.norm2(x), memory, draws)
        hidden = F.gelu(self.mlp[0](self.norm3(x)))
        hidden = self.mlp[1](draws.dropout(hidden, self.dropout) if draws else hidden)
        return x + (draws.dropout(hidden, self.dropout) if draws else hidden)


class ContextDecoder(nn.Module):
    """A transformer decoder between two projections.

    Args:
        queries, memory, out: channels of the queries, the memory and the output.
        width: channels of the layers.
        dropout: rate of the layers' dropout.
    """

    def __init__(
        self,
        queries: int,
        memory: int,
        out: int,
        width: int = 256,
        heads: int = 4,
        layers: int = 3,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.memory_proj = nn.Sequential(nn.LayerNorm(memory), nn.Linear(memory, width), nn.LayerNorm(width))
        self.text_proj = nn.Sequential(nn.LayerNorm(queries), nn.Linear(queries, width))
        self.decoder = nn.ModuleList(DecoderLayer(width, heads, dropout) for _ in range(layers))
        self.out_proj = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=STD)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, queries: Tensor, memory: Tensor, draws: Draws | None = None) -> Tensor:
        """(B,N,queries) with (B,M,memory) -> (B,N,out). `draws`: random numbers of dropout, given in training."""
        x, memory = self.text_proj(queries), self.memory_proj(memory)
        for layer in self.decoder:
            x = layer(x, memory, draws)
        return self.out_proj(x)
