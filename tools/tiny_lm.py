"""Train the language model that `lm=tiny` loads, from nothing, on the sentences of drawn scenes.

python -m tools.tiny_lm    # some minutes on one core; writes prompts/engine/tiny_lm/

A Llama of 400,000 parameters with a byte-level vocabulary of 512 tokens. A document describes one to five scenes. In most
documents each scene has an unordered list of words about it, which stands in for an image, and then a caption or a question
with its answer. So the model learns to describe the words before it, as large models can without this training, to continue
after several examples, and to end a text. The loss is that of captions and answers alone. The scenes are in no split of
data=scenes.
"""

from __future__ import annotations

import argparse
import math
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from numpy.random import RandomState
from torch import Tensor, nn

from datamodules.scenes import SceneContent, captions, most_common, questions, scene
from files.whole import write_bytes, write_json
from prompts.engine.lm_config import check_installed

OUT = Path(__file__).parents[1] / "prompts" / "engine" / "tiny_lm"
END = "<|endoftext|>"
CONFIG = {
    "model_type": "llama",
    "hidden_size": 96,
    "intermediate_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "num_key_value_heads": 3,
    "max_position_embeddings": 512,
    "vocab_size": 512,
    "tie_word_embeddings": True,
}
DOCUMENTS, SCENES = 12_000, 40_000
BATCH, STEPS, RATE = 32, 3000, 3e-3
LONGEST = 224  # tokens of a document; what is longer is cut
MOST_EXAMPLES = 5
BETWEEN = ("", "", " ", "\n")
PROMPTS = ("A picture of", "A picture of", "A photo of")
MASKED = -100


class Part(NamedTuple):
    """A part of a document, which becomes tokens by itself; one that is not learned is only read."""

    text: str
    learned: bool = True


def heap(content: SceneContent, rng: RandomState) -> str:
    """Words about a scene in random order, some of them several times, as several positions of an image show the same thing."""
    words = [content.style]
    for thing in content.things:
        one = [thing.shape, thing.colour, thing.texture] + (["small"] if thing.small else [])
        several = [f"{a} {thing.shape}" for a in (thing.colour, thing.texture, f"{thing.colour} {thing.texture}")]
        words += [one[i] for i in rng.randint(len(one), size=rng.randint(0, 4))]
        words += [several[i] for i in rng.randint(3, size=rng.randint(1, 4))] * (1 + (thing.number > 1))
    return " ".join(words[i] for i in rng.permutation(len(words)))


def example(key: str, rng: RandomState, asks: bool) -> list[Part]:
    """The parts of a scene: the words that stand in for its image, in most documents, and a caption, or a question with its
    answer."""
    parts = [Part(heap(scene(key), rng), learned=False)] if rng.uniform() < 0.8 else []
    if asks:
        asked = questions(key)
        question = asked[rng.randint(len(asked))]
        return [*parts, Part(f"Q: {question.question} A:", learned=False), Part(f" {most_common(question.answers)}")]
    own = captions(key)
    caption = own[rng.randint(len(own))]
    if rng.uniform() < 0.75:
        return [*parts, Part(PROMPTS[rng.randint(len(PROMPTS))], learned=False), Part(f" {caption}")]
    return [*parts, Part(caption)]


def document(seed: int, number: int) -> list[Part]:
    """A document of one to `MOST_EXAMPLES` scenes, all with captions or all with questions."""
    rng = RandomState([seed, number])
    asks, count = rng.uniform() < 0.6, int(rng.choice(MOST_EXAMPLES, p=[0.7, 0.1, 0.1, 0.05, 0.05])) + 1
    between, parts = BETWEEN[rng.randint(len(BETWEEN))], []
    for _ in range(count):
        parts += [Part(between, learned=False)] if between and parts else []
        parts += example(f"scenes/text{seed}/{rng.randint(SCENES)}", rng, asks)
    return parts


def make_tokenizer(texts: list[str]) -> Any:
    """A byte-level tokenizer (of the package tokenizers) of so many tokens as the model has, `END` the first."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    size = CONFIG["vocab_size"]
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def tokens_of(parts: list[Part], tokenizer: Any) -> tuple[list[int], list[int]]:
    """The tokens of a document with `END` behind it, and their labels, `MASKED` where they are not learned."""
    tokens, labels = [], []
    for part in parts:
        ids = tokenizer.encode(part.text, add_special_tokens=False).ids
        tokens += ids
        labels += ids if part.learned else [MASKED] * len(ids)
    return [*tokens, 0][:LONGEST], [*labels, 0][:LONGEST]


def batch_of(documents: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor]:
    """Tokens and labels (B,L) of documents."""
    longest = max(len(tokens) for tokens, _ in documents)
    tokens, labels = torch.zeros(len(documents), longest, dtype=torch.long), torch.full((len(documents), longest), MASKED)
    for i, (ids, targets) in enumerate(documents):
        tokens[i, : len(ids)], labels[i, : len(ids)] = torch.tensor(ids), torch.tensor(targets)
    return tokens, labels


def train(documents: list[tuple[list[int], list[int]]], steps: int, seed: int) -> tuple[nn.Module, list[float]]:
    """The model, and the loss of each step in nats per token."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    model, rng = LlamaForCausalLM(LlamaConfig(**CONFIG, bos_token_id=None, eos_token_id=0)), RandomState(seed)
    matrices = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer, losses, start = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98)), [], time.monotonic()
    # documents of like length together, as padding is computed too
    by_length = sorted(range(len(documents)), key=lambda i: len(documents[i][0]))
    batches = [by_length[i : i + BATCH] for i in range(0, len(by_length), BATCH)]
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * min((step + 1) / 100, 0.5 * (1 + math.cos(math.pi * step / steps)) + 0.01)
        tokens, labels = batch_of([documents[i] for i in batches[rng.randint(len(batches))]])
        learned = labels[:, 1:] != MASKED
        hidden = model.model(tokens[:, :-1]).last_hidden_state[learned]
        loss = F.cross_entropy(model.lm_head(hidden), labels[:, 1:][learned])
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(loss.item())
        if (step + 1) % 50 == 0:
            left = (time.monotonic() - start) / (step + 1) * (steps - step - 1)
            print(f"step {step + 1}/{steps}  loss {sum(losses[-50:]) / 50:.3f}  {left / 60:.1f} min left", flush=True)
    return model, losses


def save(model: nn.Module, tokenizer: Any, out: Path) -> None:
    """config.json, model.safetensors (half precision) and the tokenizer's files, each complete or absent."""
    from safetensors.torch import save as to_bytes

    out.mkdir(parents=True, exist_ok=True)
    state = {name: t.detach().half().contiguous() for name, t in model.state_dict().items() if name != "lm_head.weight"}
    write_bytes(out / "model.safetensors", to_bytes(state))
    write_json(out / "config.json", CONFIG, indent=2)
    write_bytes(out / "tokenizer.json", tokenizer.to_str(pretty=False).encode())
    write_json(out / "tokenizer_config.json", {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}, indent=2)


def main() -> None:
    """The command: writes the documents, trains, and writes the model."""
    parser = argparse.ArgumentParser(description="Train the language model of the embedded world from nothing.")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the model and its tokenizer")
    parser.add_argument("--documents", type=int, default=DOCUMENTS)
    parser.add_argument("--steps", type=int, default=STEPS, help=f"batches of {BATCH} documents")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    if args.documents < BATCH or args.steps < 1:
        parser.error(f"--documents must be at least {BATCH} and --steps at least 1")
    check_installed()
    torch.set_num_threads(1)  # fixed, as the order of sums depends on it: every run then gives the same weights, bit for bit
    print(f"writing {args.documents} documents", flush=True)
    written = [document(args.seed, number) for number in range(args.documents)]
    tokenizer = make_tokenizer([part.text for parts in written[:4000] for part in parts])
    model, _ = train([tokens_of(parts, tokenizer) for parts in written], args.steps, args.seed)
    save(model, tokenizer, args.out)
    print(f"wrote {args.out}")


if __name__ == "__main__":
    main()
