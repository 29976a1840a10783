"""The `config.json` of a text tower of transformers', which anyone may have made.

transformers' own reader accepts any key of such a file: names of code to run (`auto_map`), of kernels to fetch, sizes beyond
any memory. So the file is read as data here, and transformers gets a copy with the known keys alone, within bounds.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from open_clip.hf_configs import arch_dict

from files.untrusted import read_json
from files.whole import write_json
from prompts.engine import weight_folder
from prompts.engine.hub import hub_file

MAX_BYTES = 2**20
MODEL_TYPES = tuple(arch_dict)
# the most that a number can be, several times what any published text tower has
LIMITS = dict.fromkeys(("hidden_size", "d_model"), 8192)
LIMITS |= dict.fromkeys(("num_hidden_layers", "num_layers", "num_decoder_layers", "encoder_layers", "decoder_layers"), 256)
LIMITS |= dict.fromkeys(("num_attention_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads"), 256)
LIMITS |= dict.fromkeys(("intermediate_size", "d_ff", "encoder_ffn_dim", "decoder_ffn_dim"), 2**16)
LIMITS |= dict.fromkeys(("max_position_embeddings", "relative_attention_max_distance"), 2**16)
LIMITS |= {"vocab_size": 2**21, "type_vocab_size": 1024, "d_kv": 1024, "relative_attention_num_buckets": 1024}
IDS = dict.fromkeys(("pad_token_id", "bos_token_id", "eos_token_id", "decoder_start_token_id"), 2**21)  # may be 0
NORMS = ("layer_norm_eps", "layer_norm_epsilon")
FLAGS = ("is_encoder_decoder", "scale_embedding")
WORDS = ("hidden_act", "activation_function", "feed_forward_proj", "position_embedding_type")  # names in transformers' tables


def known_config(data: Any) -> dict[str, Any]:
    """The known keys of a text tower's config, checked; other keys are left out.

    Raises:
        ValueError: another kind of model, code of its own, or a value that is not what its key takes.
    """
    if not isinstance(data, dict):
        raise ValueError("its text tower's config is no object.")
    if "auto_map" in data:
        raise ValueError("its text tower needs code of its own (auto_map), which is never run here.")
    if (kind := data.get("model_type")) not in MODEL_TYPES:
        raise ValueError(f"its text tower's model_type is {str(kind)[:80]!r}, where {', '.join(MODEL_TYPES)} are known.")
    known = {key: value for key, value in data.items() if value is not None and key in _CHECKS}
    for key, value in known.items():
        if not _CHECKS[key](key, value):
            raise ValueError(f"its text tower's {key} is {str(value)[:80]!r}, which no text tower has.")
    return known | {"model_type": kind}


def _is_size(key: str, value: Any) -> bool:
    return type(value) is int and 1 <= value <= LIMITS[key]


def _is_id(key: str, value: Any) -> bool:
    return type(value) is int and 0 <= value <= IDS[key]


def _is_small(key: str, value: Any) -> bool:
    return type(value) is float and 0 < value < 0.1


def _is_flag(key: str, value: Any) -> bool:
    return type(value) is bool


def _is_word(key: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"[a-z0-9_-]{1,40}", value) is not None


_CHECKS = dict.fromkeys(LIMITS, _is_size) | dict.fromkeys(IDS, _is_id) | dict.fromkeys(NORMS, _is_small)
_CHECKS |= dict.fromkeys(FLAGS, _is_flag) | dict.fromkeys(WORDS, _is_word)


@contextmanager
def checked_folder(name: str) -> Iterator[str]:
    """A folder with the checked config of a text tower, while it is built. `name`: a folder, or an id on the hub.

    Raises:
        ValueError: the config is missing, no JSON, or not that of a text tower that open_clip builds.
    """
    place = Path(name) / weight_folder.TRANSFORMERS_CONFIG
    path = place if Path(name).is_dir() else hub_file(name, weight_folder.TRANSFORMERS_CONFIG)
    config = known_config(read_json(path, "the text tower's config", MAX_BYTES))
    with tempfile.TemporaryDirectory() as folder:
        write_json(Path(folder) / weight_folder.TRANSFORMERS_CONFIG, config)
        yield folder
