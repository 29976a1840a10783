"""Files of reference prompts (AAPE's spec, 2.2); T17 and T18 are numbers of its test list."""

import json

import pytest
import torch

from prompts.parts.reference_prompts import cache_key, encode_prompts, load_reference_prompts, match_names, normalised


def written(tmp_path, content, encoding="utf-8"):
    path = tmp_path / "prompts.json"
    path.write_bytes((content if isinstance(content, str) else json.dumps(content)).encode(encoding))
    return path


def test_t17_names_are_found_in_every_published_spelling(tmp_path):
    file = {
        "Dodge Dakota Crew Cab 2010": ["a truck"],
        "2012 Audi TT Coupe": ["a car"],
        "bakery (shop)": ["bread"],
        "background": ["nothing"],
        "Annual_Crop  Land": ["\nfields.", "", "  ", "rows."],
        "crane": ["a bird or a machine"],
    }
    names = ["2010 dodge dakota crew cab", "Audi TT Coupe 2012", "shop_bakery", "annual crop land", "crane", "crane"]
    lists = load_reference_prompts(written(tmp_path, file), names)
    assert lists == [["a truck"], ["a car"], ["bread"], ["fields.", "rows."], ["a bird or a machine"], ["a bird or a machine"]]
    matches = match_names([*names, "no such"], list(file))
    ways = ["with the year moved"] * 2 + ["by its words in another order", "in lower case", "as it is"]
    assert [matches[name][1] for name in dict.fromkeys(names)] == ways
    assert "no such" not in matches
    assert normalised(" Sea_or  Lake ") == "sea or lake"


def test_an_ambiguous_name_is_not_guessed():
    assert match_names(["shop bakery"], ["bakery (shop)", "bakery, shop"]) == {}
    assert match_names(["a"], ["b"], {"a": "b"}) == {"a": ("b", "alias")}


def test_t17_missing_classes_are_all_named(tmp_path):
    path = written(tmp_path, {"cat": ["a cat"], "cow": [" ", ""]})
    with pytest.raises(ValueError, match=r"no entry for 2 classes \(dog, emu\) and an empty list for 1 classes \(cow\)"):
        load_reference_prompts(path, ["dog", "cat", "emu", "cow", "dog"])
    assert load_reference_prompts(path, ["big_dog", "cow"], fallback="a {}.") == [["a big dog."], ["a cow."]]
    assert load_reference_prompts(path, ["dog"], aliases={"dog": "cat"}) == [["a cat"]]


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        ({"cat": {"looks": ["furry"]}}, "utf-8", "not flat: the entry 'cat'"),
        ({"cat": ["furry", ["tail"]]}, "utf-8", "not flat"),
        ({"cat": "furry"}, "utf-8", "not flat"),
        (["furry"], "utf-8", "holds a list"),
        ('{"café": ["au lait"]}', "latin-1", "not UTF-8"),
        ('{"cat": [', "utf-8", "not JSON"),
    ],
)
def test_other_formats_are_refused_in_a_sentence(tmp_path, content, encoding, message):
    with pytest.raises(ValueError, match=message):
        load_reference_prompts(written(tmp_path, content, encoding), ["cat"])


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ValueError, match="there is no prompt file .*nowhere.json"):
        load_reference_prompts(tmp_path / "nowhere.json", ["cat"])


def test_t18_the_first_of_each_question_are_kept():
    file = {"cat": [f"{question}.{i}" for question in range(2) for i in range(10)] + ["2.0"]}
    assert load_reference_prompts(file, ["cat"], per_query=2) == [["0.0", "0.1", "1.0", "1.1", "2.0"]]
    with pytest.raises(ValueError, match="give 1 to 10"):
        load_reference_prompts(file, ["cat"], per_query=11)
    assert load_reference_prompts({"cat": ["b", "a", "b"]}, ["cat"], dedup=True) == [["b", "a"]]


def test_features_are_padded_and_equal_those_of_single_sentences(small_clip, tmp_path):
    lists = [["a cat.", "furry", "a cat."], ["it barks"]]
    emb, mask = encode_prompts(small_clip, lists, tmp_path)
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(emb[0, 0], emb[0, 2])
    assert not emb[1, 1:].any()
    tokens = small_clip.tokenizer(["a cat.", "furry", "it barks"])
    whole = small_clip.model.encode_text(tokens)
    torch.testing.assert_close(torch.stack([emb[0, 0], emb[0, 1], emb[1, 0]]), whole, rtol=1e-4, atol=1e-5)


def test_long_sentences_are_cut_and_keep_their_end(small_clip, tmp_path):
    room = small_clip.tokenizer.context_length - 2
    emb, _ = encode_prompts(small_clip, [["red " * room], ["red " * (room + 9)]], tmp_path)
    torch.testing.assert_close(emb[0], emb[1])
    assert not torch.allclose(emb[0], encode_prompts(small_clip, [["red " * (room - 1)]], tmp_path)[0][0])


def test_t17_features_are_cached_by_content(small_clip, resnet_clip, tmp_path, monkeypatch):
    lists = [["one", "two"], ["three"]]
    first, _ = encode_prompts(small_clip, lists, tmp_path)
    assert len({cache_key(c, t) for c in (small_clip, resnet_clip) for t in (["a"], ["b"])}) == 4
    key = cache_key(small_clip, ["a"])
    assert key == cache_key(small_clip, ["a"])
    with monkeypatch.context() as patch:  # another tokenizer
        patch.setattr(small_clip.tokenizer, "encode", lambda text: [1])
        assert key != cache_key(small_clip, ["a"])
    monkeypatch.setattr("prompts.parts.reference_prompts._encode", None)  # nothing is encoded again
    again, _ = encode_prompts(small_clip, lists, tmp_path)
    assert torch.equal(first, again)
    monkeypatch.undo()
    next(tmp_path.glob("*.safetensors")).write_bytes(b"cut off")
    assert torch.equal(encode_prompts(small_clip, lists, tmp_path)[0], first)


def test_a_class_without_prompts_is_refused(small_clip, tmp_path):
    with pytest.raises(ValueError, match="1 have none"):
        encode_prompts(small_clip, [["one"], []], tmp_path)
