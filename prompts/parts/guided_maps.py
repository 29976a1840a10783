"""DenseCLIP's language-guided feature maps (Rao et al., CVPR 2022, arXiv 2112.01518, section 3): class texts conditioned on the
image, their score map, and the feature pyramid that the map is concatenated to. docs/denseclip.md says what is published and
what is inferred.

Shapes: B images of H x W pixels, K classes, n contexts, d width of the shared embedding, D width of the text tower, h x w
positions of a map, D_i channels of level i.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prompts.engine.clip import FrozenCLIP
from prompts.engine.dense import STRIDE, DenseFeatures, dense_features
from prompts.engine.image_tower import ImageTower
from prompts.engine.rows import NO_PROMPTS
from prompts.engine.trainable import tower_of
from prompts.learner import PromptLearner, TrainInfo
from prompts.parts.context_decoder import ContextDecoder
from prompts.parts.pyramid_neck import PyramidNeck, default_blocks, scores
from prompts.parts.rank_norm import Norm
from prompts.parts.text_branch import AnotherMethod, OwnContexts
from prompts.parts.training_draws import Draws

Guidance = Literal["post", "pre", "text", "none"]
GAMMA = 1e-4  # initial factor of what the context decoder adds to the texts


@dataclass(frozen=True)
class Maps:
    """The maps of a batch, float32.

    `levels` are 4 x (B,D_i,h_i,w_i), of strides of about 4, 8, 16 and 32 pixels, with the score map concatenated to one of
    them; empty without a pyramid. `score_map` (B,K,h,w) holds cosines; None without texts. Both cover `padded` (height, width)
    pixels: the images, of `size`, padded on the right and below. `texts` are the class texts of the score map, (K,d) or
    (B,K,d).
    """

    levels: list[Tensor]
    score_map: Tensor | None
    size: tuple[int, int]
    padded: tuple[int, int]
    texts: Tensor | None = None

    def of_image(self, maps: Tensor) -> Tensor:
        """A map (B,C,h,w) without the padding: the same map where nothing was padded, else resized to `padded` pixels and cut
        to the images, (B,C,H,W)."""
        if self.size == self.padded:
            return maps
        whole = F.interpolate(maps, self.padded, mode="bilinear", align_corners=False)
        return whole[..., : self.size[0], : self.size[1]]


class GuidedMaps(nn.Module):
    """Text contexts, context decoder, score map and pyramid.

    Args:
        classnames: the classes of the score map.
        guidance: where the image conditions the texts. "post": after the text tower, as published; "pre": before it, by
            contexts made for each image (the paper's ablation, whose code is not public); "text": nowhere; "none": no texts and
            no score map.
        n_ctx: number of contexts; 0 for plain class names.
        text: another method, whose class texts are used instead of those with contexts.
        blocks: the blocks of a vision transformer whose maps become the levels; None: 3, 5, 7 and 11 of 12, in proportion.
        norm: normalisation of a vision transformer's maps.
        pyramid: False leaves the levels out.
        class_embedding_twice: adds the class embedding to its row a second time, as the released code does.
        score_factor: of the score map where it joins the pyramid: 1 in the released code for segmentation, and one over its
            temperature in that for detection.
        info: what `text` is set up with.

    Raises:
        ValueError: an image tower that has no maps, or none in the joint space; settings that exclude each other.
    """

    def __init__(
        self,
        clip: FrozenCLIP,
        classnames: Sequence[str],
        *,
        guidance: Guidance = "post",
        n_ctx: int = 8,
        text: PromptLearner | None = None,
        decoder_width: int = 256,
        decoder_heads: int = 4,
        decoder_layers: int = 3,
        dropout: float = 0.1,
        blocks: Sequence[int] | None = None,
        norm: Norm = "batch",
        pyramid: bool = True,
        class_embedding_twice: bool = False,
        score_factor: float = 1.0,
        info: TrainInfo | None = None,
    ):
        super().__init__()
        self.guidance, self.class_embedding_twice = guidance, class_embedding_twice
        self.score_factor = score_factor
        self.count = len(classnames)
        tower: Any = clip.image_tower
        is_vit = isinstance(tower, ImageTower)
        self.unit = tuple(tower.patches.size) if is_vit else (STRIDE, STRIDE)
        self.blocks = list(blocks) if blocks is not None else default_blocks(len(tower.blocks)) if is_vit else [0, 1, 2, 3]
        if len(self.blocks) != 4:
            raise ValueError(f"method.blocks={self.blocks}: a pyramid has four levels: give four blocks, or null.")
        found = self.features(clip, torch.zeros(1, 3, *(side * 2 for side in self.unit), device=clip.device))
        if guidance != "none" and found.projected is None:
            raise ValueError(
                "this CLIP's image tower has no map of its patches in the joint space, which a score map needs: use a ViT that "
                "pools by its class token, a ResNet, or method.guidance=none."
            )
        widths = [found.maps[block].shape[1] for block in self.blocks]
        self.neck = PyramidNeck(widths[0], self.unit[0], norm) if is_vit and pyramid else None
        self.pyramid, self.score_level = pyramid, self.neck.own_grid if self.neck else 3
        self.channels = [w + self.count * (guidance != "none" and i == self.score_level) for i, w in enumerate(widths)]
        self._make_text(clip, TrainInfo(list(classnames), 0) if info is None else info, n_ctx, text)
        self._make_decoder(clip, n_ctx, (decoder_width, decoder_heads, decoder_layers, dropout))
        self.kept_texts: tuple[object, Tensor] | None = None
        self.text_encodings = 0  # how often the text tower ran over the class list
        self.bind(clip, classnames)

    def _make_text(self, clip: FrozenCLIP, info: TrainInfo, n_ctx: int, text: PromptLearner | None) -> None:
        """Makes the text branch."""
        self.branch: OwnContexts | AnotherMethod | None = None
        if text is not None and self.guidance in ("pre", "none"):
            raise ValueError(
                f"method.text gives class texts, and method.guidance={self.guidance} makes its own or none: give post or text."
            )
        if text is not None:
            self.branch = AnotherMethod(clip, text, info)
        elif self.guidance != "none":
            self.branch = OwnContexts(clip, n_ctx, learned=self.guidance != "pre")

    def _make_decoder(self, clip: FrozenCLIP, n_ctx: int, sizes: tuple[int, int, int, float]) -> None:
        """Makes the context decoder, with the factor of its output (post) or its learned queries (pre)."""
        self.context_decoder: ContextDecoder | None = None
        d, width = clip.embed_dim, clip.text_width
        if self.guidance == "post":
            self.context_decoder = ContextDecoder(d, d, d, *sizes)
            self.gamma = nn.Parameter(torch.full((d,), GAMMA))
        elif self.guidance == "pre":
            if n_ctx < 1:
                raise ValueError(
                    "method.guidance=pre makes contexts from the image, and method.n_ctx=0 leaves none: give 1 or more."
                )
            self.context_decoder = ContextDecoder(width, d, width, *sizes)
            self.queries = nn.Parameter(nn.init.trunc_normal_(torch.empty(n_ctx, width)))

    def bind(self, clip: FrozenCLIP, classnames: Sequence[str]) -> None:
        """Lays out the text of a class list. Where the score map is part of the pyramid, the layers behind it need the number
        of classes that they were made for."""
        self.kept_texts = None
        if self.branch is not None:
            self.branch.bind(clip, classnames)

    def forward(self, clip: FrozenCLIP, pixels: Tensor, draws: Draws | None = None) -> Maps:
        """The maps of images (B,3,H,W), uint8 or normalised, of any size: they are padded with the mean colour to
        multiples of the tower's unit. `draws`: random numbers of a training step."""
        size = pixels.shape[-2], pixels.shape[-1]
        padding = [-side % unit for side, unit in zip(size, self.unit, strict=True)]
        pixels = F.pad(clip.normalised(pixels), (0, padding[1], 0, padding[0])) if any(padding) else pixels
        dense = self.features(clip, pixels)
        padded = pixels.shape[-2], pixels.shape[-1]
        levels = []
        if self.pyramid:
            levels = [dense.maps[block] for block in self.blocks]
            levels = self.neck(levels, draws) if self.neck else levels
        if self.guidance == "none":
            if dense.pooled.requires_grad:  # the tower's pooling gets gradients of 0, as every trained tensor needs one
                levels[-1] = levels[-1] + 0 * dense.pooled.sum()
            return Maps(levels, None, size, padded)
        texts = self.texts(clip, dense, draws)
        score_map = scores(dense.projected, texts)
        if levels:
            levels[self.score_level] = torch.cat([levels[self.score_level].float(), score_map * self.score_factor], 1)
        return Maps(levels, score_map, size, padded, texts)

    def texts(self, clip: FrozenCLIP, dense: DenseFeatures, draws: Draws | None = None) -> Tensor:
        """Class texts, un-normalised: (K,d), or (B,K,d) where they are conditioned on the images."""
        if self.guidance == "text":
            return self.class_texts(clip, dense.pooled)
        memory = torch.cat([dense.pooled[:, None], dense.projected.flatten(2).transpose(1, 2)], 1)  # (B,1+hw,d)
        images = len(memory)
        if self.guidance == "pre":
            contexts = self.context_decoder(self.queries.expand(images, -1, -1), memory, draws)
            self.text_encodings += images
            return self.branch.texts(clip, dense.pooled, contexts.float())
        texts = self.class_texts(clip, dense.pooled)
        texts = texts if texts.dim() == 3 else texts.expand(images, -1, -1)
        return texts + self.gamma * self.context_decoder(texts, memory, draws).float()

    def class_texts(self, clip: FrozenCLIP, image: Tensor) -> Tensor:
        """The texts before the context decoder: (K,d), or (B,K,d) of a method whose texts depend on the image. Without
        gradients they are kept until a tensor that they are made from changes."""
        made_from = [*self.branch.parameters(), *self.branch.buffers()]
        made_from += [p for name, p in clip.trained_tensors().items() if tower_of(name) == "text"]
        if torch.is_grad_enabled() and any(p.requires_grad for p in made_from):
            self.text_encodings += 1
            return self.branch.texts(clip, image)
        state = clip.changed, image.device, [(id(t), t._version) for t in made_from]
        if self.kept_texts is not None and self.kept_texts[0] == state:
            return self.kept_texts[1]
        self.text_encodings += 1
        texts = self.branch.texts(clip, image)
        self.kept_texts = None if texts.dim() == 3 else (state, texts.detach())
        return texts

    def features(self, clip: FrozenCLIP, pixels: Tensor) -> DenseFeatures:
        """The features of the image tower; without a graph where nothing of it is trained."""
        learns = any(tower_of(name) == "image" for name in clip.trained_tensors())
        with torch.set_grad_enabled(torch.is_grad_enabled() and learns):
            pixels = clip.normalised(pixels)
            options = NO_PROMPTS, clip.recompute, self.class_embedding_twice
            return dense_features(clip.image_tower, pixels, self.blocks, *options)
