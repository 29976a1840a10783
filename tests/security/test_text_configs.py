"""The configs of transformers' text towers that other people made: refused in a sentence, or read within bounds."""

import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_models import HF_SIZES, SMALL_HF, VOCABULARY

from prompts.engine import hf_config
from prompts.engine.build import build
from prompts.engine.clip import load_clip
from prompts.engine.hf_config import checked_folder, known_config

ROBERTA = SMALL_HF["roberta-base"] | HF_SIZES["bert"] | {"vocab_size": VOCABULARY, "layer_norm_eps": 1e-5, "hidden_act": "gelu"}
MT5 = SMALL_HF["google/mt5-base"] | HF_SIZES["mt5"]
BAD = [
    ({"auto_map": {"AutoModel": "evil.Evil"}}, "needs code of its own"),
    ({"model_type": "evil"}, "model_type is 'evil', where roberta"),
    ({"model_type": ["bert"]}, "model_type is"),
    ({"model_type": "x" * 10**6}, "model_type is 'xxx"),
    ({"hidden_size": 10**9}, "hidden_size is '1000000000', which no text tower has"),
    ({"hidden_size": 0}, "hidden_size is"),
    ({"hidden_size": True}, "hidden_size is"),
    ({"hidden_size": "64"}, "hidden_size is"),
    ({"num_hidden_layers": 10**6}, "num_hidden_layers is"),
    ({"num_attention_heads": -1}, "num_attention_heads is"),
    ({"intermediate_size": 2**30}, "intermediate_size is"),
    ({"max_position_embeddings": 2**40}, "max_position_embeddings is"),
    ({"vocab_size": 2**40}, "vocab_size is"),
    ({"pad_token_id": -1}, "pad_token_id is"),
    ({"layer_norm_eps": 1e9}, "layer_norm_eps is"),
    ({"hidden_act": "os.system"}, "hidden_act is"),
    ({"is_encoder_decoder": "yes"}, "is_encoder_decoder is"),
]


def folder_of(tmp_path, content):
    (tmp_path / "config.json").write_text(json.dumps(content))
    return str(tmp_path)


@pytest.mark.parametrize(("says", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_a_sentence(tmp_path, says, message):
    assert known_config(ROBERTA) == ROBERTA
    with pytest.raises(ValueError, match=message) as caught, checked_folder(folder_of(tmp_path, ROBERTA | says)):
        pass
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_not_known_stays_behind(tmp_path):
    """Above all what names code: kernels, quantizers, other models."""
    more = {"attn_implementation": "evil/kernels", "quantization_config": {"quant_method": "evil"}, "_name_or_path": "/etc"}
    with checked_folder(folder_of(tmp_path, ROBERTA | more)) as folder:
        assert json.loads((Path(folder) / "config.json").read_text()) == ROBERTA
        assert folder != str(tmp_path)


def test_an_id_on_the_hub_gives_its_config_alone(tmp_path, monkeypatch):
    asked = []

    def hub_file(hub_id, name):
        asked.append((hub_id, name))
        return f"{folder_of(tmp_path, MT5)}/{name}"

    monkeypatch.setattr(hf_config, "hub_file", hub_file)
    with checked_folder("org/name") as folder:
        assert json.loads((Path(folder) / "config.json").read_text()) == MT5
    assert asked == [("org/name", "config.json")]


def test_transformers_is_given_the_checked_copy(tmp_path, monkeypatch):
    """Also of a folder in open_clip's format that brings its text tower's config along."""
    monkeypatch.setitem(sys.modules, "transformers", sys)  # only whether it is there
    text = {"hf_model_name": "org/tower", "hf_tokenizer_name": "org/tower", "context_length": 24}
    vision = {"image_size": 16, "patch_size": 8, "width": 32, "head_width": 16, "layers": 2}
    config = {"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    (tmp_path / "org" / "tower").mkdir(parents=True)
    (tmp_path / "org" / "tower" / "config.json").write_text(json.dumps(ROBERTA | {"auto_map": {"AutoModel": "evil.Evil"}}))
    with pytest.raises(ValueError, match="cannot be built: its text tower needs code of its own") as caught:
        load_clip(f"local-dir:{tmp_path}", "random")
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="is no object"):
        build({"embed_dim": 32, "vision_cfg": vision, "text_cfg": {"hf_model_name": folder_of(tmp_path, [])}})


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)


@settings(max_examples=100, deadline=None)
@given(data=st.dictionaries(st.sampled_from([*hf_config.LIMITS, *ROBERTA, "auto_map", "x"]), VALUES) | VALUES)
def test_any_values_are_a_sentence_or_within_bounds(data):
    try:
        known = known_config(ROBERTA | data if isinstance(data, dict) else data)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
    else:
        assert all(1 <= value <= hf_config.LIMITS[key] for key, value in known.items() if key in hf_config.LIMITS)
