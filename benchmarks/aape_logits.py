"""AAPE's logits without a tensor of images x classes x width, against the formula as it is written: cos(x, g([w; h])).

    python -m benchmarks.aape_logits                # half a minute on a CPU
    python -m benchmarks.aape_logits --classes 397 --device cuda

Forward + backward of a cross-entropy, float32, the head alone (d=512, r=32). Both sides run in one process, in turn, after a
warm step each. The ratio is that of the medians, its spread the slowest against the fastest either way; the peak memory is what
a side needs beyond the weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.timing import in_turns, peak_mib, ratio, where
from prompts.parts.aape_head import BottleneckHead

SCALE = 100.0


def written_out(head: BottleneckHead, x_BD: Tensor, w_CD: Tensor, h_BD: Tensor) -> Tensor:
    """(B,C) cosines"""
    B, C = len(x_BD), len(w_CD)
    pairs_BCE = torch.cat([w_CD.expand(B, -1, -1), h_BD[:, None].expand(-1, C, -1)], -1)
    text_BCD = head.linear2(head.linear1(pairs_BCE).relu())
    return torch.einsum("bd,bcd->bc", x_BD, F.normalize(text_BCD, dim=-1))


def main(arguments: list[str] | None = None) -> None:
    """Runs both sides and prints times, memory, and how far the gradients agree."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    torch.manual_seed(0)
    d = 512
    head = BottleneckHead(d, d // 16).to(device)
    x, h = (torch.randn(options.images, d, device=device) for _ in range(2))
    w = F.normalize(torch.randn(options.classes, d, device=device), dim=-1)
    x, labels = F.normalize(x, dim=-1), torch.randint(options.classes, (options.images,), device=device)

    def step(cosine: Callable[..., Tensor]) -> Callable[[], float]:
        def run() -> float:
            loss = F.cross_entropy(SCALE * cosine(x, w, h), labels)
            loss.backward()
            return loss.item()

        return run

    sides = {"written out": step(lambda *args: written_out(head, *args)), "fast": step(head.cosine)}
    memory, gradients = {}, {}
    for name, run in sides.items():
        head.zero_grad()
        run()
        gradients[name] = [p.grad.clone() for p in head.parameters()]
        memory[name] = peak_mib(run, device)
    slow, fast = in_turns(sides, options.repeats, device).values()
    error = max(((a - b).abs().max() / b.abs().max()).item() for a, b in zip(*gradients.values(), strict=True))
    print(f"{options.images} images, {options.classes} classes, {where(device)}; median of {options.repeats}")
    for name, times in zip(sides, (slow, fast), strict=True):
        print(f"{name:12}{1000 * median(times):10.1f} ms{memory[name]:8.0f} MiB")
    print(f"ratio {ratio(slow, fast)}; gradients agree to {error:.1e}")


if __name__ == "__main__":
    main()
