"""Train the CLIPs that `clip=tiny` and `clip=tiny_large` load, from nothing, on captioned drawn images.

python -m tools.tiny_clip                      # a quarter of an hour on 2 cores; writes prompts/engine/tiny_clip/
python -m tools.tiny_clip --model tiny_large   # three quarters of an hour; writes prompts/engine/tiny_large/

Both are open_clip's CLIP at 32 px with patches of 8 px. The large one, a teacher for the small one, has more and wider blocks,
sees more pictures, and half of them in paler colours. The loss is CLIP's (arXiv 2103.00020, section 2.3). Only token rows that
occur in captions are trained and stored, and only the first 32 positions are trained: later ones repeat the last.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.random import RandomState
from PIL import ImageEnhance
from safetensors.torch import save_file
from torch import nn

from datamodules.captions import Scene, caption, picture
from files.whole import whole_file, write_json
from prompts.engine.build import build
from prompts.engine.tokenizers import ClipTokenizer


def _config(image_width: int, image_layers: int, text_width: int, text_layers: int) -> dict[str, Any]:
    return {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 32, "patch_size": 8, "width": image_width, "layers": image_layers, "head_width": 32},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": text_width,
            "heads": text_width // 32,
            "layers": text_layers,
        },
        "quick_gelu": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.27, 0.27, 0.27],
    }


@dataclass(frozen=True)
class Recipe:
    """How one of the models is made.

    Args:
        folder: its folder below prompts/engine.
        config: open_clip's model config.
        images: pictures drawn.
        steps: batches of `BATCH` pairs.
        palest: saturation of the palest pictures; half of all are drawn again between this and 1 (full). 1: none is.
    """

    folder: str
    config: dict[str, Any]
    images: int
    steps: int
    palest: float = 1.0


RECIPES = {
    "tiny": Recipe("tiny_clip", _config(128, 4, 128, 3), images=40_000, steps=2_000),
    "tiny_large": Recipe("tiny_large", _config(192, 6, 160, 3), images=100_000, steps=2_600, palest=0.2),
}
POSITIONS = 32
SHIFT = 2  # px, the only augmentation: every picture is already drawn at random
BATCH = 256
ENGINE = Path(__file__).parents[1] / "prompts" / "engine"


def draw_world(number: int, seed: int, palest: float = 1.0) -> tuple[np.ndarray, list[Scene]]:
    """`number` pictures (N, 32, 32, 3) uint8 and their scenes; half of them of a saturation of `palest` to 1."""
    scenes, pixels = [], np.empty((number, 32, 32, 3), np.uint8)
    for i in range(number):
        scene, image = picture(RandomState([seed, i]))
        scenes.append(scene)
        if palest < 1 and i % 2:
            image = ImageEnhance.Color(image).enhance(RandomState([seed, i, 1]).uniform(palest, 1))
        pixels[i] = np.asarray(image)
    return pixels, scenes


class CaptionTokenizer:
    """open_clip's tokenizer over the few tokens that captions hold; ids keep their order, so EOT stays the largest."""

    def __init__(self, captions: list[str]):
        self.tokenizer = ClipTokenizer()
        self.rows = torch.tensor(sorted({0, *(t for c in captions for t in self._ids(c))}))

    def _ids(self, text: str) -> list[int]:
        return [self.tokenizer.sot_token_id, *self.tokenizer.encode(text), self.tokenizer.eot_token_id]

    def __call__(self, captions: list[str]) -> torch.Tensor:
        """(B, POSITIONS) positions in `rows`; 0 after the end."""
        out = torch.zeros(len(captions), POSITIONS, dtype=torch.long)
        for row, text in zip(out, captions, strict=True):
            ids = torch.tensor(self._ids(text)[:POSITIONS])
            row[: len(ids)] = torch.searchsorted(self.rows, ids)
        return out


def make_batch(pixels: np.ndarray, rows: np.ndarray, rng: RandomState) -> torch.Tensor:
    """Normalised images (B, 3, 32, 32), each moved by up to SHIFT px, edges repeated."""
    padded = np.pad(pixels[rows], ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
    corners = rng.randint(2 * SHIFT + 1, size=(len(rows), 2))
    moved = [p[y : y + 32, x : x + 32] for p, (y, x) in zip(padded, corners, strict=True)]
    images = torch.from_numpy(np.stack(moved)).permute(0, 3, 1, 2).float() / 255
    mean, std = (torch.tensor(RECIPES["tiny"].config[k]).view(3, 1, 1) for k in ("image_mean", "image_std"))
    return (images - mean) / std


def small_clip(vocab_size: int, config: dict[str, Any] = RECIPES["tiny"].config) -> nn.Module:
    """The model of a config, its text tower cut to what is trained."""
    return build(config | {"text_cfg": config["text_cfg"] | {"context_length": POSITIONS, "vocab_size": vocab_size}})


def contrast(image: torch.Tensor, text: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """CLIP's loss over a batch, in nats: the mean of the cross-entropies over the texts and over the images.

    Args:
        image, text: features (B,d).
        scale: the logit scale, a scalar.
    """
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T  # (B, B)
    labels = torch.arange(len(logits))
    return (F.cross_entropy(logits, labels) + F.cross_entropy(logits.T, labels)) / 2


def train(
    world: tuple[np.ndarray, list[Scene]],
    steps: int,
    seed: int = 0,
    lr: float = 1e-3,
    batch: int = BATCH,
    report: int = 50,
    config: dict[str, Any] = RECIPES["tiny"].config,
) -> tuple[nn.Module, CaptionTokenizer, list[float]]:
    """Trained model, its tokenizer, and the loss of each step (nats)."""
    torch.manual_seed(seed)
    pixels, scenes = world
    rng = RandomState(seed)
    tokenizer = CaptionTokenizer([caption(s, rng, filler=4) for s in scenes[:20_000]])
    model: Any = small_clip(len(tokenizer.rows), config)
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), eps=1e-6)
    warm_up = min(100, steps // 5)
    losses, order, start = [], np.empty(0, int), time.monotonic()
    for step in range(steps):
        rate = lr * min((step + 1) / max(warm_up, 1), 0.5 * (1 + math.cos(math.pi * step / steps)))
        for group in optimizer.param_groups:
            group["lr"] = rate
        if len(order) < batch:
            order = rng.permutation(len(scenes))
        rows, order = order[:batch], order[batch:]
        filler = rng.randint(2, 17) if step % 4 == 3 else 0  # every fourth batch practises later positions
        tokens = tokenizer([caption(scenes[i], rng, filler) for i in rows])
        text = encode_text(model, tokens)
        loss = contrast(model.encode_image(make_batch(pixels, rows, rng)), text, model.logit_scale.exp())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, math.log(100))
        losses.append(loss.item())
        if (step + 1) % report == 0:
            left = (time.monotonic() - start) / (step + 1) * (steps - step - 1)
            mean = sum(losses[-report:]) / report
            print(f"step {step + 1}/{steps}  loss {mean:.3f}  {left / 60:.1f} min left", flush=True)
    return model, tokenizer, losses


def encode_text(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """open_clip's encode_text without the positions after the longest caption, on which no feature depends."""
    n = int(tokens.argmax(-1).max()) + 1
    x = model.token_embedding(tokens[:, :n]) + model.positional_embedding[:n]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:n, :n]))
    return x[torch.arange(len(x)), tokens.argmax(-1)] @ model.text_projection


def save(model: Any, tokenizer: CaptionTokenizer, out: Path, config: dict[str, Any] = RECIPES["tiny"].config) -> None:
    """config.json and weights.safetensors (half precision), each complete or absent."""
    state = {k: v.detach().half() for k, v in model.state_dict().items()}
    last = state["positional_embedding"][-1:]
    tail = last.expand(config["text_cfg"]["context_length"] - POSITIONS, -1)
    state["positional_embedding"] = torch.cat([state["positional_embedding"], tail])
    state["token_embedding.rows"] = tokenizer.rows
    with whole_file(out / "weights.safetensors") as temporary:
        save_file({k: v.contiguous() for k, v in state.items()}, temporary)
    write_json(out / "config.json", config, indent=2)


def main() -> None:
    """The command: draws the pictures, trains, and writes the model."""
    parser = argparse.ArgumentParser(description="Train a CLIP of the embedded world from nothing.")
    parser.add_argument("--model", choices=RECIPES, default="tiny")
    parser.add_argument("--out", type=Path, help="folder for config.json and weights.safetensors")
    parser.add_argument("--images", type=int, help="pictures drawn")
    parser.add_argument("--steps", type=int, help="batches of 256 pairs")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    recipe = RECIPES[args.model]
    images, steps = (
        own if own is not None else given for own, given in ((args.images, recipe.images), (args.steps, recipe.steps))
    )
    if images < BATCH or steps < 1:
        parser.error(f"--images must be at least {BATCH} and --steps at least 1")
    out = args.out or ENGINE / recipe.folder
    torch.set_num_threads(2)  # fixed, as the order of sums depends on it: every run then gives the same weights, bit for bit
    print(f"drawing {images} pictures", flush=True)
    world = draw_world(images, args.seed, recipe.palest)
    model, tokenizer, _ = train(world, steps, args.seed, config=recipe.config)
    save(model, tokenizer, out, recipe.config)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
