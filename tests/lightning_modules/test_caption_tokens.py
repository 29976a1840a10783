"""Tokens of captions: what Stanford's PTBTokenizer (CoreNLP 3.4.1, Java) gave for sentences made by hand."""

import shutil

import pytest

from lightning_modules.caption_tokens import tokens, tokens_by_java

RECORDED = {
    "A man's dog doesn't like it (really).": "a man 's dog does n't like it -lrb- really -rrb-",
    "People at a table; it's 10:30 a.m. on Main St. in the U.S.": "people at a table it 's 10:30 a.m. on main st. in the u.s.",
    "A black-and-white photo of a T-shirt and/or a hat.": "a black-and-white photo of a t-shirt and/or a hat",
    '"Quoted" text, isn\'t it?! Wow!!! Wait...': "quoted text is n't it ?! wow !!! wait",
    "He cannot see; they're gonna go, we'll stay.": "he can not see they 're gon na go we 'll stay",
    "I'd say you've won't.": "i 'd say you 've wo n't",
    "1,000 red/white balloons at $5 each & 50% off #1": "1,000 red/white balloons at $ 5 each & 50 % off # 1",
    "Mr. Smith and Dr. Jones ride the no. 5 bus, 2nd st., etc.": "mr. smith and dr. jones ride the no. 5 bus 2nd st. etc.",
    "the boys' toys -- a children's playground - and": "the boys toys a children 's playground and",
    "7 o'clock in the '90s and 1990's": "7 o'clock in the '90s and 1990 's",
    "A sign [sic] {x} a@b.com http://x.com/a": "a sign -lsb- sic -rsb- -lcb- x -rcb- a@b.com http://x.com/a",
    "two men,one hat.another dog": "two men one hat.another dog",
    "café naïve “smart quotes” it’s don’t": "café naïve smart quotes it 's do n't",
    "half 1/2 3-4 people 5ft tall 10x10 #hashtag @user": "half 1/2 3-4 people 5ft tall 10x10 #hashtag @user",
    "a dog ,a cat ;a bird :three": "a dog a cat a bird three",
    "can't shouldn't've ain't": "ca n't should n't 've ai n't",
    "u.s. flag. p.m. time tv. tv": "u.s. flag p.m. time tv tv",
    "a man w/ a hat": "a man w / a hat",
    "a 49ers jersey and 3d glasses 3-D": "a 49ers jersey and 3d glasses 3-d",
    "the order — intelligent": "the order intelligent",
    "what....is this..": "what is this",
    "*star* ~tilde~ ^hat^ a_b": "* star * ~ tilde ~ ^ hat ^ a_b",
}
DIFFERENT = {  # known differences: Java, Python
    "a rock 'n' roll band": ("a rock 'n' roll band", "a rock n roll band"),
    "y'all": ("y' all", "y'all"),
    "a U.": ("a u.", "a u"),
}


@pytest.mark.parametrize("caption", RECORDED)
def test_tokens_are_those_of_the_java_program(caption):
    assert tokens(caption) == RECORDED[caption]


def test_a_caption_without_words_has_no_tokens():
    assert tokens("") == tokens(" .") == tokens("?!...".replace("?!", "")) == ""


def test_known_differences_stay_known():
    assert {caption: tokens(caption) for caption in DIFFERENT} == {
        caption: python for caption, (_, python) in DIFFERENT.items()
    }


def test_the_java_program_gives_what_is_recorded():
    pytest.importorskip("pycocoevalcap.cider.cider")
    if not shutil.which("java"):
        pytest.skip("no Java")
    expected = RECORDED | {caption: java for caption, (java, _) in DIFFERENT.items()}
    assert dict(zip(expected, tokens_by_java(list(expected)), strict=True)) == expected
    assert tokens_by_java(["", "a\ndog", ""]) == ["", "a dog", ""]


def test_without_java_one_sentence(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ValueError, match="no command java.*task.module.tokenizer"):
        tokens_by_java(["a dog"])
