"""The accuracy of VQA v2 (Goyal et al., CVPR 2017), as its official evaluation counts it (GT-Vision-Lab/VQA, vqaEval.py).

Each of ten people answered a question. An answer is compared with the other nine answers for each of the ten in turn:
min(matches / 3, 1), averaged over the ten. Where people differ, all answers are normalised first: punctuation, number words,
articles, apostrophes. Where all agree the official evaluation compares the texts as they are, and so does this one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

ARTICLES = ("a", "an", "the")
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
DIGITS = {"none": "0"} | {word: str(number) for number, word in enumerate(NUMBERS)}
PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
# The official table, without the entries that can match no lower-case word or change none. It is applied to whole words.
PAIRS = """
    aint:ain't arent:aren't cant:can't couldve:could've couldnt:couldn't couldn'tve:couldn't've couldnt've:couldn't've
    didnt:didn't doesnt:doesn't dont:don't hadnt:hadn't hadnt've:hadn't've hadn'tve:hadn't've hasnt:hasn't havent:haven't
    hed:he'd hed've:he'd've he'dve:he'd've hes:he's howd:how'd howll:how'll hows:how's isnt:isn't itd:it'd itd've:it'd've
    it'dve:it'd've itll:it'll maam:ma'am mightnt:mightn't mightnt've:mightn't've mightn'tve:mightn't've mightve:might've
    mustnt:mustn't mustve:must've neednt:needn't notve:not've oclock:o'clock oughtnt:oughtn't ow's'at:'ow's'at
    'ows'at:'ow's'at 'ow'sat:'ow's'at shant:shan't shed've:she'd've she'dve:she'd've shouldve:should've shouldnt:shouldn't
    shouldnt've:shouldn't've shouldn'tve:shouldn't've somebody'd:somebodyd somebodyd've:somebody'd've
    somebody'dve:somebody'd've somebodyll:somebody'll somebodys:somebody's someoned:someone'd someoned've:someone'd've
    someone'dve:someone'd've someonell:someone'll someones:someone's somethingd:something'd somethingd've:something'd've
    something'dve:something'd've somethingll:something'll thats:that's thered:there'd thered've:there'd've
    there'dve:there'd've therere:there're theres:there's theyd:they'd theyd've:they'd've they'dve:they'd've
    theyll:they'll theyre:they're theyve:they've twas:'twas wasnt:wasn't wed've:we'd've we'dve:we'd've weve:we've
    werent:weren't whatll:what'll whatre:what're whats:what's whatve:what've whens:when's whered:where'd wheres:where's
    whereve:where've whod:who'd whod've:who'd've who'dve:who'd've wholl:who'll whos:who's whove:who've whyll:why'll
    whyre:why're whys:why's wont:won't wouldve:would've wouldnt:wouldn't wouldnt've:wouldn't've wouldn'tve:wouldn't've
    yall:y'all yall'll:y'all'll y'allll:y'all'll yall'd've:y'all'd've y'alld've:y'all'd've y'all'dve:y'all'd've
    youd:you'd youd've:you'd've you'dve:you'd've youll:you'll youre:you're youve:you've
"""
CONTRACTIONS = dict(pair.split(":") for pair in PAIRS.split())


def normalised(answer: str) -> str:
    """An answer without punctuation and articles, in lower case, with digits for number words and apostrophes put in."""
    words = (DIGITS.get(word, word) for word in _without_punctuation(answer).lower().split())
    return " ".join(CONTRACTIONS.get(word, word) for word in words if word not in ARTICLES)


def _without_punctuation(text: str) -> str:
    """Marks beside a space are dropped, others become a space; where a number has a comma, all are dropped. Full stops are
    dropped but before a digit, and only the first 32 of them: the official pattern's flag stands in the place of a count."""
    kept, dropped = text, re.search(r"\d,\d", text)
    for mark in PUNCTUATION:
        kept = kept.replace(mark, "" if dropped or f"{mark} " in text or f" {mark}" in text else " ")
    return re.sub(r"\.(?!\d)", "", kept, count=32)


def accuracy(answer: str, answers: Sequence[str]) -> float:
    """Of one answer, from 0 to 1, by the answers that people gave (ten in VQA v2). ValueError where there are none."""
    if not answers:
        raise ValueError("a question without answers has no accuracy: evaluate a split whose answers are public.")
    answer, *others = (_one_line(text) for text in (answer, *answers))
    if len(set(others)) > 1:
        answer, *others = map(normalised, (answer, *others))
    same = [other == answer for other in others]
    return sum(min((sum(same) - own) / 3, 1.0) for own in same) / len(same)


def _one_line(text: str) -> str:
    return text.replace("\n", " ").replace("\t", " ").strip()


def longest_words(answers: Sequence[str]) -> int:
    """How many words the longest of these answers has; at least 1."""
    return max((len(answer.split()) for answer in answers), default=1) or 1


def percent_by_kind(values: Sequence[float], kinds: Sequence[str]) -> dict[str, float]:
    """The mean of `values` (0 to 1) in percent for each kind of answer ("yes/no", "number", "other"), sorted by name."""
    groups: dict[str, list[float]] = {}
    for value, kind in zip(values, kinds, strict=True):
        groups.setdefault(kind, []).append(value)
    return {kind: 100 * sum(group) / len(group) for kind, group in sorted(groups.items())}
