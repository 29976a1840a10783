"""Reference prompts: sentences about each class, written by people or by a language model, read from a file and encoded.

A file is one flat JSON object in UTF-8, {"class name": ["sentence.", ...], ...}, as CuPL, ProText and CoPrompt publish theirs.

Shapes: C classes, n the most prompts of any class, d width of the shared embedding.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from files.untrusted import MAX_CLASSES, read_json, regular_file, text_of
from files.whole import write_bytes
from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import TextPlan

LONGEST = 10_000  # characters in a sentence: the text tower reads 77 tokens
MOST_SENTENCES, MOST_IN_ALL = 10_000, 4_000_000  # per class, per file: ImageNet-21K with 50 per class has a million
MAX_PADDED = 2**30  # numbers in the table of features, 4 GB: ImageNet-21K with 50 a class and ViT-L has 2**29
TOKENIZER_SAMPLE = 1000  # sentences whose token ids identify the tokenizer
PER_QUERY = 10  # completions to each question of a language model; published lists hold them question by question
Prompts = Mapping[str, Sequence[str]]

# ---------------------------------------------------------------- files and names


def read_prompt_file(path: str | Path) -> dict[str, list[str]]:
    """The file's content, sentences stripped and empty ones dropped. ValueError where it is not in the format."""
    path = Path(os.path.expanduser(path))
    if not os.path.isfile(path):  # unlike Path.is_file: False for text that can be no path
        raise ValueError(f"there is no prompt file {path}: give the path of a JSON file {{class name: [sentence, ...]}}.")
    return _checked(read_json(path, "the prompt file"), f"the prompt file {path}")


def _checked(content: object, where: str) -> dict[str, list[str]]:
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds a {type(content).__name__}, not an object {{class name: [sentence, ...]}}.")
    if len(content) > MAX_CLASSES:
        raise ValueError(f"{where} has {len(content):,} entries, more than {MAX_CLASSES:,}: no list of classes is so long.")
    total = 0
    for name, texts in content.items():
        text_of(name, f"an entry's name in {where}", LONGEST)
        if not isinstance(texts, Sequence) or isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{where} is not flat: the entry {name!r} must be a list of sentences and nothing else.")
        total += len(texts)
        if len(texts) > MOST_SENTENCES or total > MOST_IN_ALL:
            raise ValueError(
                f"{where} has more than {MOST_SENTENCES:,} sentences for {name!r}, or {MOST_IN_ALL:,} in all: too many."
            )
        for text in texts:
            if len(text) > LONGEST or any(0xD800 <= ord(c) < 0xE000 for c in text):
                raise ValueError(
                    f"{where} has a sentence for {name!r} of more than {LONGEST:,} characters, or with an unpaired surrogate."
                )
    return {name: [text for line in texts if (text := line.strip())] for name, texts in content.items()}


def normalised(name: str) -> str:
    """A name in lower case, with single spaces for underscores and runs of space."""
    return " ".join(name.lower().replace("_", " ").split())


def _year_first(name: str) -> str:
    """ "Audi TT Coupe 2012" -> "2012 audi tt coupe": files differ in where a car's year stands."""
    name = normalised(name)
    return re.sub(r"^(.*) (\d{4})$", r"\2 \1", name)


def _any_order(name: str) -> str:
    """The name's words in sorted order: "bakery (shop)" and "shop bakery" are equal."""
    return " ".join(sorted(re.findall(r"[^\W_]+", normalised(name))))


# ways to compare names, from the strictest to the loosest: {description: the form of a name that is compared}
WAYS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in lower case": normalised,
    "with the year moved": _year_first,
    "by its words in another order": _any_order,
}


def match_names(classnames: Sequence[str], keys: Sequence[str], aliases: Mapping[str, str] | None = None) -> dict:
    """{class name: (key, how)} for the class names that a key of the file stands for; the others are left out.

    A way of comparing is tried where the stricter ones match nothing. Where it matches several keys, none is taken. `aliases`
    ({class name: key}) come first.
    """
    tables: dict[str, dict[str, list[str]]] = {}
    for how, form in WAYS.items():
        tables[how] = {}
        for key in keys:
            tables[how].setdefault(form(key), []).append(key)
    matches = {}
    for name in classnames:
        if aliases and aliases.get(name) in keys:
            matches[name] = aliases[name], "alias"
            continue
        for how, form in WAYS.items():
            answers = tables[how].get(form(name), ())
            if len(answers) == 1:
                matches[name] = answers[0], how
            if answers:
                break
    return matches


def load_reference_prompts(
    source: str | Path | Prompts,
    classnames: Sequence[str],
    aliases: Mapping[str, str] | None = None,
    fallback: str | None = None,
    dedup: bool = False,
    per_query: int | None = None,
) -> list[list[str]]:
    """The prompts of each class, in the file's order; classes of one name share a list, other keys are ignored.

    Args:
        source: a file's path, or its content.
        aliases: {class name: key of the file}, for names that `match_names` does not match.
        fallback: the only prompt of a class that has none, "{}" standing for its name; without it that is an error.
        dedup: drop repeated sentences.
        per_query: keep the first so many of each question's ten completions.

    Raises:
        ValueError: a file that is not in the format; all classes without prompts, by name.
    """
    if isinstance(source, Mapping):
        content, where = _checked(source, "the given prompts"), "the given prompts"
    else:
        content, where = read_prompt_file(source), f"the prompt file {source}"
    if per_query is not None and not 1 <= per_query <= PER_QUERY:
        raise ValueError(f"{per_query} prompts per query: give 1 to {PER_QUERY}, or null for all.")
    matches = match_names(classnames, list(content), aliases)
    absent = [name for name in dict.fromkeys(classnames) if name not in matches]
    empty = [name for name, (key, _) in matches.items() if not content[key]]
    if (absent or empty) and fallback is None:
        parts = [f"no entry for {len(absent)} classes ({', '.join(absent)})"] if absent else []
        parts += [f"an empty list for {len(empty)} classes ({', '.join(empty)})"] if empty else []
        raise ValueError(f"{where} has {' and '.join(parts)}: add prompts for them, or map their names with aliases.")
    lists = []
    for name in classnames:
        texts = content[matches[name][0]] if name in matches else []
        if per_query:
            texts = [text for i, text in enumerate(texts) if i % PER_QUERY < per_query]
        texts = list(dict.fromkeys(texts)) if dedup else texts
        lists.append(texts or [fallback.replace("{}", normalised(name))])
    return lists


# ---------------------------------------------------------------- features


def encode_prompts(clip: FrozenCLIP, lists: Sequence[Sequence[str]], cache: Path | None = None) -> tuple[Tensor, Tensor]:
    """((C,n,d) un-normalised float32 features, zero where a class has fewer than n; (C,n) bool, True where there is one).

    Sentences longer than the text tower's context are cut, their EOT kept. Features are kept by content (the text tower's
    weights and the sentences) in the folder `cache`, by default $PROMPT_CACHE or one in ~/.cache; it may be emptied.
    """
    if not lists or not all(lists):
        raise ValueError(f"each class needs at least one reference prompt; {sum(not texts for texts in lists)} have none.")
    padded = len(lists) * max(map(len, lists)) * clip.embed_dim
    if padded > MAX_PADDED:
        raise ValueError(
            f"a class has {max(map(len, lists)):,} reference prompts: for all {len(lists):,} classes the table of features "
            f"would have {padded:,} numbers, more than {MAX_PADDED:,}; give fewer prompts to that class."
        )
    texts = list(dict.fromkeys(text for sentences in lists for text in sentences))
    row = {text: i for i, text in enumerate(texts)}
    features = _encode_cached(clip, texts, cache or _cache_folder())
    mask = torch.zeros(len(lists), max(map(len, lists)), dtype=torch.bool)
    for present, sentences in zip(mask, lists, strict=True):
        present[: len(sentences)] = True
    emb = torch.zeros(*mask.shape, features.shape[-1])
    emb[mask] = features[torch.tensor([row[text] for sentences in lists for text in sentences])]
    return emb.to(clip.device), mask.to(clip.device)


def _cache_folder() -> Path:
    return Path(os.environ.get("PROMPT_CACHE") or Path.home() / ".cache" / "clip-prompt-features")


def cache_key(clip: FrozenCLIP, texts: Sequence[str]) -> str:
    """A digest of the text tower, its tokenizer and the sentences; the same on any machine."""
    kind = [clip.identity["architecture"], clip.identity["activation"]]
    # some sentences' token ids are enough to tell tokenizers apart; those of millions would take minutes
    ids = [clip.tokenizer.start, clip.tokenizer.end, *(clip.tokenizer.encode(text) for text in texts[:TOKENIZER_SAMPLE])]
    digest = hashlib.sha256(json.dumps([list(texts), kind, ids]).encode())
    for name, tensor in sorted(clip.text_weights().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


def _encode_cached(clip: FrozenCLIP, texts: Sequence[str], cache: Path) -> Tensor:
    path = cache / f"{cache_key(clip, texts)}.safetensors"
    with suppress(OSError, SafetensorError, KeyError, ValueError):  # absent or damaged: computed again
        cached = load_file(regular_file(path, "the cached features"))["features"]
        if cached.shape == (len(texts), clip.embed_dim) and cached.dtype == torch.float32 and cached.isfinite().all():
            return cached
    features = _encode(clip, texts).float().cpu()
    with suppress(OSError):  # without a writable folder the features are computed in each run
        write_bytes(path, save({"features": features}))
    return features


@torch.no_grad()
def _encode(clip: FrozenCLIP, texts: Sequence[str]) -> Tensor:
    tokenizer = clip.tokenizer
    room = tokenizer.context_length - len(tokenizer.start) - len(tokenizer.end)
    lists = [[*tokenizer.start, *tokenizer.encode(text)[:room], *tokenizer.end] for text in texts]
    return clip.encode_text(TextPlan(lists))
