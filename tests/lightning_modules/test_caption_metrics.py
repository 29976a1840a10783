"""Caption metrics against second implementations: each formula written out anew, on cases made by hand and on random ones."""

import math
import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch
from toys import toy_clip

from lightning_modules import caption_metrics
from lightning_modules.caption_metrics import CaptionMetrics, clip_scores, encode_captions

WORDS = ["a", "two", "red", "blue", "dog", "cat", "circle", "sits", "runs", "on", "the", "mat"]


def ngrams(text, n):
    words = text.split()
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))


def cider_d(captions, references):
    """Vedantam et al., CVPR 2015, equations 1 to 4 and section 4, with sigma 6: per caption, in percent."""
    images = len(captions)
    df = Counter(gram for texts in references for gram in {g for text in texts for n in range(1, 5) for g in ngrams(text, n)})

    def vector(text, n):
        return {gram: count * (math.log(images) - math.log(max(1, df[gram]))) for gram, count in ngrams(text, n).items()}

    def one(caption, reference, n):
        told, known = vector(caption, n), vector(reference, n)
        norms = [math.sqrt(sum(value**2 for value in v.values())) for v in (told, known)]
        product = sum(min(told[g], known[g]) * known[g] for g in told.keys() & known.keys())
        # lengths are counted in bigrams by the COCO evaluation
        penalty = math.exp(-((sum(ngrams(caption, 2).values()) - sum(ngrams(reference, 2).values())) ** 2) / (2 * 6.0**2))
        return penalty * (product / (norms[0] * norms[1]) if all(norms) else product)

    return [
        100 * 10 * np.mean([np.mean([one(caption, text, n) for text in texts]) for n in range(1, 5)])
        for caption, texts in zip(captions, references, strict=True)
    ]


def bleu(captions, references, most):
    """Papineni et al., ACL 2002: of the corpus, the closest reference's length, in percent."""
    logs = []
    for n in range(1, most + 1):
        hits = sum(
            min(count, max(ngrams(text, n)[gram] for text in texts))
            for caption, texts in zip(captions, references, strict=True)
            for gram, count in ngrams(caption, n).items()
        )
        tried = sum(sum(ngrams(caption, n).values()) for caption in captions)
        logs.append(math.log((hits + 1e-15) / (tried + 1e-9)))  # the COCO evaluation's way around zero
    told = [len(caption.split()) for caption in captions]
    lengths = [
        min((len(text.split()) for text in texts), key=lambda length: (abs(length - t), length))
        for t, texts in zip(told, references, strict=True)
    ]
    return 100 * math.exp(np.mean(logs)) * min(1, math.exp(1 - sum(lengths) / sum(told)))


def rouge_l(caption, texts):
    """Lin, 2004, with beta 1.2 and the best precision and recall over references, in percent."""

    def common(a, b):
        if not a or not b:
            return 0
        return 1 + common(a[1:], b[1:]) if a[0] == b[0] else max(common(a[1:], b), common(a, b[1:]))

    shared = [common(tuple(caption.split()), tuple(text.split())) for text in texts]
    precision = max(s / len(caption.split()) for s in shared)
    recall = max(s / len(text.split()) for s, text in zip(shared, texts, strict=True))
    return 100 * (1 + 1.44) * precision * recall / (recall + 1.44 * precision) if precision and recall else 0.0


def sentence(rng, longest=8):
    return " ".join(rng.choices(WORDS, k=rng.randint(1, longest)))


def cases():
    yield ["a red dog runs"], [["a red dog runs"]]
    yield ["a dog", "two cat sits"], [["a dog", "the red dog"], ["two cat sits on the mat"]]
    yield ["a a a a", "cat"], [["a a", "a dog"], ["dog"]]
    for seed in range(8):
        rng = random.Random(seed)
        images = rng.randint(2, 12)
        yield [sentence(rng) for _ in range(images)], [[sentence(rng) for _ in range(rng.randint(1, 5))] for _ in range(images)]


@pytest.mark.parametrize("number", range(len(list(cases()))))
def test_metrics_equal_second_implementations(number):
    pytest.importorskip("pycocoevalcap.cider.cider")
    captions, references = list(cases())[number]
    scores = CaptionMetrics()(captions, references)
    assert scores.each["cider_d"] == pytest.approx(cider_d(captions, references), abs=1e-6)
    assert scores.together["cider_d"] == pytest.approx(np.mean(cider_d(captions, references)), abs=1e-6)
    for n in range(1, 5):
        assert scores.together[f"bleu_{n}"] == pytest.approx(bleu(captions, references, n), rel=1e-6)
    rouge = [rouge_l(caption, texts) for caption, texts in zip(captions, references, strict=True)]
    assert scores.each["rouge_l"] == pytest.approx(rouge, abs=1e-6)


def test_a_corpus_of_its_own_references_is_perfect():
    pytest.importorskip("pycocoevalcap.cider.cider")
    captions = ["A red dog runs on the mat.", "Two cats sit; they're blue!", "The circle is white and small"]
    scores = CaptionMetrics()(captions, [[text.upper()] for text in captions])
    for name in ("bleu_1", "bleu_4", "rouge_l"):
        assert scores.together[name] == pytest.approx(100, abs=1e-3)
    assert scores.together["cider_d"] == pytest.approx(1000)  # its scale: 10 is a caption that equals all references


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"tokenizer": "nltk"}, "choose python or java"),
        ({"java_metrics": ["cider"]}, "there are meteor and spice"),
    ],
)
def test_wrong_names_are_refused(arguments, words):
    with pytest.raises(ValueError, match=words):
        CaptionMetrics(**arguments)


def test_java_metrics_are_refused_without_java(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    for arguments in ({"java_metrics": ["meteor"]}, {"tokenizer": "java"}):
        with pytest.raises(ValueError, match="no command java"):
            CaptionMetrics(**arguments)


def test_an_image_without_references_is_refused():
    pytest.importorskip("pycocoevalcap.cider.cider")
    for captions, references in [([], []), (["a dog"], [[]])]:
        with pytest.raises(ValueError, match="against references"):
            CaptionMetrics()(captions, references)


def test_without_the_package_one_sentence_says_what_to_install(monkeypatch):
    def missing(name):
        raise ModuleNotFoundError(name=name)

    monkeypatch.setattr(caption_metrics, "import_module", missing)
    with pytest.raises(ValueError, match=r"pip install '.\[lm\]'"):
        CaptionMetrics()


# ---------------------------------------------------------------- CLIPScore


def test_clip_scores_equal_a_second_implementation():
    clip, rng = toy_clip(), random.Random(0)
    image = torch.randn(6, clip.embed_dim, generator=torch.Generator().manual_seed(0))
    captions, references = [sentence(rng) for _ in range(6)], [[sentence(rng) for _ in range(i % 3 + 1)] for i in range(6)]
    score, with_references = clip_scores(clip, image, captions, references)
    for i, (caption, texts) in enumerate(zip(captions, references, strict=True)):
        told, *known = (encode_captions(clip, [text]).numpy()[0].astype(np.float64) for text in (caption, *texts))
        pixels = image[i].numpy().astype(np.float64)
        own = 2.5 * max(0.0, told @ pixels / np.linalg.norm(pixels))
        nearest = max(0.0, *(row @ told for row in known))
        assert score[i].item() == pytest.approx(100 * own, abs=1e-3)
        harmonic = 2 / (1 / own + 1 / nearest) if own and nearest else 0.0
        assert with_references[i].item() == pytest.approx(100 * harmonic, abs=1e-3)
    assert (score == 0).any()
    assert (score > 0).any()


def test_clip_score_is_2_5_for_an_image_that_is_its_caption():
    clip = toy_clip()
    image = 3 * encode_captions(clip, ["a dog"])
    score, with_references = clip_scores(clip, image, ["a dog"], [["a cat", "a dog"]])
    assert score.item() == pytest.approx(250, abs=1e-2)
    assert with_references.item() == pytest.approx(100 * 2 * 2.5 / 3.5, abs=1e-2)


def test_the_prefix_stands_before_every_text_and_long_texts_are_cut():
    clip = toy_clip()
    with_prefix = encode_captions(clip, ["a dog"])
    assert torch.equal(with_prefix, encode_captions(clip, ["A photo depicts a dog"], prefix=""))
    assert not torch.equal(with_prefix, encode_captions(clip, ["a dog"], prefix=""))
    long = " ".join(["dog"] * 500)
    assert torch.equal(encode_captions(clip, [long]), encode_captions(clip, [f"{long} cat"]))
