"""A language model of transformers' from a folder or the hub, whose `config.json` and weights anyone may have made.

transformers gets a config with the known keys alone, within bounds, and tensors that were read as data. Names of code
(`auto_map`), of quantizers and of other files, and the folder's own settings for generation, are never used.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from files.untrusted import read_json
from prompts.engine import weight_folder
from prompts.engine.hub import hub_file, hub_weights, optional_file
from prompts.engine.weights import read_weights

MAX_BYTES = 2**20
MODEL_TYPES = ("gpt2", "gpt_neox", "gptj", "llama", "mistral", "opt", "qwen2")  # each is causal in every layer
# the most that a size can be, several times what any published model of these types has
SIZES = dict.fromkeys(("hidden_size", "n_embd", "word_embed_proj_dim"), 2**15)
SIZES |= dict.fromkeys(("intermediate_size", "n_inner", "ffn_dim"), 2**18)
SIZES |= dict.fromkeys(("num_hidden_layers", "n_layer", "num_attention_heads", "num_key_value_heads", "n_head"), 512)
SIZES |= dict.fromkeys(("max_position_embeddings", "n_positions", "sliding_window"), 2**20)
SIZES |= {"vocab_size": 2**21, "head_dim": 1024, "rotary_dim": 1024}
SHARES = ("rotary_pct", "partial_rotary_factor")
NORMS = ("layer_norm_eps", "layer_norm_epsilon", "rms_norm_eps")
FLAGS: tuple[str, ...] = ("attention_bias", "do_layer_norm_before", "enable_bias", "layer_norm_elementwise_affine", "mlp_bias")
FLAGS += ("_remove_final_layer_norm", "scale_attn_by_inverse_layer_idx", "scale_attn_weights", "tie_word_embeddings")
FLAGS += ("use_parallel_residual", "use_sliding_window")
WORDS = ("activation_function", "hidden_act")
BASES = ("rope_theta", "rotary_emb_base")
ROTARY = ("rope_scaling", "rope_parameters")  # mappings of plain numbers and the name of a way
REFUSED = {"auto_map": "needs code of its own", "quantization_config": "holds quantized weights"}


def _is_size(most: int, value: Any) -> bool:
    return type(value) is int and 1 <= value <= most


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9_-]{1,40}", value) is not None


def _is_rotary(value: Any) -> bool:
    """One level of names with plain values, none of which is large."""
    if not isinstance(value, dict) or len(value) > 20 or not all(map(_is_word, value)):
        return False
    return all(_is_word(v) or type(v) is bool or (_is_number(v) and abs(v) <= 1e9) for v in value.values() if v is not None)


CHECKS: dict[str, Callable[[Any], bool]] = {key: partial(_is_size, most) for key, most in SIZES.items()}
CHECKS |= dict.fromkeys(SHARES, lambda value: _is_number(value) and 0 < value <= 1)
CHECKS |= dict.fromkeys(NORMS, lambda value: _is_number(value) and 0 < value < 0.1)
CHECKS |= dict.fromkeys(BASES, lambda value: _is_number(value) and 1 <= value <= 1e9)
CHECKS |= dict.fromkeys(FLAGS, lambda value: type(value) is bool)
CHECKS |= dict.fromkeys(WORDS, _is_word) | dict.fromkeys(ROTARY, _is_rotary)


def known_config(data: Any) -> dict[str, Any]:
    """The known keys of a language model's config, checked; other keys are left out.

    Raises:
        ValueError: another kind of model, code of its own, or a value that is not what its key takes.
    """
    if not isinstance(data, dict):
        raise ValueError("its config is no object.")
    for key, why in REFUSED.items():
        if data.get(key) is not None:
            raise ValueError(f"it {why} ({key}), which is not read here.")
    if (kind := data.get("model_type")) not in MODEL_TYPES:
        raise ValueError(f"its model_type is {str(kind)[:80]!r}, where {', '.join(MODEL_TYPES)} are known.")
    known = {key: value for key, value in data.items() if value is not None and key in CHECKS}
    for key, value in known.items():
        if not CHECKS[key](value):
            raise ValueError(f"its {key} is {str(value)[:80]!r}, which no language model has.")
    return known | {"model_type": kind}


def described(config: Any) -> str:
    """A config of transformers' in words, including settings that the shapes of weights do not show."""
    sizes = f"{config.model_type} of {config.num_hidden_layers} x {config.hidden_size}, {config.num_attention_heads} heads"
    held = config.to_dict()
    shown = {key: held[key] for key in (*WORDS, *NORMS, *BASES, *SHARES, *ROTARY, *FLAGS) if held.get(key) is not None}
    more = "".join(f", {key} {value}" for key, value in sorted(shown.items()))
    return f"{sizes}, {config.max_position_embeddings} positions, {config.vocab_size} tokens{more}"


def read_model(name: str) -> tuple[nn.Module, Path]:
    """The causal model, float32, of a folder or of an id on the hub, and the folder on this machine with its tokenizer.

    Raises:
        ValueError: one sentence, where it cannot be had or read, is of no known kind, or transformers is not installed.
    """
    check_installed()
    folder = Path(name).expanduser()
    try:
        weights = _weights_of(folder) if folder.is_dir() else _fetched(name)
        folder = weights.parent
        config = known_config(read_json(folder / weight_folder.TRANSFORMERS_CONFIG, "the language model's config", MAX_BYTES))
        return build(config, read_weights(weights, what="the language model's weights").state), folder
    except ValueError as error:
        raise ValueError(f"lm.model={name}: {error}") from error


def check_installed() -> None:
    """ValueError where a package that language models need is not installed."""
    try:
        import transformers
    except ImportError as error:
        raise ValueError(
            "a language model needs packages that are not installed: pip install '.[lm]' in a clone of this project."
        ) from error
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()


def build(config: dict[str, Any], state: dict[str, Tensor]) -> nn.Module:
    """transformers' causal model of a checked config with these weights, float32.

    Raises:
        ValueError: the sizes fit neither each other nor the weights, or a tensor is missing or one too many.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    held = sum(tensor.numel() for tensor in state.values())
    try:
        values = {key: value for key, value in config.items() if key != "model_type"}
        made = AutoConfig.for_model(config["model_type"], **values, bos_token_id=None, eos_token_id=None, pad_token_id=None)
        with torch.device("meta"):
            empty = AutoModelForCausalLM.from_config(made)
        claimed = sum(parameter.numel() for parameter in empty.parameters())
        if claimed > 2 * held:  # before memory is taken
            raise ValueError(f"its config describes {claimed:,} numbers, its weights are {held:,}")
        model, loaded = type(empty).from_pretrained(
            None, config=made, state_dict=state, output_loading_info=True, dtype=torch.float32, trust_remote_code=False
        )
    except Exception as error:  # for sizes that do not fit, torch and transformers raise many types
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"it cannot be built: {why.rstrip('.')}.") from error
    for key, what in (("mismatched_keys", "of another size"), ("missing_keys", "missing"), ("unexpected_keys", "too many")):
        if names := sorted(map(str, loaded[key])):
            raise ValueError(f"its weights do not fit its config: {len(names)} tensors are {what}, first {names[0][:120]}.")
    return model


def _weights_of(folder: Path) -> Path:
    for name in weight_folder.TRANSFORMERS_WEIGHTS:
        if (folder / name).is_file():
            return folder / name
    raise ValueError(f"the folder has no weights named {' or '.join(weight_folder.TRANSFORMERS_WEIGHTS)}.")


def _fetched(hub_id: str) -> Path:
    """The weights of a model on the hub, downloaded at first, with its config and its tokenizer's files beside them."""
    if not re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", hub_id, re.ASCII) or ".." in hub_id:
        raise ValueError("there is no such folder, and an id on the hub is NAME or ORGANISATION/NAME.")
    try:
        hub_file(hub_id, weight_folder.TRANSFORMERS_CONFIG)
        for name in (weight_folder.TOKENIZER_CONFIG, *weight_folder.TOKENIZER, *weight_folder.TOKENIZER_EXTRAS):
            optional_file(hub_id, name)
        return Path(hub_weights(hub_id, transformers=True))
    except ValueError as error:
        raise ValueError(
            "there is no such folder, and on the hub, which may be out of reach, there is no language model of this id: give "
            "the folder of one, or lm=tiny, which needs no download."
        ) from error
