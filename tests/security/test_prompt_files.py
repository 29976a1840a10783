"""Files of reference prompts, their cache, and a language model's answers that were kept: bounded and typed."""

from pathlib import Path

import pytest
import torch
from arbitrary import JSON, TEXTS, dump, few, in_one_sentence
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from toys import NAMES, toy_clip

from prompts.parts.reference_prompts import cache_key, encode_prompts, load_reference_prompts, read_prompt_file
from tools.ask_prompts import Bank, Endpoint


@few
@given(JSON | st.dictionaries(TEXTS, st.lists(TEXTS | JSON, max_size=3), max_size=3))
def test_reference_prompts(tmp_path_factory, content):
    path = dump(tmp_path_factory.getbasetemp() / "prompts.json", content)
    content_read = in_one_sentence(read_prompt_file, path)
    if content_read is not None:
        assert all(isinstance(text, str) and text.strip() for texts in content_read.values() for text in texts)
        if content_read:
            in_one_sentence(load_reference_prompts, path, list(content_read)[:1], None, "a {}.")


@pytest.mark.parametrize("texts", [["x" * 10_001], ["a"] * 10_001, ["half \ud800"]])
def test_sentences_are_bounded(tmp_path, texts):
    with pytest.raises(ValueError, match="the prompt file"):
        read_prompt_file(dump(tmp_path / "prompts.json", {"cat": texts}))


@pytest.mark.parametrize(
    "bad", [torch.zeros(1, 32), torch.zeros(2, 31), torch.zeros(2, 32).half(), torch.full((2, 32), torch.nan)]
)
def test_a_cache_of_other_features_is_made_again(tmp_path, bad):
    clip, lists = toy_clip(), [["a cat."], ["a dog."]]
    features, _ = encode_prompts(clip, lists, tmp_path)
    path = tmp_path / f"{cache_key(clip, ['a cat.', 'a dog.'])}.safetensors"
    save_file({"features": bad}, path)
    assert torch.equal(encode_prompts(clip, lists, tmp_path)[0], features)


@few
@given(st.lists(JSON, max_size=3) | st.tuples(st.just("cat"), TEXTS, st.just("m"), JSON))
def test_answers_that_were_kept(tmp_path_factory, line):
    path = tmp_path_factory.getbasetemp() / "bank.json"
    dump(Path(f"{path}.partial"), line)
    bank = in_one_sentence(Bank, path, ["cat"], ["a {name}?"], Endpoint("http://localhost", "m", completions=1))
    if bank is not None:
        assert all(isinstance(text, str) for texts in bank.answers.values() for text in texts)


def test_names_of_classes_are_shown_without_control(tmp_path):
    assert NAMES
    with pytest.raises(ValueError, match="control character"):
        read_prompt_file(dump(tmp_path / "prompts.json", {"cat\x1b[2J": ["a cat."]}))


@torch.no_grad()
def test_one_class_of_many_sentences_does_not_fill_the_memory():
    lists = [["a photo"] * 10_000, *([["a"]] * 10_000)]
    with pytest.raises(ValueError, match="give fewer prompts to that class"):
        encode_prompts(toy_clip(), lists)
