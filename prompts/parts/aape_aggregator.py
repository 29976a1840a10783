"""AAPE's aggregator: summarises the reference prompts of a class in one vector for an image (section 3.1 of arXiv 2410.23698).

Only training needs it. Details that the paper leaves open are arguments; docs/aape.md says where each default comes from.

Shapes: B images, C classes, n the most prompts of any class, d width of the shared embedding.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.parts.settings import check_choice

Kind = Literal["attention", "weights", "mlp", "mean", "random"]
Query = Literal["per_image", "per_class", "shared", "mean", "image_conditioned"]
Activation = Literal["gelu", "relu"]
Norm = Literal["pre", "post"]
Keys = Literal["query_and_prompts", "prompts"]
Carry = Literal["query", "mean"]
Init = Literal["zero", "default"]
Space = Literal["unit", "raw"]
ACTIVATIONS: dict[Activation, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU}


def clip_reward(x: Tensor, p: Tensor, scale: float) -> Tensor:
    """(B,): scale x cosine of image (B,d) and prompt (B,d), 0 where that is negative (CLIPScore, arXiv 2104.08718)."""
    return scale * F.cosine_similarity(x, p, dim=-1).relu()


def distance(h: Tensor, target: Tensor, space: Space) -> Tensor:
    """(B,) squared Euclidean distances of h(x) (B,d) and the summary (B,d): of unit vectors (unit), or of both as given
    (raw)."""
    if space == "unit":
        h, target = F.normalize(h, dim=-1), F.normalize(target, dim=-1)
    return (h - target).square().sum(-1)


class ReferenceBank(nn.Module):
    """Encoded reference prompts: `emb` (C,n,d), `mask` (C,n). With `unit` each prompt has length 1; their mean does not."""

    emb: Tensor
    mask: Tensor
    mean: Tensor  # (C,d)

    def __init__(self, emb: Tensor, mask: Tensor, unit: bool = True):
        super().__init__()
        if not mask.any(1).all():
            raise ValueError(f"classes {(~mask.any(1)).nonzero()[:, 0].tolist()} have no reference prompt.")
        emb = (F.normalize(emb, dim=-1) if unit else emb) * mask[..., None]
        for name, tensor in (("emb", emb), ("mask", mask), ("mean", emb.sum(1) / mask.sum(1, keepdim=True))):
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels (B,) -> the prompts (B,n,d) of these classes, their mask (B,n) and their mean (B,d)."""
        return self.emb[labels], self.mask[labels], self.mean[labels]


class AttentionLayer(nn.Module):
    """One transformer layer over [query; prompts] without position embeddings. Only the query's output row is computed, as no
    other output row affects it: the first row of the paper's equation 1, in O(n)."""

    def __init__(self, d: int, heads: int, ffn: int, activation: Activation, norm: Norm, keys: Keys, init: Init):
        super().__init__()
        self.attn = nn.MultiheadAttention(d, heads, batch_first=True)
        self.ffn = nn.Sequential(nn.Linear(d, ffn * d), ACTIVATIONS[activation](), nn.Linear(ffn * d, d))
        self.norm1, self.norm2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.pre, self.with_query = norm == "pre", keys == "query_and_prompts"
        if init == "zero":  # with norm=pre the summary starts as the query
            for last in (self.attn.out_proj, self.ffn[2]):
                for parameter in last.parameters():
                    nn.init.zeros_(parameter)

    def forward(self, query: Tensor, prompts: Tensor, mask: Tensor, carried: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Query (B,d), prompts (B,n,d) and their mask (B,n) -> the output (B,d) and the attention weights, averaged over heads:
        (B,n+1) with the query's own first, or (B,n) where the query is no key. The residual connections start from `carried`
        (B,d), or from the query."""
        q, keys = query[:, None], prompts
        start = q if carried is None else carried[:, None]
        if self.with_query:
            keys, mask = torch.cat([q, prompts], 1), F.pad(mask, (1, 0), value=True)
        if self.pre:
            y, weights = self._attend(self.norm1(q), self.norm1(keys), mask)
            y = start + y
            y = y + self.ffn(self.norm2(y))
        else:
            y, weights = self._attend(q, keys, mask)
            y = self.norm1(start + y)
            y = self.norm2(y + self.ffn(y))
        return y[:, 0], weights[:, 0]

    def _attend(self, q: Tensor, keys: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        return self.attn(q, keys, keys, key_padding_mask=~mask)


class AttentionWeights(nn.Module):
    """The mean of the prompts, weighted by the attention of one query. The values are the prompts themselves, so the output is
    always a weighted mean of them. Queries and keys are normalised and projected as in `AttentionLayer`, and the weights are
    averaged over heads."""

    def __init__(self, d: int, heads: int, init: Init):
        super().__init__()
        self.norm_query, self.norm_keys = nn.LayerNorm(d), nn.LayerNorm(d)
        self.to_query, self.to_keys = nn.Linear(d, d, bias=False), nn.Linear(d, d, bias=False)
        self.heads = heads
        if init == "zero":  # equal weights: the summary starts as the mean prompt
            nn.init.zeros_(self.to_query.weight)

    def forward(self, query: Tensor, prompts: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Query (B,d), prompts (B,n,d) and their mask (B,n) -> the weighted mean (B,d) and the weights (B,n), which sum to 1
        and are 0 where there is no prompt."""
        q = self.to_query(self.norm_query(query)).unflatten(-1, (self.heads, -1))  # (B,heads,d/heads)
        k = self.to_keys(self.norm_keys(prompts)).unflatten(-1, (self.heads, -1))  # (B,n,heads,d/heads)
        scores = torch.einsum("bhc,bnhc->bhn", q, k) * q.shape[-1] ** -0.5
        weights = scores.masked_fill(~mask[:, None], -torch.inf).softmax(-1).mean(1)
        return torch.einsum("bn,bnd->bd", weights, prompts), weights


class MLP(nn.Module):
    """alpha f(mean) + (1 - alpha) mean, f a bottleneck of two layers (appendix B.1)."""

    def __init__(self, d: int, hidden: int, alpha: float = 0.5):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(d, hidden), nn.ReLU(), nn.Linear(hidden, d))
        self.alpha = nn.Parameter(torch.tensor(alpha))

    def forward(self, mean: Tensor) -> Tensor:
        """(B,d) -> (B,d)"""
        return self.alpha * self.f(mean) + (1 - self.alpha) * mean


class PromptAggregator(nn.Module):
    """The summary p^a of the prompts of an image's class.

    Args:
        d, images, classes: width, number of training images and of their classes.
        kind: attention; weights (attention whose values are the prompts themselves, without feed-forward layer and residual: of
            the arguments below, only query, heads and init are used); mlp, mean or random (one of the prompts, drawn anew at
            each step): the paper's ablations.
        query: the learned vector that is added to the mean prompt to make the attention's query: one per image, one per class,
            one for all (shared), none (mean), or a linear function of the image (image_conditioned). All start at 0.
        heads: number of attention heads; null: one per 64 channels.
        ffn: width of the feed-forward layer, as a multiple of d.
        keys: what the query attends to: query_and_prompts or prompts.
        carry: what the residual connections start from: the query, as in any transformer (its learned vector then also enters
            the summary directly), or the mean prompt (the learned vector then acts through the attention alone).
        init: zero starts as the mean prompt (with norm=pre); default is torch's.
    """

    def __init__(
        self,
        d: int,
        images: int,
        classes: int,
        kind: Kind = "attention",
        query: Query = "per_image",
        heads: int | None = None,
        ffn: int = 4,
        activation: Activation = "gelu",
        norm: Norm = "pre",
        keys: Keys = "query_and_prompts",
        carry: Carry = "query",
        init: Init = "zero",
    ):
        super().__init__()
        choices = {
            "kind": Kind,
            "query": Query,
            "activation": Activation,
            "norm": Norm,
            "keys": Keys,
            "carry": Carry,
            "init": Init,
        }
        given = (kind, query, activation, norm, keys, carry, init)
        for (key, known), value in zip(choices.items(), given, strict=True):
            check_choice(f"aggregator.{key}", value, known)
        if ffn < 1 or (heads is not None and heads < 1):
            raise ValueError(f"method.aggregator.ffn={ffn} and heads={heads}: give 1 or more of both, or heads=null.")
        heads = heads or max(1, d // 64)
        if d % heads:
            raise ValueError(f"method.aggregator.heads={heads} does not divide the {d} channels of this CLIP's embedding.")
        self.kind, self.query, self.carry = kind, query, carry
        if kind == "mlp":
            self.layer: MLP | AttentionWeights | AttentionLayer = MLP(d, max(1, d // 16))
        elif kind == "weights":
            self.layer = AttentionWeights(d, heads, init)
        elif kind == "attention":
            self.layer = AttentionLayer(d, heads, ffn, activation, norm, keys, init)
        if kind in ("attention", "weights"):
            self._make_delta(d, images, classes)

    def _make_delta(self, d: int, images: int, classes: int) -> None:
        """Makes the learned part of the query, all zeros."""
        if self.query == "image_conditioned":
            self.delta: Any = nn.Linear(d, d)  # or a parameter (rows,d)
            nn.init.zeros_(self.delta.weight)
            nn.init.zeros_(self.delta.bias)
        elif self.query != "mean":
            rows = {"per_image": images, "per_class": classes, "shared": 1}[self.query]
            self.delta = nn.Parameter(torch.zeros(rows, d))

    def forward(self, bank: ReferenceBank, labels: Tensor, index: Tensor, x: Tensor, draws: Tensor | None = None) -> Tensor:
        """(B,d) for images `x` (B,d) of length 1, their class ids and positions in the training list, both (B,). `draws` (B,)
        in [0, 1) say which prompt kind=random takes."""
        prompts, mask, mean = bank(labels)
        if self.kind == "mean":
            return mean
        if self.kind == "random":
            assert draws is not None
            return prompts[torch.arange(len(labels)), (draws * mask.sum(1)).long()]
        if self.kind == "mlp":
            return self.layer(mean)
        return self.attend(prompts, mask, mean, labels, index, x)[0]

    def attend(
        self, prompts: Tensor, mask: Tensor, mean: Tensor, labels: Tensor, index: Tensor, x: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The summary (B,d) and its attention weights; the arguments are those of `ReferenceBank` and `forward`."""
        query = self.start(mean, labels, index, x)
        if self.kind == "weights":
            return self.layer(query, prompts, mask)
        return self.layer(query, prompts, mask, mean if self.carry == "mean" else None)

    def start(self, mean: Tensor, labels: Tensor, index: Tensor, x: Tensor) -> Tensor:
        """The attention's query (B,d)."""
        match self.query:
            case "per_image":
                return mean + self.delta[index]
            case "per_class":
                return mean + self.delta[labels]
            case "shared":
                return mean + self.delta
            case "image_conditioned":
                return mean + self.delta(x)
        return mean
