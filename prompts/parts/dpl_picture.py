"""The figure of a DPL search: the weight of each number of prompts in each block."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def heat_maps(search: Mapping[str, Any]) -> Figure:
    """Blocks x lengths, one map for the text and one for the image tower; a frame marks the length that was chosen. `search` is
    the content of a dpl.json with options and alphas."""
    figure = Figure(figsize=(7, 0.6 + 0.4 * max(len(search["text"]), len(search["image"]))), layout="constrained")
    for axes, tower in zip(figure.subplots(1, 2), ("text", "image"), strict=True):
        weights = torch.tensor(search["alphas"][tower], dtype=torch.float32).softmax(-1)  # (L,t)
        heat_map = axes.imshow(weights.numpy(), cmap="Blues", vmin=0, aspect="auto")
        axes.set(title=f"{tower} tower", xlabel="prompts", ylabel="block")
        axes.set_xticks(range(len(search["options"])), search["options"])
        axes.set_yticks(range(len(weights)))
        for block, length in enumerate(search[tower]):
            corner = (search["options"].index(length) - 0.5, block - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="tab:red", linewidth=1.5))
        figure.colorbar(heat_map, ax=axes, label="weight")
    return figure
