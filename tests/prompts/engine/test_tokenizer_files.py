"""Which tokenizer a CLIP has, and tokenizers of transformers' made on the spot."""

import json

import open_clip
import pytest
from layouts_by_hand import clip_config, siglip_config
from sizes import SMALL

from prompts.engine import architecture, transformers_config
from prompts.engine.tokenizer_files import TokenizerSpec, check_tokenizer_files, make_tokenizer
from prompts.engine.tokenizers import adapted

WORDS = ["<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "dog", "[SEP]"]


def write_tokenizer(folder, **says):
    """A tokenizer of nine words in transformers' files."""
    vocab = {word: i for i, word in enumerate(WORDS)}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    added = [{"id": i, "content": WORDS[i], "special": True} | flags for i in (0, 1, 2, 8)]
    end = [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}]
    pair = [*end, {"Sequence": {"id": "B", "type_id": 0}}]
    special = {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}}
    content = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {"type": "WhitespaceSplit"},
        "post_processor": {"type": "TemplateProcessing", "single": end, "pair": pair, "special_tokens": special},
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
    }
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(config | {"sep_token": "[SEP]"} | says))
    return folder


def spec(folder, length=6, **options):
    return TokenizerSpec("hf", str(folder), length, options)


@pytest.mark.parametrize("name", open_clip.list_models())
def test_specs_are_open_clips(name):
    text, found = open_clip.get_model_config(name)["text_cfg"], architecture.find(name, "random").tokenizer
    assert found.context_length == text.get("context_length", 77)
    assert found.options == text.get("tokenizer_kwargs", {})
    named = text.get("hf_tokenizer_name")
    assert (found.kind, found.place) == (("hf", named) if named else ("simple", None))


def test_clips_own_tokenizer_is_made_with_its_options():
    ours = make_tokenizer(TokenizerSpec("simple", None, 12, {"clean": "canonicalize"}))
    theirs = open_clip.SimpleTokenizer(context_length=12, clean="canonicalize")
    texts = ["A photo, of a Cat!", "two dogs"]
    assert ours(texts).tolist() == theirs(texts).tolist()
    assert ours(texts).tolist() != open_clip.SimpleTokenizer(context_length=12)(texts).tolist()


def test_where_tokenizers_lie(tmp_path):
    """A folder's own files go before the id that its config names, and the user's choice before both."""
    text = SMALL["text_cfg"] | {"hf_tokenizer_name": "org/name", "tokenizer_kwargs": {"strip_sep_token": True}}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": SMALL | {"text_cfg": text}}))
    model, options = f"local-dir:{tmp_path}", {"strip_sep_token": True}
    assert architecture.find(model, "random").tokenizer == TokenizerSpec("hf", "org/name", 28, options)
    write_tokenizer(tmp_path)
    assert architecture.find(model, "random").tokenizer == TokenizerSpec("hf", str(tmp_path), 28, options)
    assert architecture.find(model, "random", "hf-hub:a/b").tokenizer.place == "a/b"
    assert architecture.find(model, "random", "simple").tokenizer.kind == "simple"


def test_tokenizers_of_transformers_models(tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text(json.dumps(clip_config()))
    model = f"local-dir:{tmp_path}"
    assert architecture.find(model, "random").tokenizer == TokenizerSpec("simple", None, 28, {})
    other = clip_config()
    other["text_config"] |= {"vocab_size": 49408, "eos_token_id": 7}
    (tmp_path / "config.json").write_text(json.dumps(other))
    assert architecture.find(model, "random").tokenizer == TokenizerSpec("hf", str(tmp_path), 28, {})
    other["text_config"] |= {"vocab_size": 9}
    (tmp_path / "config.json").write_text(json.dumps(other))
    with pytest.raises(ValueError, match="fewer tokens than CLIP's own tokenizer"):
        architecture.find(model, "random", "simple")
    siglip = siglip_config()
    siglip["vision_config"] = {}  # SigLIP's own defaults, a tower that timm has
    siglip["text_config"] |= {"projection_size": 768}
    (tmp_path / "config.json").write_text(json.dumps(siglip))
    assert architecture.find(model, "random").tokenizer == TokenizerSpec("hf", str(tmp_path), 12, {"clean": "canonicalize"})
    assert transformers_config.is_transformers(siglip)


def test_a_tokenizer_of_a_folder(tmp_path):
    pytest.importorskip("transformers")
    tokenizer = make_tokenizer(spec(write_tokenizer(tmp_path)))
    texts, ids = ["a photo of a cat [SEP]", "dog"], [[3, 4, 5, 3, 6, 1], [7, 1, 0, 0, 0, 0]]
    assert tokenizer(texts).tolist() == ids
    assert adapted(tokenizer)(texts).tolist() == ids
    assert make_tokenizer(spec(tmp_path, strip_sep_token=True))(["a [SEP] cat"]).tolist() == [[3, 0, 6, 1, 0, 0]]
    assert make_tokenizer(spec(tmp_path, clean="canonicalize"))(["A Cat!"]).tolist() == [[3, 6, 1, 0, 0, 0]]


def test_a_tokenizer_of_the_hub_comes_file_by_file(tmp_path):
    pytest.importorskip("transformers")
    write_tokenizer(tmp_path)
    asked = []

    def fetch(hub_id, name):
        asked.append((hub_id, name))
        return str(tmp_path / name) if (tmp_path / name).exists() else None

    assert make_tokenizer(TokenizerSpec("hf", "org/name", 4, {}), fetch)(["a cat"]).tolist() == [[3, 6, 1, 0]]
    assert ("org/name", "tokenizer.json") in asked
    assert not any(name.endswith((".py", ".bin", ".pkl")) for _, name in asked)
    with pytest.raises(ValueError, match="the tokenizer org/none is not on the hub"):
        make_tokenizer(TokenizerSpec("hf", "org/none", 4, {}), lambda *_: None)


def test_without_the_package_there_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ValueError, match="needs a package that is not installed: pip install transformers"):
        make_tokenizer(spec(write_tokenizer(tmp_path)))


@pytest.mark.parametrize(
    ("says", "message"),
    [
        ({"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}, "needs code of its own .*auto_map"),
        ({"tokenizer_class": "EvilTokenizer"}, "is a 'EvilTokenizer', where"),
        ({"tokenizer_class": ["T5Tokenizer"]}, r"is a \"\['T5Tokenizer'\]\", where"),
        ({"tokenizer_class": None}, "does not say its kind"),
        ({"tokenizer_class": "T5TokenizerFast.evil"}, "is a 'T5TokenizerFast.evil', where"),
        ({"vocab_file": "/etc/passwd"}, "names a file elsewhere"),
        ({"tokenizer_file": "../../secret.json"}, "names a file elsewhere"),
    ],
)
def test_a_tokenizers_config_is_data(tmp_path, says, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_tokenizer_files(write_tokenizer(tmp_path, **says))
    assert "\n" not in str(caught.value)


def test_code_beside_a_tokenizer_never_runs(tmp_path):
    """Neither by the tokenizer's own config nor by the model's."""
    write_tokenizer(tmp_path)
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    (tmp_path / "config.json").write_text(json.dumps({"auto_map": {"AutoTokenizer": "evil.Evil"}, "model_type": "bert"}))
    with pytest.raises(ValueError, match="config.json has auto_map"):
        check_tokenizer_files(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_a_tokenizer_of_no_tokenizers_size(tmp_path):
    write_tokenizer(tmp_path)
    with (tmp_path / "spiece.model").open("wb") as file:
        file.truncate(10**9)
    with pytest.raises(ValueError, match="spiece.model has 1,000,000,000 bytes, more than any tokenizer"):
        check_tokenizer_files(tmp_path)
    (tmp_path / "spiece.model").unlink()
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no tokenizer .*give clip.tokenizer=FOLDER"):
        check_tokenizer_files(tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("[" * 10**5)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match="not JSON|levels deep"):
        check_tokenizer_files(tmp_path)


@pytest.mark.parametrize("content", ["{}", "[1]", '{"model": {"type": "WordLevel"}}', "\x00"])
def test_a_tokenizer_file_that_is_none_is_a_sentence(tmp_path, content):
    pytest.importorskip("transformers")
    write_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ValueError, match="the tokenizer in .* cannot be loaded") as caught:
        make_tokenizer(spec(tmp_path))
    assert "\n" not in str(caught.value)
