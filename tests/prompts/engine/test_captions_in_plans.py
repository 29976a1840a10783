"""Captions in the place of class names: what their prompts are made of, and that they are cut and not refused."""

import pytest
import torch
from small_models import small_tokenizer

from prompts.engine import text_plan
from prompts.engine.text_plan import Caption, TextPlan, token_lists
from prompts.engine.tokenizers import ClipTokenizer

LONG = Caption("A man_rides a very " + "very " * 80 + "tall wave.")


@pytest.fixture(scope="module")
def tokenizer():
    return ClipTokenizer(context_length=77)


@pytest.mark.parametrize("kind", ["clip", "xlm", "t5", "bert"])
def test_alone_a_caption_is_what_the_tokenizer_makes_of_it(tokenizer, kind):
    if kind != "clip":
        tokenizer = small_tokenizer(kind, 12)
    for text in ("a rose", "a rose.", LONG):
        caption = Caption(text)
        [tokens] = token_lists(tokenizer, [caption], "{}", 0, "end")
        [row] = tokenizer(text).tolist()
        assert tokens == row[: len(tokens)]
        assert set(row[len(tokens) :]) <= {tokenizer.pad_id}
        assert caption.cut == (text == LONG)


def test_long_captions_are_encoded_as_by_open_clip(small_clip):
    texts = [LONG, "a rose."]
    plan = TextPlan(token_lists(small_clip.tokenizer, [Caption(text) for text in texts], "{}", 0, "end"))
    with torch.no_grad():
        theirs = small_clip.model.encode_text(small_clip.tokenizer(texts))
        torch.testing.assert_close(small_clip.encode_text(plan), theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("position", ["end", "middle", "front"])
def test_prompts_and_eot_stay_where_a_caption_is_cut(tokenizer, position):
    caption = Caption(LONG)
    [tokens] = token_lists(tokenizer, [caption], "{}.", 4, position, 0)
    words = tokenizer.encode(LONG)
    assert caption.cut
    assert len(tokens) == 77
    assert (tokens[0], tokens[-1]) == (49406, 49407)
    assert [token for token in tokens if token < 0] == [-1, -2, -3, -4]
    assert [token for token in tokens[1:-1] if token >= 0] == words[:71]
    first = {"end": 1, "middle": 1, "front": 72}[position]
    assert tokens.index(-1) == first


def test_short_ones_equal_class_names(tokenizer):
    names = ["cat", "sea or lake", "red car"]
    for position in ("end", "middle", "front"):
        ours = token_lists(tokenizer, [Caption(name) for name in names], "X X {}.", 2, position)
        assert ours == token_lists(tokenizer, names, "X X {}.", 2, position)
    [one], [two] = (token_lists(tokenizer, [Caption(text)], "a {}.", 0, "end") for text in ("wave", "wave."))
    assert one == two  # one full stop


def test_no_room_is_still_refused(tokenizer):
    with pytest.raises(ValueError, match="makes a prompt of .* tokens, .* holds 77: .*fewer context tokens"):
        token_lists(tokenizer, [Caption("a rose")], "{}.", 76, "end", 0)


def test_a_caption_is_tokenised_once(tokenizer, monkeypatch):
    texts = [f"a wave number {number}" for number in range(5)]
    captions = [Caption(text) for text in texts]
    first = token_lists(tokenizer, captions, "{}.", 0, "end")
    monkeypatch.setattr(type(tokenizer), "encode", None)
    assert token_lists(tokenizer, captions[::-1], "{}.", 0, "end") == first[::-1]
    monkeypatch.undo()
    monkeypatch.setattr(text_plan, "MOST_KEPT", 3)
    assert token_lists(tokenizer, captions, "{}", 0, "end") == token_lists(tokenizer, texts, "{}", 0, "end")
    assert len(text_plan.kept_tokens[tokenizer]) <= 3
