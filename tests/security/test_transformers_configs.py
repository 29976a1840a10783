"""Folders in transformers' layout that other people made: refused in a sentence, or read within bounds."""

import json

import pytest
from arbitrary import changed
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.engine.architecture import find
from prompts.engine.clip import load_clip

TOWER = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "hidden_act": "gelu"}
CLIP = {
    "model_type": "clip",
    "projection_dim": 32,
    "text_config": TOWER | {"vocab_size": 49408, "max_position_embeddings": 16, "eos_token_id": 49407, "layer_norm_eps": 1e-5},
    "vision_config": TOWER | {"image_size": 16, "patch_size": 8},
}
SIGLIP = {"model_type": "siglip", "text_config": {}, "vision_config": {}}
BAD = [
    (("model_type",), "bert", "model_type is 'bert', where clip and siglip are known"),
    (("model_type",), ["clip"], "model_type is"),
    (("model_type",), "x" * 10**6, "model_type is 'xxx"),
    (("projection_dim",), 10**9, "projection_dim is no number between"),
    (("projection_dim",), 10**5, "embed_dim is not between"),
    (("projection_dim",), None, "projection_dim is no number"),
    (("text_config",), None, "text_config is no object"),
    (("vision_config",), [1], "vision_config is no object"),
    (("text_config", "hidden_size"), "64", "text_config.hidden_size is no number"),
    (("text_config", "hidden_size"), 0, "text_config.hidden_size is no number"),
    (("text_config", "hidden_size"), True, "text_config.hidden_size is no number"),
    (("text_config", "num_hidden_layers"), 10**6, "layers is not between"),
    (("text_config", "num_attention_heads"), 5, "which 5 heads do not divide"),
    (("text_config", "vocab_size"), 2**40, "vocab_size is no number"),
    (("text_config", "max_position_embeddings"), 10**5, "context_length is not between"),
    (("text_config", "eos_token_id"), [49407], "eos_token_id is no number"),
    (("text_config", "layer_norm_eps"), "tiny", "layer_norm_eps is no small number"),
    (("text_config", "layer_norm_eps"), 1e9, "layer_norm_eps is no small number"),
    (("text_config", "hidden_act"), "os.system", "hidden_act is 'os.system', where open_clip has QuickGELU and GELU alone"),
    (("text_config", "hidden_act"), "quick_gelu", "one of its towers has QuickGELU and the other GELU"),
    (("vision_config", "intermediate_size"), 2**22, "mlp_ratio is not between"),
    (("vision_config", "image_size"), 10**6, "image_size is not between"),
    (("vision_config", "patch_size"), 32, "larger than the image"),
]
BAD_SIGLIP = [
    (("vision_config", "hidden_size"), 64, "timm has no image tower of SigLIP's with hidden_size=64"),
    (("vision_config", "image_size"), 225, "timm has no image tower of SigLIP's with .*image_size=225"),
    (("vision_config", "patch_size"), "16", "patch_size is no number"),
    (("vision_config", "vision_use_head"), False, "no attention pooling"),
    (("vision_config", "hidden_act"), "quick_gelu", "which no SigLIP of open_clip's has"),
    (("text_config", "projection_size"), 64, "its text features have 64 numbers, its image features 768"),
]


CASES = [(CLIP, *case) for case in BAD] + [(SIGLIP, *case) for case in BAD_SIGLIP]


@pytest.mark.parametrize(("good", "place", "value", "message"), CASES, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_a_sentence(tmp_path, good, place, value, message):
    (tmp_path / "config.json").write_text(json.dumps(good))
    find(f"local-dir:{tmp_path}", "random")
    (tmp_path / "config.json").write_text(json.dumps(changed(good, place, value)))
    with pytest.raises(ValueError, match=message) as caught:
        find(f"local-dir:{tmp_path}", "random")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(0, 300), max_size=4)
)
PLACES = [(key,) for key in CLIP] + [(part, key) for part in ("vision_config", "text_config") for key in CLIP[part]]


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES | st.dictionaries(st.text(max_size=4), VALUES), siglip=st.booleans())
def test_any_value_anywhere_is_a_sentence_or_a_config(tmp_path_factory, place, value, siglip):
    folder = tmp_path_factory.mktemp("config")
    config = changed(SIGLIP if siglip else CLIP, place, value) if not siglip or len(place) == 2 else CLIP
    (folder / "config.json").write_text(json.dumps(config))
    try:
        source = find(f"local-dir:{folder}", "random")
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
    else:
        assert {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"} <= set(source.config)


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "null", '{"model_type": "clip"}', '{"model_type": 1, "model_cfg": 2}'])
def test_what_is_no_config(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config|architecture") as caught:
        load_clip(f"local-dir:{tmp_path}", "random")
    assert "\n" not in str(caught.value)
