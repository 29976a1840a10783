import torch

from prompts.engine.clip import load_tiny
from prompts.parts.words import LearnedTokens


def test_a_word_is_nearest_to_itself_and_what_no_caption_held_is_no_word():
    clip = load_tiny()
    vocabulary = LearnedTokens(clip)
    red, blue, unseen = (clip.tokenizer.encode(word)[0] for word in ("red", "blue", "parliament"))
    assert 50 < len(vocabulary) < 1000  # of 49,408
    learned = set(vocabulary.ids.tolist())
    assert {red, blue} <= learned
    assert not learned & {unseen, clip.tokenizer.sot_token_id, clip.tokenizer.eot_token_id}
    between = clip.embed_tokens(torch.tensor([red, blue]))
    vectors = torch.stack([between[0], 0.9 * between[0] + 0.1 * between[1], 0.4 * between[0] + 0.6 * between[1]])
    near = vocabulary.nearest(vectors, 3)
    assert [row[0][0] for row in near] == ["red", "red", "blue"]
    assert near[0][0][1] < 1e-3
    distances = (vectors[1] - vocabulary.embeddings).norm(dim=-1)
    torch.testing.assert_close(torch.tensor([d for _, d in near[1]]), distances.sort().values[:3], rtol=1e-3, atol=1e-3)


def test_every_token_of_a_whole_vocabulary_counts_and_pieces_of_words_are_told(small_clip):
    vocabulary = LearnedTokens(small_clip)
    assert len(vocabulary) == 49408 - 2
    whole, piece = (small_clip.tokenizer.encoder[token] for token in ("cat</w>", "cat"))
    names = [row[0][0] for row in vocabulary.nearest(small_clip.embed_tokens(torch.tensor([whole, piece])), 1)]
    assert names == ["cat", "cat-"]
    assert not any("\ufffd" in vocabulary.word(number) for number in range(len(vocabulary)))  # bytes that are no letter alone


def test_spacing_is_the_median_distance_to_another_word():
    vocabulary = LearnedTokens(load_tiny())
    apart = torch.cdist(vocabulary.embeddings, vocabulary.embeddings).fill_diagonal_(float("inf")).amin(1)
    assert abs(vocabulary.spacing(10_000) - apart.median().item()) < 1e-3
