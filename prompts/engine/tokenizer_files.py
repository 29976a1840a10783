"""The tokenizer of a CLIP: finds it (`TokenizerSpec`, without loading it), checks its files and makes it.

CLIP's own is open_clip's SimpleTokenizer. Others are transformers', from files of a folder or of the hub, wrapped as open_clip
wraps them. Anyone may have made such files. They are data: `trust_remote_code` is never given, a config that names code is
refused, the kind of tokenizer is one of a list, and no file is larger than any tokenizer is.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

from files.untrusted import read_json, regular_file
from prompts.engine import weight_folder

CONTEXT_LENGTH = 77  # tokens of a text, where a config says nothing
MAX_CONFIG_BYTES = 8 * 2**20  # of tokenizer_config.json, which lists special tokens
MAX_FILE_BYTES = 128 * 2**20  # the largest published vocabulary (Gemma's) has 33 MiB
# kinds of tokenizers whose files are a vocabulary and rules; with or without "Fast" behind the name
_NAMES = {"Bert", "CLIP", "Gemma", "M2M100", "MT5", "Nllb", "PreTrained", "Roberta", "Siglip", "Siglip2", "T5", "XLMRoberta"}
_NAMES |= {"GPT2", "GPTNeoX", "Llama", "Qwen2"}  # of language models
KINDS = {f"{kind}Tokenizer{fast}" for kind in _NAMES for fast in ("", "Fast")} | {"TokenizersBackend"}
MODEL_TYPES = {"bert", "clip", "gemma", "m2m_100", "mt5", "nllb", "roberta", "siglip", "siglip2", "t5", "xlm-roberta"}
MODEL_TYPES |= {"gpt2", "gpt_neox", "gptj", "llama", "mistral", "opt", "qwen2"}
PATHS = ("tokenizer_file", "vocab_file", "merges_file", "spm_file")  # keys by which transformers would read any file
SIMPLE = "simple"
HUB = "hf-hub:"


class TokenizerSpec(NamedTuple):
    """`kind`: "simple" (CLIP's own) or "hf" (transformers'). `place` of an hf one: a folder, or an id on the hub.
    `context_length`: tokens of a text. `options`: open_clip's, as clean, strip_sep_token, language and tokenizer_mode."""

    kind: str
    place: str | None
    context_length: int
    options: dict[str, Any]


def spec_of(text_cfg: dict[str, Any], folder: Path | None = None, given: str | None = None) -> TokenizerSpec:
    """The tokenizer of a checked text config.

    Args:
        folder: where the CLIP lies; the tokenizer's files, if there are any, go before the id that the config names.
        given: the user's own choice, which takes precedence: a folder, an id on the hub, or "simple".
    """
    options = dict(text_cfg.get("tokenizer_kwargs") or {})
    length = text_cfg.get("context_length", CONTEXT_LENGTH)
    named = text_cfg.get("hf_tokenizer_name") or text_cfg.get("hf_model_name")
    if given == SIMPLE or (given is None and not named):
        return TokenizerSpec(SIMPLE, None, length, options)
    is_here = folder is not None and any((folder / name).is_file() for name in weight_folder.TOKENIZER)
    place = given.removeprefix(HUB) if given else str(folder) if is_here else named
    if mode := text_cfg.get("tokenizer_mode"):
        options["tokenizer_mode"] = mode
    return TokenizerSpec("hf", place, length, options)


def make_tokenizer(spec: TokenizerSpec, fetch: Callable[[str, str], str | None] | None = None) -> Any:
    """The tokenizer, as open_clip makes it: callable on texts, (n, context_length) token ids.

    Args:
        fetch: (hub id, file) -> path of the file, or None where the hub's folder has none.

    Raises:
        ValueError: transformers is not installed, or the files are missing, are none of a tokenizer or name code.
    """
    if spec.kind == SIMPLE:
        options = {key: value for key, value in spec.options.items() if key == "clean"}
        return SimpleTokenizer(context_length=spec.context_length, **options)
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            f"the tokenizer {spec.place} needs a package that is not installed: pip install transformers sentencepiece."
        ) from error
    folder = tokenizer_folder(spec, fetch)
    transformers.utils.logging.set_verbosity_error()
    try:
        return HFTokenizer(
            str(folder), context_length=spec.context_length, trust_remote_code=False, local_files_only=True, **spec.options
        )
    except Exception as error:  # for files that do not fit together it raises many types
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"the tokenizer in {folder} cannot be loaded: {why.rstrip('.')}.") from error


def tokenizer_folder(spec: TokenizerSpec, fetch: Callable[[str, str], str | None] | None = None) -> Path:
    """The folder on this machine with the files of an hf tokenizer, which are checked to be data (`check_tokenizer_files`).

    Args:
        fetch: as in `make_tokenizer`.
    """
    folder = Path(str(spec.place)).expanduser()
    if not folder.is_dir() and fetch is not None:
        folder = _fetched(str(spec.place), fetch)
    check_tokenizer_files(folder)
    return folder


def check_tokenizer_files(folder: Path, way_out: str = "copy it there, or give clip.tokenizer=FOLDER") -> None:
    """ValueError unless the files of a tokenizer in a folder are data, of a known kind and no larger than any tokenizer's.
    `way_out`: what to do where there is none."""
    if not any((folder / name).is_file() for name in weight_folder.TOKENIZER):
        raise ValueError(f"the folder {folder} holds no tokenizer ({', '.join(weight_folder.TOKENIZER[:2])}, ...): {way_out}.")
    for name in (*weight_folder.TOKENIZER, *weight_folder.TOKENIZER_EXTRAS):
        if (folder / name).exists() and (size := regular_file(folder / name, "the file").stat().st_size) > MAX_FILE_BYTES:
            raise ValueError(f"the tokenizer's {folder / name} has {size:,} bytes, more than any tokenizer has.")
    says = [_config(folder / name) for name in (weight_folder.TOKENIZER_CONFIG, weight_folder.TRANSFORMERS_CONFIG)]
    for config, name in zip(says, (weight_folder.TOKENIZER_CONFIG, weight_folder.TRANSFORMERS_CONFIG), strict=True):
        if "auto_map" in config:
            raise ValueError(f"the tokenizer in {folder} needs code of its own ({name} has auto_map), which is never run here.")
        if path := next((key for key in PATHS if config.get(key) is not None), None):
            raise ValueError(f"the tokenizer in {folder} names a file elsewhere ({path} in {name}): remove that line.")
    kind = says[0].get("tokenizer_class", says[1].get("tokenizer_class"))
    if kind is not None and str(kind) not in KINDS:
        raise ValueError(f"the tokenizer in {folder} is a {str(kind)[:80]!r}, where {', '.join(sorted(KINDS))} are known.")
    if kind is None and str(says[1].get("model_type")) not in MODEL_TYPES:
        raise ValueError(
            f"the tokenizer in {folder} does not say its kind: {weight_folder.TOKENIZER_CONFIG} lacks tokenizer_class."
        )


def _config(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    data = read_json(path, "the tokenizer's config", MAX_CONFIG_BYTES)
    if not isinstance(data, dict):
        raise ValueError(f"the tokenizer's config {path} is no object.")
    return data


def _fetched(hub_id: str, fetch: Callable[[str, str], str | None]) -> Path:
    """The folder of the hub's cache that holds the tokenizer's files."""
    names = (weight_folder.TOKENIZER_CONFIG, *weight_folder.TOKENIZER, *weight_folder.TOKENIZER_EXTRAS)
    paths = [path for name in (*names, weight_folder.TRANSFORMERS_CONFIG) if (path := fetch(hub_id, name)) is not None]
    if not paths:
        raise ValueError(f"the tokenizer {hub_id} is not on the hub: give clip.tokenizer=FOLDER.")
    return Path(paths[0]).parent
