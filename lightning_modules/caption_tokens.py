"""Captions as tokens, before they are compared: in lower case, without punctuation.

The field's tokenizer is Stanford's PTBTokenizer, a Java program. `tokens` follows its rules as far as captions have them, in
Python, so that a run has the same numbers on every machine; `tokens_by_java` runs the program. docs/language_tasks.md says how
far they differ.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

TIMEOUT = 1800  # seconds that the Java program may take: 200,000 captions take it about half a minute
# What the COCO evaluation leaves out. In lower case brackets are -lrb- and -rrb-, which are not in its list, so they stay.
PUNCTUATION = "'' ' `` ` -LRB- -RRB- -LCB- -RCB- . ? ! , : - -- ... ;"
LEFT_OUT = frozenset(PUNCTUATION.split())
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-", '"': "''"}
QUOTES = str.maketrans(dict.fromkeys("‘’‛", "'") | dict.fromkeys("“”„", '"') | dict.fromkeys("–—", " -- "))
WITH_STOP = "mr|mrs|ms|dr|st|jr|sr|vs|prof|rev|gen|lt|sgt|capt|inc|ltd|co|corp|ave|blvd|etc|dept"
TOKEN = re.compile(
    rf"""
    (?:https?://|www\.)\S+ | [\w.+-]+@[\w-]+(?:\.\w+)+     # addresses
    | (?:[a-z]\.){{2,}}[a-z]?(?![^\W_])                    # u.s.  a.m.
    | (?:{WITH_STOP})\.(?![^\W_]) | no\.(?=\s\d)           # st.  no. 5
    | \d+(?:[.,:/-]\d+)+(?![^\W_])                         # 1,000  3.5  10:30  1/2
    | '\d\ds?(?![^\W_])                                    # '90s
    | [#@]?[^\W\d_][^\W_]*(?:[-'/._][^\W_]+)*              # black-and-white  o'clock  and/or
    | [^\W_]+(?:[-'/][^\W_]+)*                             # 3d  5ft  4-door
    | '(?:s|m|d|re|ve|ll)(?![^\W_])
    | \.{{2,}} | -{{2,}} | [?!]{{2,}}
    | \S
    """,
    re.VERBOSE,
)
CLITIC = re.compile(r"(.+?)((?:n't)?(?:'(?:s|m|d|re|ve|ll))*)")
APART = {"cannot": "can not", "gonna": "gon na", "gotta": "got ta", "wanna": "wan na", "gimme": "gim me", "lemme": "lem me"}


def tokens(caption: str) -> str:
    """The caption's tokens, a space between them; empty where it has none."""
    words: list[str] = []
    for word in TOKEN.findall(caption.lower().translate(QUOTES)):
        stem, end = CLITIC.fullmatch(word).groups()
        words += APART.get(stem, BRACKETS.get(stem, stem)).split()
        words += re.findall(r"n't|'\w+", end)
    return _kept(words)


def _kept(words: Sequence[str]) -> str:
    return " ".join(word for word in words if word not in LEFT_OUT and not re.fullmatch(r"\.{2,}", word))


def tokens_by_java(captions: Sequence[str]) -> list[str]:
    """The tokens of each caption by Stanford's program, as the COCO evaluation calls it. ValueError where Java or the program
    is missing, or fails."""
    jar = java_program("tokenizer/stanford-corenlp-3.4.1.jar")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "captions.txt"
        path.write_text("\n".join(" ".join(caption.split()) for caption in captions) + "\n", encoding="utf-8")
        name = "edu.stanford.nlp.process.PTBTokenizer"
        command = ["java", "-cp", str(jar), name, "-preserveLines", "-lowerCase", "-encoding", "UTF-8"]
        command += ["-outputEncoding", "UTF-8", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, check=True, timeout=TIMEOUT)
        except (OSError, subprocess.SubprocessError) as error:
            raise ValueError(f"Java's tokenizer failed ({error}): give task.module.tokenizer=python.") from error
    lines = done.stdout.decode("utf-8").split("\n")[: len(captions)]
    if len(lines) != len(captions):
        raise ValueError(
            f"Java's tokenizer gave {len(lines)} lines for {len(captions)} captions: give task.module.tokenizer=python."
        )
    return [" ".join(word for word in line.split() if word not in LEFT_OUT) for line in lines]


def java_program(name: str) -> Path:
    """The path of one of the Java programs in the package pycocoevalcap. ValueError where Java or the program is missing."""
    if shutil.which("java") is None:
        raise ValueError(
            "there is no command java, which task.module.tokenizer=java and task.module.java_metrics need: install a Java "
            "runtime, or leave these keys at their defaults."
        )
    found = find_spec("pycocoevalcap")
    for folder in (found and found.submodule_search_locations) or ():
        if (path := Path(folder) / name).is_file():
            return path
    raise ValueError(
        f"the package pycocoevalcap has no {name}: pip install '.[lm]' brings its tokenizer and METEOR, and its README says "
        "where SPICE's files come from."
    )
