"""Asks a language model for sentences about each class, as CuPL does (arXiv 2209.03320): a few questions per dataset, ten
completions each. Works with any endpoint for OpenAI's chat completions. Can be interrupted and resumed at any request."""

from __future__ import annotations

import json
import math
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.untrusted import parse_json, read_bytes
from files.whole import write_json

# The kind of a dataset's classes, which the questions name, as a class name alone may be ambiguous ("crane").
KINDS = {
    "oxford_pets": "a breed of cat or dog",
    "stanford_cars": "a model of car",
    "flowers102": "a flower",
    "food101": "a dish",
    "fgvc_aircraft": "a model of aircraft",
    "sun397": "a place",
    "dtd": "a texture",
    "eurosat": "land seen from a satellite",
    "ucf101": "something that people do",
}
QUESTIONS = (
    "In one sentence, what does {name}{kind} look like?",
    "In one sentence, what in a picture gives away {name}{kind}?",
    "Caption a photo that shows {name}{kind} in one sentence.",
)
MOST_BYTES = 16 * 2**20  # in an answer
LONGEST_WAIT = 600.0  # seconds, even where the endpoint asks for a longer pause
ATTEMPTS = 6  # per request, where the endpoint is busy or cannot be reached
BUSY = {408, 409, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Endpoint:
    """Where and how to ask. `url` is the API's base, to which /chat/completions is added; `key` may be empty."""

    url: str
    model: str
    key: str = ""
    completions: int = 10
    temperature: float = 0.99
    max_tokens: int = 50
    per_minute: float = 60.0
    timeout: float = 120.0

    def request(self, question: str, n: int, sleep: Callable[[float], Any] = time.sleep) -> list[str]:
        """Up to `n` sentences. ValueError where the endpoint refuses, or stays busy."""
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": question}],
            "n": n,
            "temperature": self.temperature,
            "max_tokens": self.max_tokens,
        }
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {self.key}"} if self.key else {})
        target = f"{self.url.rstrip('/')}/chat/completions"
        problem, wait = "", 0.0
        for attempt in range(ATTEMPTS):
            if wait:
                sleep(wait)
            wait = 2.0**attempt
            try:
                asked = urllib.request.Request(target, json.dumps(body).encode(), headers)
                with urllib.request.urlopen(asked, timeout=self.timeout) as answer:
                    choices = parse_json(answer.read(MOST_BYTES), "the answer")["choices"]
                return [text for choice in choices if (text := sentence(choice["message"]["content"] or ""))]
            except urllib.error.HTTPError as error:
                problem = f"status {error.code}: {error.read(200).decode(errors='replace')}"
                if error.code not in BUSY:
                    break
                after = error.headers.get("Retry-After", "")
                wait = min(float(after), LONGEST_WAIT) if after.isdecimal() else wait
            except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
                problem = str(error)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                problem = f"no chat completion came back ({error!r})"
                break
        raise ValueError(
            f"{target} does not answer ({problem}): what came before is kept, the same command goes on from there."
        )


def sentence(text: str) -> str:
    """The first sentence, on one line, with its full stop; "" where there is none."""
    text = re.split(r"(?<=[.!?])\s", " ".join(text.split()))[0].strip(" \"'")
    return text if not text or text[-1] in ".!?" else f"{text}."


def questions_of(data: str, path: str | None = None) -> list[str]:
    """Questions with "{name}", from a file with one on each line or ours. ValueError where one does not name the class."""
    if path is None:
        kind = f", {KINDS[data]}," if data in KINDS else ""
        return [question.replace("{kind}", kind) for question in QUESTIONS]
    content = read_bytes(Path(path).expanduser(), "the file of questions", MOST_BYTES).decode("utf-8", "replace")
    lines = [line.strip() for line in content.splitlines() if line.strip()]
    if not lines or not all("{name}" in line for line in lines):
        raise ValueError(f"{path} must hold one question per line, each with {{name}} where the class name goes.")
    return lines


class Bank:
    """The answers so far, stored in PATH.partial line by line; `path` is written when every question is answered."""

    def __init__(self, path: str | Path, classnames: Sequence[str], questions: Sequence[str], endpoint: Endpoint):
        self.path, self.endpoint = Path(path).expanduser(), endpoint
        self.last_request = -math.inf  # by time.monotonic
        self.partial = self.path.with_name(f"{self.path.name}.partial")
        self.classnames = list(dict.fromkeys(classnames))
        self.wanted = [
            (name, question.replace("{name}", name.replace("_", " "))) for name in self.classnames for question in questions
        ]
        self.answers: dict[tuple[str, str], list[str]] = {}
        if self.partial.exists():
            for line in read_bytes(self.partial, "the answers so far").decode("utf-8", "replace").splitlines():
                self._recall(line)

    def _recall(self, line: str) -> None:
        try:
            name, question, model, texts = parse_json(line, "a line")
        except (TypeError, ValueError):  # the last line, cut off when the run was
            return
        if not all(isinstance(text, str) for text in (name, question, model, *(texts if isinstance(texts, list) else [None]))):
            return
        if model == self.endpoint.model and len(texts) >= self.endpoint.completions:
            self.answers[name, question] = texts[: self.endpoint.completions]

    @property
    def open(self) -> list[tuple[str, str]]:
        """The pairs of class name and question without an answer."""
        return [pair for pair in self.wanted if pair not in self.answers]

    def estimate(self, price_in: float | None, price_out: float | None) -> str:
        """The requests, least time and greatest cost of the open questions, as text; prices are per million tokens."""
        end, count = self.endpoint, len(self.open)
        tokens_in = sum(len(question) for _, question in self.open) // 4 + 8 * count
        tokens_out = count * end.completions * end.max_tokens
        minutes = count / end.per_minute
        cost = "give price_in= and price_out=, per million tokens, for an estimate of the cost"
        if price_in is not None and price_out is not None:
            cost = f"at most {(tokens_in * price_in + tokens_out * price_out) / 1e6:.2f} in the currency of the given prices"
        return (
            f"{count} requests to {end.url} ({end.model}) for {end.completions} completions each; {len(self.answers)} done\n"
            f"at most {end.per_minute:g} requests a minute: {minutes:.1f} minutes or more; an endpoint that gives fewer "
            f"completions\nat a time is asked again; about {tokens_in} tokens in, at most {tokens_out} out; {cost}"
        )

    def fill(self, sleep: Callable[[float], Any] = time.sleep) -> None:
        """Asks the open questions, at most `per_minute` requests a minute, and writes the file. ValueError where the endpoint
        refuses, stays busy, or gives no text."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if self.partial.exists() and not self.partial.read_bytes().endswith(b"\n"):
            with self.partial.open("a") as file:
                file.write("\n")
        for name, question in self.open:
            texts = self._answers_to(question, sleep)
            with self.partial.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, question, self.endpoint.model, texts], ensure_ascii=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            self.answers[name, question] = texts[: self.endpoint.completions]
        content = {name: [] for name in self.classnames}
        for name, question in self.wanted:
            content[name] += self.answers[name, question]
        write_json(self.path, content, indent=1, ensure_ascii=False)
        self.partial.unlink(missing_ok=True)

    def _answers_to(self, question: str, sleep: Callable[[float], Any]) -> list[str]:
        """`completions` sentences or more, by as many requests as it takes."""
        texts: list[str] = []
        empty = 0  # answers without text, one after the other
        while len(texts) < self.endpoint.completions:
            pause = self.last_request + 60.0 / self.endpoint.per_minute - time.monotonic()
            if pause > 0:
                sleep(pause)
            self.last_request = time.monotonic()
            more = self.endpoint.request(question, self.endpoint.completions - len(texts), sleep)
            texts += more
            empty = 0 if more else empty + 1
            if empty == 3:
                raise ValueError(f"the endpoint gives no text in answer to {question!r}: try other questions or another model.")
        return texts
