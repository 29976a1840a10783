"""Tokenizers of other makes: what they put around a text, and their words."""

import pytest
import torch
from small_models import WORDS, WordCore, small_clip, small_tokenizer

from prompts.engine.text_plan import TextPlan, token_lists
from prompts.engine.tokenizers import ClipTokenizer, FileTokenizer
from prompts.parts.context import context_plan, initial_rows
from prompts.parts.words import LearnedTokens

CORPUS = [" ".join(WORDS[:-2]), "a photo of a golden retriever", "roses and tulips, cats and dogs.", "the sea or the lake"] * 3


def test_clips_own():
    ours = ClipTokenizer(context_length=20)
    assert (ours.start, ours.end, ours.pad_id) == ([49406], [49407], 0)
    assert ours.special_ids == [49406, 49407]


@pytest.mark.parametrize(
    ("kind", "start", "end"), [("xlm", [0], [2]), ("t5", [], [1]), ("siglip", [], [1]), ("bert", [2], [0])]
)
def test_what_stands_around_a_text(kind, start, end):
    tokenizer = small_tokenizer(kind, 12)
    assert (tokenizer.start, tokenizer.end) == (start, end)
    [row] = tokenizer("a rose")
    words = tokenizer.encode("a rose")
    assert row.tolist() == [*start, *words, *end] + [tokenizer.pad_id] * (12 - len(start + words + end))
    assert tokenizer("rose " * 30).shape == (1, 12)
    lists = token_lists(tokenizer, ["rose", "sea_lake"], "a {}.", 2, "end", 0)
    assert lists[1] == [*start, -1, -2, *tokenizer.encode("a sea lake."), *end]
    padded = TextPlan(lists).padded(12, tokenizer.pad_id)
    assert padded[0].tolist() == lists[0] + [tokenizer.pad_id] * (12 - len(lists[0]))
    with pytest.raises(ValueError, match="makes a prompt of .* tokens, but this CLIP's text tower holds 12"):
        token_lists(tokenizer, ["rose " * 12], "{}", 0, "end")


def test_case_and_punctuation_go_as_the_model_was_trained():
    plain, canonical = small_tokenizer("siglip", 12), small_tokenizer("siglip", 12, "canonicalize")
    assert canonical.encode("A Rose, a cat.") == plain.encode("a rose a cat")
    assert canonical.encode("a rose") == plain.encode("a rose") != plain.encode("A Rose")
    with pytest.raises(ValueError, match="one of lower, canonicalize, whitespace, not 'shout'"):
        FileTokenizer(WordCore([], ["</s>"]), 12, 1, "shout")


def test_tokens_between_words_are_refused():
    core = WordCore([], ["</s>"])
    encode = core.encode
    core.encode = lambda text, add_special_tokens: encode("cat" if add_special_tokens else text, add_special_tokens)
    with pytest.raises(ValueError, match="special tokens between the words"):
        FileTokenizer(core, 12, 1)


@pytest.mark.parametrize("name", ["ViT-L-14-worldwide", "ViT-B-16-SigLIP2", "ViT-bigG-14-CLIPA"])
def test_nearest_words_of_another_vocabulary(name):
    clip = small_clip(name)
    vocabulary = LearnedTokens(clip)
    assert len(vocabulary) == len(WORDS)  # neither special tokens nor rows without a token
    rows = initial_rows(clip, 2, "rose lake")
    assert [near[0][0] for near in vocabulary.nearest(rows, 1)] == ["rose", "lake"]


def test_slots_do_not_depend_on_what_a_tokenizer_makes_of_a_letter():
    clip = small_clip("ViT-B-16-SigLIP2")
    plan = context_plan(clip, ["rose", "cat"], 5, None)
    assert plan.n_slots == 5
    assert plan.padded(24, 1)[0, :6].tolist() == [-1, -2, -3, -4, -5, clip.tokenizer.encode("rose")[0]]


def trained(kind):
    """A tokenizer of the package tokenizers, as models of Hugging Face's have it."""
    tokenizers = pytest.importorskip("tokenizers")
    models, pre, post = tokenizers.models, tokenizers.pre_tokenizers, tokenizers.processors
    if kind == "bpe":
        core = tokenizers.Tokenizer(models.BPE(unk_token="<unk>"))
        core.pre_tokenizer, core.decoder = pre.ByteLevel(add_prefix_space=True), tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=320, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    elif kind == "wordpiece":
        core = tokenizers.Tokenizer(models.WordPiece(unk_token="<unk>"))
        core.pre_tokenizer = pre.BertPreTokenizer()
        trainer = tokenizers.trainers.WordPieceTrainer(vocab_size=120, special_tokens=["<s>", "<pad>", "</s>", "<unk>"])
    else:
        core = tokenizers.Tokenizer(models.Unigram())
        core.pre_tokenizer, core.decoder = pre.Metaspace(), tokenizers.decoders.Metaspace()
        special = ["<s>", "<pad>", "</s>", "<unk>"]
        trainer = tokenizers.trainers.UnigramTrainer(vocab_size=80, special_tokens=special, unk_token="<unk>")
    core.train_from_iterator(CORPUS, trainer)
    core.post_processor = post.TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    return core


@pytest.mark.parametrize("kind", ["bpe", "wordpiece", "unigram"])
def test_tokenizers_of_hugging_faces_package(kind):
    core = trained(kind)
    tokenizer = FileTokenizer(type(core).from_str(core.to_str()), 24, 1)
    core.enable_padding(pad_id=1, pad_token="<pad>", length=24)
    texts = ["a photo of a golden retriever", "roses, cats."]
    assert tokenizer(texts).tolist() == [encoding.ids for encoding in core.encode_batch(texts)]
    assert (tokenizer.start, tokenizer.end, tokenizer.pad_id, tokenizer.special_ids) == ([0], [2], 1, [0, 1, 2, 3])
    words = [tokenizer.word(token) for token in tokenizer.encode("a photo of the zebra")]
    assert words[0] == "a"
    assert "".join(word.removeprefix("-") for word in words[1:-1]).startswith("photo")
    assert not any("▁" in word or "Ġ" in word or "#" in word for word in words)


def test_the_embeddings_are_those_that_enter_the_tower():
    for name in ("ViT-B-16", "ViT-L-14-worldwide"):
        clip = small_clip(name)
        assert torch.equal(clip.token_embeddings[:9], clip.embed_tokens(torch.arange(9)))
