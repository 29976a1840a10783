"""A teacher with several templates encodes a caption once, and to the same bits whatever stands beside it."""

import torch

from prompts.engine.text_plan import Caption
from prompts.parts import teacher as module
from prompts.parts.teacher import Teacher

TEMPLATES = ["a photo of a {}.", "{}", "art of the {}."]
TEXTS = ["a red cat.", "the sea", "a dog beside a red car and a tree"]


def test_captions_are_encoded_once_by_themselves(small_clip, monkeypatch):
    by_name, by_caption = Teacher(TEMPLATES), Teacher(TEMPLATES)
    captions = [Caption(text) for text in TEXTS]
    by_name.bind(small_clip, [text.removesuffix(".") for text in TEXTS])
    by_caption.bind(small_clip, captions)
    whole = by_caption.text()
    torch.testing.assert_close(whole[1:], by_name.text()[1:], rtol=1e-5, atol=1e-5)
    again = Teacher(TEMPLATES)
    for order in ([2], [1, 2], [0, 2, 1]):
        again.bind(small_clip, [captions[i] for i in order])
        assert torch.equal(again.text(), whole[order])
    with monkeypatch.context() as patch:
        patch.setattr(type(small_clip), "encode_text", None)  # all are known
        again.bind(small_clip, captions[::-1])
        assert torch.equal(again.text(), whole.flip(0))
    monkeypatch.setattr(module, "MOST_KEPT", 1)
    again.bind(small_clip, [*captions, Caption("a hat")])
    assert torch.equal(again.text()[:3], whole)
    assert len(vars(again)["_captions"]) == 1
