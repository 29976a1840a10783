"""Captioning: time and memory per image with kept keys and values, against every row computed again for every token.

    python -m benchmarks.captioning                    # about 5 minutes on 2 cores; needs the packages of the extra lm
    python -m benchmarks.captioning --cases tiny --images 4

The embedded language model behind the tiny CLIP's 16 positions, and a random one of GPT-2's shape (124 million parameters, its
own tokenizer's size) behind 144 positions, as many as RN50x16 has at 384 px. Greedy, exactly `--tokens` tokens, float32, both
sides in one process and in turn; a first call of each, whose memory is measured, then the timed ones. Both sides must say the
same. The memory does not count the weights.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from benchmarks.timing import PeakMemory, in_turns, ratio
from prompts.engine.language_model import FrozenLM, Generation, load_tiny_language_model
from prompts.engine.lm_config import check_installed

PROMPT = "A picture of"


def tiny() -> tuple[FrozenLM, int]:
    """The embedded language model, and how many rows an image has."""
    return load_tiny_language_model(), 16


def gpt2() -> tuple[FrozenLM, int]:
    """A random model of GPT-2's shape with the embedded one's tokenizer, and how many rows an image has."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(bos_token_id=None, eos_token_id=None))
    return FrozenLM(model, load_tiny_language_model().words), 144


CASES: dict[str, Callable[[], tuple[FrozenLM, int]]] = {"tiny": tiny, "gpt2": gpt2}


def compare(lm: FrozenLM, rows: Tensor, generation: Generation, repeats: int) -> str:
    """A line with milliseconds and MiB per image of both sides, and the ratio of the medians with its spread."""
    device, images = rows.device, len(rows)
    contexts = [[image, PROMPT] for image in rows]
    sides = {cache: partial(lm.generate, contexts, generation, cache=cache) for cache in (True, False)}
    memory, said = {}, {}
    for cache, step in sides.items():
        with PeakMemory(device) as peak:
            said[cache] = step()
        memory[cache] = peak.mib / images
    times = in_turns(sides, repeats, device)
    words = ", ".join(
        f"{what} {1000 * statistics.median(times[cache]) / images:8.1f} ms {memory[cache]:7.2f} MiB"
        for what, cache in (("kept", True), ("computed again", False))
    )
    same = sum(a == b for a, b in zip(said[True], said[False], strict=True))
    return f"{words}; {ratio(times[False], times[True])} times; {same} of {images} captions equal"


def main() -> None:
    """Runs the cases and prints a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", help="only cases whose name contains this", default="")
    parser.add_argument("--images", type=int, default=16, help="of a batch")
    parser.add_argument("--tokens", type=int, default=20, help="of each caption")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    check_installed()
    for name, case in CASES.items():
        if options.cases in name:
            lm, count = case()
            lm.words.end = -1  # no text ends early, so that all cases make as many tokens
            lm = lm.to(options.device)
            generator = torch.Generator().manual_seed(1)
            rows = torch.randn(options.images, count, lm.width, generator=generator).to(options.device)
            line = compare(lm, rows, Generation(max_tokens=options.tokens), options.repeats)
            print(f"{name:5s} {options.images} images, {count} rows, {options.tokens} tokens, per image: {line}", flush=True)


if __name__ == "__main__":
    main()
