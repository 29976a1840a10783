"""CoOp, CoCoOp and MaPLe the published way, by open_clip's own blocks: 77 positions for every class (CoCoOp: and every image).

Shapes: B images, C classes, n prompts, D width of a tower, d of the shared embedding, S image size in pixels.
"""

from __future__ import annotations

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor

from prompts.cocoop import CoCoOp
from prompts.engine.build import build
from prompts.engine.clip import FrozenCLIP, load_clip, load_tiny
from prompts.learner import PromptLearner
from prompts.maple import MaPLe

IMAGENET = open_clip.IMAGENET_CLASSNAMES
NAMES = IMAGENET[::10]  # 100 names of 1 to 5 tokens
SMALL = {  # six blocks of width 64 in either tower
    "embed_dim": 64,
    "vision_cfg": {"image_size": 64, "patch_size": 16, "width": 64, "head_width": 64, "layers": 6},
    "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 64, "heads": 1, "layers": 6},
    "quick_gelu": True,
}


def clip_of(model: str, **options) -> FrozenCLIP:
    """The CLIP of a benchmark: "tiny", "small" (random weights), or an open_clip name with random weights of its shapes."""
    if model == "small":
        return FrozenCLIP(build(SMALL), **options)
    return load_tiny(**options) if model == "tiny" else load_clip(model, "random", **options)


def maple_for(clip: FrozenCLIP) -> MaPLe:
    """MaPLe as published, or as deep as this CLIP is."""
    return MaPLe(2, min(9, clip.text_blocks, clip.image_blocks))


class Plain:
    """A learner's tensors in the plain computation. The context is written into each class's embeddings."""

    def __init__(self, clip: FrozenCLIP, learner: PromptLearner, names: list[str]):
        self.clip, self.learner, self.model = clip, learner, clip.model
        words = " ".join(["X"] * learner.n_ctx) if learner.init is None else learner.init  # type: ignore[operator]
        texts = [f"{words} {name}." for name in names]
        self.tokens = clip.tokenizer(texts).to(clip.device)
        with torch.no_grad():
            self.embedded = clip.model.token_embedding(self.tokens)

    def encode(self, ctx: Tensor, deep: list[Tensor]) -> Tensor:
        """Context (n,D) at the input and `deep` rows of later blocks -> (C,d)"""
        n, model = len(ctx), self.model
        x = torch.cat([self.embedded[:, :1], ctx.expand(len(self.tokens), -1, -1), self.embedded[:, 1 + n :]], 1)
        x = x + model.positional_embedding
        for i, block in enumerate(model.transformer.resblocks):
            if 0 < i <= len(deep):
                rows = deep[i - 1].expand(len(self.tokens), -1, -1)
                x = torch.cat([x[:, :1], rows, x[:, 1 + n :]], 1)
            x = block(x, attn_mask=model.attn_mask)
        x = model.ln_final(x[torch.arange(len(x)), self.tokens.argmax(-1)])
        return x @ model.text_projection

    def encode_image(self, pixels: Tensor) -> Tensor:
        """(B,3,S,S) normalised -> (B,d): all rows of all blocks; MaPLe's visual prompts stand behind the patches."""
        learner, visual = self.learner, self.model.visual
        prompts: list[Tensor] = []
        if isinstance(learner, MaPLe):
            pairs = zip(learner.compound_prompt_projections, learner.compound_prompts_text, strict=True)
            prompts = [learner.proj(learner.ctx), *(couple(p) for couple, p in pairs)]
        x = visual.conv1(pixels).flatten(2).transpose(1, 2)
        x = torch.cat([visual.class_embedding.expand(len(x), 1, -1), x], 1) + visual.positional_embedding
        n, batch = x.shape[1], len(x)
        if prompts:
            x = torch.cat([x, prompts[0].expand(batch, -1, -1)], 1)
        x = visual.ln_pre(x)
        for i, block in enumerate(visual.transformer.resblocks):
            if 0 < i < len(prompts):
                x = torch.cat([x[:, :n], prompts[i].expand(batch, -1, -1)], 1)
            x = block(x)
        return visual.ln_post(x[:, 0]) @ visual.proj

    def logits(self, image: Tensor) -> Tensor:
        """Image features (B,d) -> (B,C)"""
        learner = self.learner
        if isinstance(learner, CoCoOp):
            contexts = [learner.ctx + learner.meta_net(F.normalize(one, dim=-1)) for one in image]
            rows = [self.clip.logits(x[None], self.encode(ctx, [])) for x, ctx in zip(image, contexts, strict=True)]
            return torch.cat(rows)
        deep = list(learner.compound_prompts_text) if isinstance(learner, MaPLe) else []
        return self.clip.logits(image, self.encode(learner.ctx, deep))  # type: ignore[arg-type]

    def step(self, image: Tensor, labels: Tensor) -> float:
        """Forward + backward from image features -> the loss. CoCoOp's goes image by image, which needs less memory."""
        parts = [slice(i, i + 1) for i in range(len(image))] if isinstance(self.learner, CoCoOp) else [slice(None)]
        total = 0.0
        for part in parts:
            loss = F.cross_entropy(self.logits(image[part]), labels[part], reduction="sum") / len(image)
            loss.backward()
            total += loss.item()
        return total
