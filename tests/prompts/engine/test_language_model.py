"""Frozen language models: losses and generation in batches against one by one and against plain loops."""

import math

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers")

from small_lms import KINDS, POSITIONS, VOCABULARY, WIDTH, network, small_lm, words

from prompts.engine.language_model import MASKED, FrozenLM, Generation, load_tiny_language_model
from prompts.engine.lm_sampling import GumbelNoise

TEXTS = ["a red ball", "red", "a blue box on the left"]
MODES = [Generation(max_tokens=8), Generation("beam", 8, beams=3), Generation("sample", 8, temperature=1.5, seed=3)]
RAGGED = ["Q: what?", "Q: what colour is it? A: red", "Q:"]


def contexts(width=WIDTH):
    torch.manual_seed(1)
    images = [torch.randn(n, width) for n in (5, 2, 3)]
    return [[images[0], "A picture of"], [images[1], "Q: what?", images[2], " A:"], ["Q:"]]


@pytest.mark.parametrize("kind", KINDS)
def test_losses_of_a_batch_are_those_one_by_one(kind):
    lm = small_lm(kind)
    both = list(zip(contexts(lm.width), TEXTS, strict=True))
    whole = lm.losses(contexts(lm.width), TEXTS)
    single = torch.cat([lm.losses([context], [text]) for context, text in both])
    torch.testing.assert_close(whole, single, rtol=1e-5, atol=1e-5)
    naive = torch.stack([plain_loss(lm, context, text) for context, text in both])
    torch.testing.assert_close(whole, naive, rtol=1e-5, atol=1e-5)


def plain_loss(lm, context, text):
    """Of the whole sequence by the model's own forward, then those positions whose next token is of the text or the end."""
    ids = [*lm.words.encode(" " + text), lm.words.end]
    rows = torch.cat([lm.rows(context), lm.embed(ids)])
    logits = lm.model(inputs_embeds=rows[None]).logits[0]
    return F.cross_entropy(logits[-len(ids) - 1 : -1], torch.tensor(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("generation", MODES, ids=lambda generation: generation.mode)
def test_generation_in_a_batch_is_that_one_by_one(kind, generation):
    """Contexts of several lengths are padded on the left, and positions count from their own first row."""
    lm = small_lm(kind)
    asked, keys = contexts(lm.width), [7, 8, 9]
    whole = lm.generate(asked, generation, keys)
    assert whole == [lm.generate([context], generation, [key])[0] for key, context in zip(keys, asked, strict=True)]
    assert whole == lm.generate(asked, generation, keys, cache=False)


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_a_plain_loop_without_a_cache(kind):
    lm = small_lm(kind)
    for context in contexts(lm.width):
        rows, made = lm.rows(context), []
        while len(made) < 8 and lm.words.end not in made:
            with torch.no_grad():
                made.append(int(lm.model(inputs_embeds=rows[None]).logits[0, -1].argmax()))
            rows = torch.cat([rows, lm.embed(made[-1:])])
        assert lm.generate([context], MODES[0]) == [lm.words.decode(made)]


def test_a_text_ends_at_its_end():
    """Where the end is the likeliest token, nothing is made, and the others of the batch go on."""
    lm = FrozenLM(network("gpt2"), words())
    assert lm.generate([["Q:"], ["A picture of"]], MODES[0])[0]
    row = lm.rows(["Q:"])
    with torch.no_grad():
        hidden = lm.model.base_model(inputs_embeds=row[None]).last_hidden_state[0, -1]
        lm.model.lm_head.weight[lm.words.end] = 100 * hidden / hidden.norm()
    assert lm.generate([["Q:"]], MODES[0]) == [""]


def test_labels_are_of_the_text_and_its_end_alone():
    labels = FrozenLM.labels([3, 1], [[5, 6, 0], [7, 0]], 6)
    assert labels.tolist() == [[MASKED, MASKED, 5, 6, 0, MASKED], [7, 0, MASKED, MASKED, MASKED, MASKED]]


def test_logits_are_made_for_the_text_alone():
    lm, counted = small_lm(), []
    hook = lm.model.lm_head.register_forward_hook(lambda module, inputs, output: counted.append(len(output)))
    lm.losses(contexts(), TEXTS)
    hook.remove()
    assert counted == [sum(len(lm.words.continuation(text)) + 1 for text in TEXTS)]


def test_gradients_reach_the_rows_and_nothing_of_the_model():
    lm = small_lm().train()
    rows = torch.randn(4, WIDTH, requires_grad=True)
    lm.losses([[rows, "A picture of"]], ["a red ball"]).sum().backward()
    assert rows.grad.abs().sum(1).gt(0).all()
    assert all(p.grad is None and not p.requires_grad for p in lm.parameters())
    assert not any(module.training for module in lm.modules())


def test_draws_depend_on_the_seed_and_the_key_alone():
    lm, same = small_lm(), [["A picture of"]] * 3
    drawn = lm.generate(same, MODES[2], [7, 8, 7])
    assert drawn[0] == drawn[2] != drawn[1]
    assert drawn != lm.generate(same, Generation("sample", 8, temperature=1.5, seed=4), [7, 8, 7])
    nearly_greedy = Generation("sample", 8, top_p=1e-6)
    assert lm.generate(same[:1], nearly_greedy) == lm.generate(same[:1], MODES[0])


def test_noise_draws_from_the_softmax():
    scores = torch.tensor([[0.0, math.log(3), -math.inf]]).expand(4000, -1)
    drawn = GumbelNoise(0, range(4000))(None, scores).argmax(1)
    assert drawn.bincount(minlength=3)[2] == 0
    assert (drawn == 1).float().mean() == pytest.approx(0.75, abs=0.03)


def test_what_is_too_long_is_a_sentence_with_its_lengths():
    lm = small_lm()
    with pytest.raises(ValueError, match="60 rows and the 8 tokens of the text to be made .* more than the 64 positions"):
        lm.generate([[torch.randn(60, WIDTH)]], MODES[0])
    count = len(lm.words.continuation("a red ball")) + 1
    with pytest.raises(ValueError, match=f"62 rows and the {count} tokens of its text are more than the 64 positions"):
        lm.losses([[torch.randn(62, WIDTH)]], ["a red ball"])
    assert lm.losses([[torch.randn(POSITIONS - count, WIDTH)]], ["a red ball"]).isfinite().all()


def test_bad_contexts_and_settings_are_sentences():
    lm = small_lm()
    with pytest.raises(ValueError, match=r"rows of the shape \(2, 5\), where its embedding space has 32"):
        lm.losses([[torch.randn(2, 5)]], ["a"])
    with pytest.raises(ValueError, match="is empty"):
        lm.generate([[]], MODES[0])
    for settings, message in (
        ({"mode": "best"}, "mode='best' is none of greedy, beam, sample"),
        ({"max_tokens": 0}, "max_tokens=0: give a number, 1 or more"),
        ({"beams": 1.5}, "beams=1.5"),
        ({"temperature": 0}, "temperature=0"),
        ({"top_p": 1.1}, "top_p=1.1"),
    ):
        with pytest.raises(ValueError, match=message):
            Generation(**settings)


# ---- tokenizers


def test_a_tokenizer_without_a_padding_token_serves():
    lm = small_lm()
    assert lm.words.tokenizer.pad_token is None
    assert len(lm.generate([[text] for text in RAGGED], MODES[0])) == 3


def test_a_tokenizer_without_an_end_is_a_sentence():
    with pytest.raises(ValueError, match="no token for the end of a text.*name one as eos_token"):
        words(eos_token=None)


def test_a_tokenizer_of_another_model_is_a_sentence():
    other = words()
    other.size = VOCABULARY + 1
    with pytest.raises(ValueError, match="has 300 tokens and its tokenizer 301"):
        FrozenLM(network("gpt2"), other)


def test_texts_go_on_behind_a_space_and_start_as_their_tokenizer_does():
    ours = words()
    assert ours.continuation(" red ") == ours.encode(" red") != ours.encode("red")
    assert ours.continuation("  ") == ours.start == []
    assert ours.decode([*ours.encode(" a red ball"), ours.end, *ours.encode("more")]) == "a red ball"
    assert ours.end not in ours.encode("a <|endoftext|> b")
    assert ours.decode(ours.encode("a <|endoftext|> b")) == "a <|endoftext|> b"
    begins = words(bos_token="<|endoftext|>")
    begins.tokenizer.backend_tokenizer  # noqa: B018 - has no template that puts one in front
    assert begins.start == []


def test_bf16_is_close_and_keeps_the_identity():
    lm = FrozenLM(network("gpt2"), words())
    exact, identity = lm.losses(contexts(), TEXTS), small_lm().identity
    lm.store_bf16()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = lm.losses(contexts(), TEXTS)
        assert len(lm.generate(contexts(), MODES[0])) == 3
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.05, atol=0.1)
    assert lm.identity == identity
    kinds = {p.dtype for name, p in lm.model.named_parameters() if "ln" not in name and "wpe" not in name and p.dim() > 1}
    assert kinds == {torch.bfloat16}


def test_the_embedded_one_says_what_stands_in_front():
    lm = load_tiny_language_model()
    heaps = ["red star dotted red star photo star", "blue cup plain cup photo blue cup"]
    assert lm.generate([[heap, "Q: What is in the picture? A:"] for heap in heaps], Generation(max_tokens=5)) == ["star", "cup"]
    texts = ["a photo of a red dotted star.", "a photo of a blue cup."]
    own = lm.losses([[heap, "A picture of"] for heap in heaps], texts)
    other = lm.losses([[heap, "A picture of"] for heap in heaps[::-1]], texts)
    assert (own < other).all()


def test_the_benchmark_compares_equal_captions():
    from benchmarks.captioning import compare

    line = compare(small_lm(), torch.randn(2, 3, WIDTH), Generation(max_tokens=3), repeats=1)
    assert line.endswith("2 of 2 captions equal")
