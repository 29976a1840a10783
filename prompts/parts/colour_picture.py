"""The figure of a search for colours: the best colour of each word, and how probable every other word is for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.figure import Figure
from matplotlib.patches import Rectangle


def confusion_map(found: Mapping[str, Any]) -> Figure:
    """Words x words: the probability of the second word for the best colour of the first, which is shown beside its word. A
    frame marks the chosen words. `found` is the content of a file of colours."""
    words = list(found["confusion"])
    figure = Figure(figsize=(2.2 + 0.5 * len(words), 1.6 + 0.45 * len(words)), layout="constrained")
    axes = figure.subplots()
    image = axes.imshow([found["confusion"][word] for word in words], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(words)), words, rotation=60, ha="right")
    axes.set_yticks(range(len(words)), words)
    axes.set(xlabel="word", ylabel="best colour of the word", xlim=(-1.5, len(words) - 0.5))
    for row, word in enumerate(words):
        red, green, blue, alpha = (number / 255 for number in found["found"][word])
        axes.add_patch(Rectangle((-1.4, row - 0.4), 0.8, 0.8, color=(red, green, blue, alpha)))
        if word in found["colours"]:
            axes.add_patch(Rectangle((row - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="tab:red", linewidth=1.5))
    figure.colorbar(image, ax=axes, label="probability")
    return figure
