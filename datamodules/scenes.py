"""Scenes of one to three drawn things: their content, five captions each, and questions with ten answers each.

All of this is a function of a key such as "scenes/train/17"; `datamodules.drawn_scenes` draws the picture. Captions vary as
people's do: they leave out details or a thing, use rarer words, and may name the style of the picture. A minority of the ten
answers differs: by another word, a confusion of similar colours, or a wrong count.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from numpy.random import RandomState

from datamodules.captions import ANY_STYLE, COLOUR_SHARE, PHRASES, RARE_SHAPES, WORDS, choice, pick, word
from datamodules.drawing import COLOURS, SHAPES, TEXTURES

CAPTIONS, QUESTIONS, ANSWERS = 5, 4, 10  # of a scene, of a scene, of a question
SIZES = {"train": 2000, "val": 200, "test": 500}
# By domain, the styles of the pictures and their probabilities.
DOMAINS: dict[str, dict[str, float]] = {
    "scenes": {"photo": 0.5, "painting": 0.2, "drawing": 0.2, "sticker": 0.1},
    "sketch": {"sketch": 0.6, "chalk": 0.4},
}
NUMBER_OF_THINGS = {1: 0.35, 2: 0.4, 3: 0.25}
COUNTS = ("no", "one", "two", "three", "four")
# What a thing may be mistaken for.
LIKE = {
    "red": "orange", "orange": "red", "yellow": "orange", "green": "blue", "blue": "purple", "purple": "blue", "pink": "red",
    "brown": "red", "circle": "ring", "ring": "circle", "moon": "leaf", "square": "diamond", "triangle": "arrow",
    "diamond": "square", "star": "flower", "cross": "star", "heart": "leaf", "arrow": "triangle", "drop": "leaf",
    "house": "arrow", "tree": "arrow", "fish": "leaf", "flower": "star", "leaf": "drop", "bolt": "arrow", "cup": "square",
    "boat": "cup", "crown": "cup", "plain": "dotted", "striped": "checked", "dotted": "checked", "checked": "dotted",
}  # fmt: skip


class Thing(NamedTuple):
    """One or two equal things of a scene."""

    shape: str
    colour: str
    texture: str
    small: bool = False
    number: int = 1


class SceneContent(NamedTuple):
    """The content of a scene, and the style of its picture."""

    style: str
    things: tuple[Thing, ...]

    @property
    def count(self) -> int:  # type: ignore[override]
        """How many things there are, 1 to 3."""
        return sum(thing.number for thing in self.things)


class SceneQuestion(NamedTuple):
    """A question with its ten answers; the types as VQA v2 has them."""

    question: str
    answers: tuple[str, ...]
    answer_type: str  # "yes/no", "number" or "other"
    question_type: str  # its first words


def generator(key: str, what: str = "") -> RandomState:
    """The random numbers for one part of a scene: equal keys give equal ones, anywhere."""
    return RandomState(zlib.crc32(f"{key}#{what}".encode()))


def keys(domain: str, split: str) -> list[str]:
    """The keys of all scenes of a split (train, val, test). ValueError for a domain that is not known."""
    if domain not in DOMAINS:
        raise ValueError(f"domain={domain!r} of drawn scenes is not known: use one of {', '.join(DOMAINS)}.")
    return [f"{domain}/{split}/{number}" for number in range(SIZES[split])]


@lru_cache(maxsize=8192)  # a run asks for its captions, its questions and its picture
def scene(key: str) -> SceneContent:
    """The content of the scene of a key. ValueError for an unknown key."""
    domain, _, rest = key.partition("/")
    if domain not in DOMAINS or rest.count("/") != 1 or not rest.rpartition("/")[2].isdecimal():
        raise ValueError(f"{key[:80]!r} is the key of no drawn scene: keys are like scenes/train/0.")
    rng = generator(key, "content")
    style, count = pick(rng, DOMAINS[domain]), int(pick(rng, {str(n): share for n, share in NUMBER_OF_THINGS.items()}))
    things: list[Thing] = []
    while (missing := count - sum(thing.number for thing in things)) > 0:
        shape = pick(rng, {name: 0.5 if name in RARE_SHAPES else 1.0 for name in SHAPES})
        if any(thing.shape == shape for thing in things):
            continue  # so that "the star" is one star, or two equal ones
        colour, texture = pick(rng, COLOUR_SHARE), pick(rng, {name: 0.4 if name == "plain" else 0.2 for name in TEXTURES})
        number = 2 if missing >= 2 and rng.uniform() < 0.2 else 1
        small = count > 1 and number == 1 and rng.uniform() < 0.25
        things.append(Thing(shape, colour, texture, small, number))
    return SceneContent(style, tuple(things))


# ---- captions


def captions(key: str) -> tuple[str, ...]:
    """The five captions of a scene, all different where the scene has so many captions."""
    content, rng = scene(key), generator(key, "captions")
    texts: list[str] = []
    for _ in range(4 * CAPTIONS):
        text = caption(content, rng)
        if text not in texts:
            texts.append(text)
        if len(texts) == CAPTIONS:
            break
    return tuple(texts + texts[:1] * (CAPTIONS - len(texts)))


def caption(content: SceneContent, rng: RandomState) -> str:
    """One of the many captions of a scene."""
    things = list(content.things)
    rng.shuffle(things)
    if len(things) > 1 and rng.uniform() < 0.15:
        things.pop()
    phrase = choice(rng, PHRASES[content.style][1] if rng.uniform() < 0.6 else ANY_STYLE)
    if phrase.startswith("a painted"):  # takes no article behind it
        phrase = "a painting of {}"
    nouns = [_noun(thing, rng) for thing in things]
    last = choice(rng, (" and ", " and ", " next to ", " with ", " beside "))
    text = phrase.format(nouns[0] if len(nouns) == 1 else ", ".join(nouns[:-1]) + last + nouns[-1])
    return text + ("." if rng.uniform() < 0.6 else "")


def _noun(thing: Thing, rng: RandomState) -> str:
    """A thing with its article or number, and most of its properties."""
    words = ["small"] if thing.small and rng.uniform() < 0.7 else []
    words += [word(thing.colour, rng)] if rng.uniform() < 0.9 else []
    words += [word(thing.texture, rng)] if rng.uniform() < (0.25 if thing.texture == "plain" else 0.75) else []
    noun = word(thing.shape, rng)
    words.append(plural(noun) if thing.number > 1 else noun)
    first = COUNTS[thing.number] if thing.number > 1 else "an" if words[0][0] in "aeiou" else "a"
    return " ".join([first, *words])


def plural(noun: str) -> str:
    """The plural of a word for a shape."""
    if noun == "fish":
        return noun
    if noun == "leaf":
        return "leaves"
    return noun + ("es" if noun.endswith(("s", "x", "sh", "ch")) else "s")


# ---- questions


def questions(key: str) -> tuple[SceneQuestion, ...]:
    """Four questions about a scene, of four of the five kinds: colour, texture, kind, number, yes/no."""
    content, rng = scene(key), generator(key, "questions")
    kinds = (_of_colour, _of_texture, _of_kind, _of_number, _yes_or_no)
    return tuple(kinds[i](content, rng) for i in sorted(rng.permutation(len(kinds))[:QUESTIONS]))


def _of_colour(content: SceneContent, rng: RandomState) -> SceneQuestion:
    thing = choice(rng, content.things)
    text = f"What colour {_is_the(thing, rng)}?"
    return SceneQuestion(text, _answers(thing.colour, rng), "other", "what colour")


def _of_texture(content: SceneContent, rng: RandomState) -> SceneQuestion:
    thing = choice(rng, content.things)
    have = "do" if thing.number > 1 else "does"
    text = f"What pattern {have} the {_name(thing, rng)} have?"
    return SceneQuestion(text, _answers(thing.texture, rng), "other", "what pattern")


def _of_kind(content: SceneContent, rng: RandomState) -> SceneQuestion:
    """A question about a thing that alone has some colour or texture; with a single thing also "What is in the picture?"."""
    things = content.things
    colours, textures = [thing.colour for thing in things], [thing.texture for thing in things]
    known = [(thing, thing.colour) for thing in things if colours.count(thing.colour) == 1]
    known += [(thing, thing.texture) for thing in things if textures.count(thing.texture) == 1]
    thing, word_of_it = choice(rng, known) if known else (things[0], "")
    if not known or (len(things) == 1 and rng.uniform() < 0.5):
        return SceneQuestion("What is in the picture?", _answers(thing.shape, rng), "other", "what is")
    verb = "are" if thing.number > 1 else "is"
    return SceneQuestion(f"What {verb} {word_of_it}?", _answers(thing.shape, rng), "other", f"what {verb}")


def _of_number(content: SceneContent, rng: RandomState) -> SceneQuestion:
    if rng.uniform() < 0.5:
        text, count = "How many things are there?", content.count
    else:
        thing = choice(rng, content.things)
        text, count = f"How many {plural(word(thing.shape, rng))} are there?", thing.number
    return SceneQuestion(text, _answers(str(count), rng), "number", "how many")


def _yes_or_no(content: SceneContent, rng: RandomState) -> SceneQuestion:
    """Whether a shape is there, or has a colour; yes as often as no."""
    thing, yes = choice(rng, content.things), rng.uniform() < 0.5
    if rng.uniform() < 0.5:
        absent = [shape for shape in SHAPES if all(shape != other.shape for other in content.things)]
        noun = word(thing.shape if yes else choice(rng, tuple(absent)), rng)
        text, kind = f"Is there {'an' if noun[0] in 'aeiou' else 'a'} {noun}?", "is there"
    else:
        others = [colour for colour in COLOURS if colour != thing.colour]
        colour = thing.colour if yes else choice(rng, tuple(others))
        text, kind = f"{_is_the(thing, rng).capitalize()} {word(colour, rng)}?", "is the"
    return SceneQuestion(text, _answers("yes" if yes else "no", rng), "yes/no", kind)


def _is_the(thing: Thing, rng: RandomState) -> str:
    return f"{'are' if thing.number > 1 else 'is'} the {_name(thing, rng)}"


def _name(thing: Thing, rng: RandomState) -> str:
    noun = word(thing.shape, rng)
    return plural(noun) if thing.number > 1 else noun


def _answers(true: str, rng: RandomState) -> tuple[str, ...]:
    """Ten answers, at least six of which say `true`, in its usual word."""
    others = [_other_answer(true, rng) for _ in range(int(choice(rng, (0, 0, 0, 1, 1, 2, 2, 3, 4))))]
    answers = [true] * (ANSWERS - len(others)) + others
    return tuple(answers[i] for i in rng.permutation(ANSWERS))


def _other_answer(true: str, rng: RandomState) -> str:
    """A different answer: a wrong one, or the true one in another word."""
    if true in ("yes", "no"):
        return "no" if true == "yes" else "yes"
    if true.isdecimal():
        return COUNTS[int(true)] if rng.uniform() < 0.4 else str(max(1, int(true) + (1 if rng.uniform() < 0.5 else -1)))
    synonyms = WORDS.get(true, (true,))[1:]
    return choice(rng, synonyms) if synonyms and rng.uniform() < 0.5 else LIKE[true]


# ---- texts without pictures


def sentences(seed: int, count: int, domain: str = "scenes") -> Iterator[str]:
    """Captions, and questions with the answer that most people give, as "Q: ... A: ...", of scenes that no split has."""
    for number in range(count):
        key = f"{domain}/text{seed}/{number // (CAPTIONS + QUESTIONS)}"
        position = number % (CAPTIONS + QUESTIONS)
        if position < CAPTIONS:
            yield captions(key)[position]
        else:
            asked = questions(key)[position - CAPTIONS]
            yield f"Q: {asked.question} A: {most_common(asked.answers)}"


def most_common(answers: tuple[str, ...]) -> str:
    """The most frequent answer; the first of equally frequent ones."""
    return max(answers, key=answers.count)
