"""Configs of CLIP models that other people made: refused in a sentence, or built within bounds."""

import json
import time

import open_clip
import pytest
from arbitrary import changed
from hypothesis import given, settings
from hypothesis import strategies as st

from prompts.engine.architecture import find
from prompts.engine.clip import load_clip

GOOD = {
    "embed_dim": 32,
    "vision_cfg": {"layers": 2, "width": 64, "head_width": 32, "patch_size": 8, "image_size": 16},
    "text_cfg": {"layers": 2, "width": 64, "heads": 4, "context_length": 28, "vocab_size": 49408},
    "quick_gelu": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.2, 0.2, 0.2],
}
# where in the config, what stands there, what the sentence says
BAD = [
    (("embed_dim",), 10**9, "embed_dim is not between"),
    (("embed_dim",), 0, "embed_dim is not between"),
    (("embed_dim",), "32", "embed_dim is no integer"),
    (("embed_dim",), True, "embed_dim is no integer"),
    (("embed_dim",), None, "embed_dim is no integer"),
    (("vision_cfg",), [], "vision_cfg is no object"),
    (("text_cfg",), None, "text_cfg is no object"),
    (("quick_gelu",), "yes", "quick_gelu is neither"),
    (("image_mean",), [0.5], "mean is not three numbers"),
    (("image_mean",), [0.5, 0.5, 1e300], "mean is not three numbers"),
    (("image_std",), [0, 0.2, 0.2], "std is not three numbers"),
    (("_target_",), "os.system", "the key '_target_'"),
    (("custom_text",), 1, "custom_text is neither"),
    (("nonscalar_logit_scale",), None, "nonscalar_logit_scale is neither"),
    (("init_logit_bias",), "-10", "init_logit_bias is no number"),
    (("init_logit_bias",), -1e30, "init_logit_bias is not between -1,000 and"),
    (("init_logit_scale",), None, "init_logit_scale is no number"),
    (("multimodal_cfg",), {}, "without custom_text"),
    (("cast_dtype",), "float16", "the key 'cast_dtype'"),
    (("x" * 5000,), 1, "which no config of open_clip's has"),
    (("vision_cfg", "width"), 10**9, "vision_cfg.width is not between"),
    (("vision_cfg", "width"), 64.0, "vision_cfg.width is a float"),
    (("vision_cfg", "width"), None, "vision_cfg.width is a NoneType"),
    (("vision_cfg", "layers"), 10**6, "vision_cfg.layers is not between"),
    (("vision_cfg", "layers"), [10**6] * 4, "vision_cfg.layers is not between"),
    (("vision_cfg", "layers"), [1, 1], "neither an integer nor four"),
    (("vision_cfg", "layers"), ["a"] * 4, "layers is no integer"),
    (("vision_cfg", "head_width"), 0, "head_width is not between"),
    (("vision_cfg", "head_width"), 20, "cannot be built"),
    (("vision_cfg", "mlp_ratio"), 1e6, "mlp_ratio is not between"),
    (("vision_cfg", "mlp_ratio"), "4", "mlp_ratio is a str"),
    (("vision_cfg", "patch_size"), 32, "larger than the image"),
    (("vision_cfg", "patch_size"), None, "larger than the image"),
    (("vision_cfg", "image_size"), [16, 24], "not that of a square"),
    (("vision_cfg", "image_size"), 10**5, "image_size is not between"),
    (("vision_cfg", "pool_type"), "anything", "cannot be built"),
    (("vision_cfg", "pos_embed_type"), "anything", "cannot be built"),
    (("vision_cfg", "norm_kwargs"), {"device": "cuda"}, "not understood here"),
    (("vision_cfg", "norm_kwargs"), {"eps": [1]}, "not understood here"),
    (("vision_cfg", "act_kwargs"), {"approximate": "anything"}, "cannot be built"),
    (("vision_cfg", "timm_model_name"), "resnet", "'resnet' is no model that timm"),
    (("vision_cfg", "timm_model_name"), "hf-hub:someone/model", "is no model that timm"),
    (("vision_cfg", "timm_model_name"), "local-dir:/tmp", "is no model that timm"),
    (("vision_cfg", "timm_model_name"), "https://example.com/x", "is no model that timm"),
    (("vision_cfg", "timm_model_name"), "x" * 10**6, "longer than 200 characters"),
    (("vision_cfg", "timm_model_name"), ["resnet50"], "timm_model_name is a list"),
    (("vision_cfg", "timm_drop"), 1e9, "timm_drop is not between"),
    (("vision_cfg", "new"), 1, "new is no key of open_clip's"),
    (("text_cfg", "hf_model_name"), "/etc", "hf_model_name='/etc' is no id on the hub"),
    (("text_cfg", "hf_model_name"), "https://example.com/x", "is no id on the hub"),
    (("text_cfg", "hf_tokenizer_name"), "../../someone", "is no id on the hub"),
    (("text_cfg", "hf_tokenizer_name"), "a/..", "is no id on the hub"),
    (("text_cfg", "hf_tokenizer_name"), "a\nb", "not printable"),
    (("text_cfg", "tokenizer_mode"), "anything", "tokenizer_mode is not clips"),
    (("text_cfg", "vocab_size"), 10**12, "vocab_size is not between"),
    (("text_cfg", "vocab_size"), 100, "names no tokenizer and is not made for CLIP's own"),
    (("text_cfg", "tokenizer_kwargs"), {"trust_remote_code": True}, "not understood here"),
    (("text_cfg", "tokenizer_kwargs"), {"strip_sep_token": 1}, "not understood here"),
    (("text_cfg", "tokenizer_kwargs"), {"strip_sep_token": True}, "CLIP's own tokenizer does not have"),
    (("text_cfg", "context_length"), 10**6, "context_length is not between"),
    (("text_cfg", "heads"), 5, "cannot be built"),
    (("text_cfg", "heads"), -1, "heads is not between"),
    (("text_cfg", "tokenizer_kwargs"), {"bpe_path": "/etc/passwd"}, "not understood here"),
    (("text_cfg", "tokenizer_kwargs"), {"additional_special_tokens": ["(a+)+$"]}, "not understood here"),
    (("text_cfg", "tokenizer_kwargs"), {"clean": "anything"}, "clean is neither"),
    (("text_cfg", "tokenizer_kwargs"), [1], "tokenizer_kwargs is a list"),
]


@pytest.mark.parametrize(("place", "value", "message"), BAD, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_a_sentence(tmp_path, place, value, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(changed(GOOD, place, value)))
    started = time.process_time()
    with pytest.raises(ValueError, match=message) as caught:
        load_clip(str(path), "random")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert time.process_time() - started < 2


def test_sizes_that_are_each_allowed_and_together_too_many(tmp_path):
    large = changed(
        GOOD, ("vision_cfg",), {"layers": 256, "width": 8192, "head_width": 64, "patch_size": 16, "image_size": 224}
    )
    path = tmp_path / "config.json"
    path.write_text(json.dumps(large))
    with pytest.raises(ValueError, match="more than 4,000,000,000 parameters"):
        load_clip(str(path), "random")
    path.write_text(json.dumps(changed(GOOD, ("vision_cfg",), {"width": 8192, "patch_size": 1, "image_size": 4096})))
    with pytest.raises(ValueError, match="too many patches"):
        load_clip(str(path), "random")


@pytest.mark.parametrize("text", ["", "[", "[]", "{}", "null", "NaN", "[" * 100_000, '{"embed_dim": 1}', '{"model_cfg": 3}'])
@pytest.mark.parametrize("way", ["json", "folder"])
def test_what_is_no_config(tmp_path, text, way):
    path = tmp_path / "open_clip_config.json"
    path.write_text(text)
    (tmp_path / "open_clip_model.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match="config|architecture") as caught:
        load_clip(str(path) if way == "json" else f"local-dir:{tmp_path}", "random")
    assert "\n" not in str(caught.value)


VALUES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.integers(0, 300), max_size=4)
)
PLACES = [(key,) for key in GOOD] + [(part, key) for part in ("vision_cfg", "text_cfg") for key in GOOD[part]]
PLACES += [("vision_cfg", "norm_kwargs"), ("text_cfg", "pad_id"), ("text_cfg", "proj_type"), ("vision_cfg", "ls_init_value")]
PLACES += [("vision_cfg", "timm_model_name"), ("text_cfg", "hf_model_name"), ("init_logit_bias",), ("custom_text",)]


@settings(max_examples=100, deadline=None)
@given(place=st.sampled_from(PLACES), value=VALUES | st.dictionaries(st.sampled_from(["eps", "mean", "x"]), VALUES))
def test_any_value_anywhere_is_a_sentence_or_a_config(tmp_path_factory, place, value):
    path = tmp_path_factory.mktemp("config") / "config.json"
    path.write_text(json.dumps(changed(GOOD, place, value)))
    try:
        source = find(str(path), "random")
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right
    else:
        assert set(source.config) <= {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu", "init_logit_bias", "custom_text"}


def test_open_clips_own_configs_pass_as_they_are():
    for name in open_clip.list_models():
        source, config = find(name, "random"), open_clip.get_model_config(name)
        for tower in ("vision_cfg", "text_cfg"):
            for key in ("timm_model_pretrained", "hf_model_pretrained"):  # nothing is fetched while it is built
                assert not source.config[tower].pop(key, False)
                config[tower].pop(key, None)
        assert source.config == config
    assert len(open_clip.list_models()) >= 144


MULTIMODAL = {"layers": 2, "width": 64, "heads": 2, "context_length": 16, "attn_pooler_heads": 2}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_queries": 10**7}, "multimodal_cfg.n_queries is not between"),
        ({"dim_head": 10**7}, "multimodal_cfg.dim_head is not between"),
        ({"device": "cuda"}, "multimodal_cfg.device is no key"),
        ({"width": "64"}, "multimodal_cfg.width is a str"),
    ],
)
def test_the_decoder_of_a_captioner_is_checked_too(tmp_path, change, message):
    path = tmp_path / "config.json"
    path.write_text(json.dumps(GOOD | {"custom_text": True, "multimodal_cfg": MULTIMODAL}))
    assert find(str(path), "random").config["multimodal_cfg"] == MULTIMODAL
    path.write_text(json.dumps(GOOD | {"custom_text": True, "multimodal_cfg": MULTIMODAL | change}))
    with pytest.raises(ValueError, match=message):
        find(str(path), "random")
