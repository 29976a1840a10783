"""Language models that other people made: their configs, weights and tokenizers are read as data, or refused in a sentence."""

import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.engine import lm_config, lm_words
from prompts.engine.lm_config import known_config, read_model
from prompts.engine.tokenizer_files import check_tokenizer_files

GPT2 = {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 300}
BAD = [
    ({"auto_map": {"AutoModelForCausalLM": "evil.Evil"}}, "needs code of its own"),
    ({"quantization_config": {"quant_method": "evil"}}, "holds quantized weights"),
    ({"model_type": "evil"}, "model_type is 'evil', where gpt2"),
    ({"model_type": ["gpt2"]}, "model_type is"),
    ({"model_type": "x" * 10**6}, "model_type is 'xxx"),
    ({"n_embd": 10**9}, "n_embd is '1000000000', which no language model has"),
    ({"n_layer": 10**6}, "n_layer is"),
    ({"n_head": 0}, "n_head is"),
    ({"n_head": True}, "n_head is"),
    ({"n_positions": 2**40}, "n_positions is"),
    ({"n_positions": "64"}, "n_positions is"),
    ({"vocab_size": 2**40}, "vocab_size is"),
    ({"layer_norm_epsilon": 1e9}, "layer_norm_epsilon is"),
    ({"activation_function": "os.system"}, "activation_function is"),
    ({"rope_scaling": {"type": "../evil"}}, "rope_scaling is"),
    ({"rope_scaling": {"factor": 1e300}}, "rope_scaling is"),
    ({"rope_scaling": {"a": {"b": 1}}}, "rope_scaling is"),
    ({"rope_theta": -1}, "rope_theta is"),
    ({"scale_attn_weights": "yes"}, "scale_attn_weights is"),
]
RAN = []


class Evil:
    def __reduce__(self):
        return RAN.append, (1,)


@pytest.fixture
def _installed(monkeypatch):
    monkeypatch.setattr(lm_config, "check_installed", lambda: None)  # what is refused is refused before transformers is needed


@pytest.mark.parametrize(("says", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_a_sentence(says, message):
    assert known_config(GPT2) == GPT2
    with pytest.raises(ValueError, match=message) as caught:
        known_config(GPT2 | says)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_what_is_not_known_stays_behind():
    """Above all what names code or other files: kernels, other models, a way to generate."""
    more = {"attn_implementation": "evil/kernels", "_name_or_path": "/etc", "max_length": 9, "torch_dtype": "evil"}
    assert known_config(GPT2 | more) == GPT2


VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.lists(st.integers(), max_size=2)
VALUES |= st.dictionaries(st.text(max_size=5), st.floats() | st.text(max_size=5), max_size=2)


@settings(max_examples=100, deadline=None)
@given(data=st.dictionaries(st.sampled_from([*lm_config.CHECKS, "model_type", "auto_map", "x"]), VALUES) | VALUES)
def test_any_values_are_a_sentence_or_within_bounds(data):
    try:
        known = known_config(GPT2 | data if isinstance(data, dict) else data)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
    else:
        assert all(1 <= value <= lm_config.SIZES[key] for key, value in known.items() if key in lm_config.SIZES)


def folder_of(tmp_path, config=GPT2, **files):
    (tmp_path / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (tmp_path / name.replace("__", ".")).write_bytes(content)
    return str(tmp_path)


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize(
    "content", [pickle.dumps(Evil()), pickle.dumps({"wte.weight": Evil()}, protocol=2), b"", b"PK\x03\x04", b"\x80" * 99]
)
def test_no_pickle_of_weights_runs(tmp_path, content):
    with pytest.raises(ValueError, match="the language model's weights .* cannot be read") as caught:
        read_model(folder_of(tmp_path, pytorch_model__bin=content))
    assert RAN == []
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("_installed")
def test_an_index_names_files_of_its_folder_alone(tmp_path):
    index = json.dumps({"weight_map": {"wte.weight": "../../etc/passwd.bin"}}).encode()
    with pytest.raises(ValueError, match="which is no file of the folder"):
        read_model(folder_of(tmp_path, model__safetensors__index__json=index))


@pytest.mark.usefixtures("_installed")
@pytest.mark.parametrize("config", [[], "gpt2", None, {"model_type": "gpt2", "auto_map": {"AutoConfig": "evil.Evil"}}])
def test_a_bad_config_is_refused_before_the_weights_are_read(tmp_path, config, monkeypatch):
    monkeypatch.setattr(lm_config, "read_weights", lambda *args, **options: pytest.fail("read"))
    with pytest.raises(ValueError, match=f"lm.model={tmp_path}: "):
        read_model(folder_of(tmp_path, config, model__safetensors=b""))


@pytest.mark.usefixtures("_installed")
def test_a_config_that_claims_more_than_the_weights_hold_takes_no_memory(tmp_path):
    pytest.importorskip("transformers")
    import torch
    from safetensors.torch import save

    huge = GPT2 | {"n_embd": 2**14, "n_layer": 256, "n_head": 16}
    weights = save({"transformer.wte.weight": torch.zeros(300, 32)})
    with pytest.raises(ValueError, match="its config describes [0-9,]+ numbers, its weights are 9,600"):
        read_model(folder_of(tmp_path, huge, model__safetensors=weights))


@pytest.mark.parametrize(
    ("file", "says", "message"),
    [
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}, "needs code of its own"),
        ("tokenizer_config.json", {"tokenizer_class": "EvilTokenizer"}, "is a 'EvilTokenizer', where"),
        ("tokenizer_config.json", {"tokenizer_class": "GPT2Tokenizer", "vocab_file": "/etc/passwd"}, "names a file elsewhere"),
        ("config.json", {"model_type": "gpt2", "tokenizer_file": "/etc/passwd"}, "names a file elsewhere"),
        ("config.json", {"model_type": "evil"}, "does not say its kind"),
    ],
)
def test_a_tokenizer_is_data(tmp_path, file, says, message):
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / file).write_text(json.dumps(says))
    for check in (check_tokenizer_files, lm_words.read_words):
        with pytest.raises(ValueError, match=message) as caught:
            check(tmp_path)
        assert "\n" not in str(caught.value)


def test_a_missing_package_is_a_sentence(monkeypatch):
    """Whatever language model is asked for."""
    import sys

    from prompts.engine.language_model import load_language_model, load_tiny_language_model

    monkeypatch.setitem(sys.modules, "transformers", None)
    for load in (load_tiny_language_model, lambda: load_language_model("gpt2")):
        with pytest.raises(ValueError, match=r"needs packages that are not installed: pip install '.\[lm\]'"):
            load()
