"""The embedded language model's documents and its training."""

import pytest
from numpy.random import RandomState

from datamodules.scenes import SIZES, scene
from tools.tiny_lm import MASKED, MOST_EXAMPLES, Part, document, heap


def test_documents_are_of_no_split_and_always_the_same():
    assert document(0, 3) == document(0, 3) != document(0, 4)
    assert all(scene(f"scenes/text0/{i}") for i in (0, 39_999))
    assert "text0" not in SIZES


def test_a_heap_is_of_words_about_the_scene():
    for number in range(20):
        content = scene(f"scenes/text0/{number}")
        known = {content.style, "small"} | {word for thing in content.things for word in thing[:3]}
        words = heap(content, RandomState(number)).split()
        assert set(words) <= known
        assert {thing.shape for thing in content.things} <= set(words)


def test_documents_end_examples_with_what_is_learned():
    seen = set()
    for number in range(60):
        parts = document(1, number)
        assert parts[-1].learned
        learned = [part.text.strip() for part in parts if part.learned]
        seen.add(len(learned))
        asks = any(part.text.startswith("Q: ") for part in parts)
        assert not any(part.learned for part in parts if part.text.startswith(("Q: ", "A picture of", "A photo of")))
        assert all(len(text.split()) <= 2 for text in learned) or not asks
    assert {1, 2} <= seen <= set(range(1, MOST_EXAMPLES + 1))


def test_it_learns_and_is_written_whole(tmp_path):
    pytest.importorskip("transformers")
    from prompts.engine.language_model import Generation, load_language_model
    from tools.tiny_lm import make_tokenizer, save, tokens_of, train

    documents = [[Part("red star", learned=False), Part("Q: what? A:", learned=False), Part(" star")]] * 32
    tokenizer = make_tokenizer([part.text for part in documents[0]])
    tokens, labels = tokens_of(documents[0], tokenizer)
    assert len(tokens) == len(labels)
    assert labels[-1] == tokens[-1] == 0
    assert [label for label in labels[:-1] if label != MASKED] == tokenizer.encode(" star").ids
    model, losses = train([(tokens, labels)] * 32, 120, seed=0)  # its rate rises over the first 100 steps
    assert losses[-1] < 0.5 < losses[0]
    save(model, tokenizer, tmp_path)
    lm = load_language_model(str(tmp_path))
    assert lm.generate([["red star", "Q: what? A:"]], Generation(max_tokens=4)) == ["star"]
