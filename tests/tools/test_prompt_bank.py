"""The prompt file's checker, and asking a language model; the endpoint is a small server on this machine."""

import itertools
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from numpy.random import RandomState

from datamodules.captions import Scene, caption
from datamodules.descriptions import shape_descriptions
from datamodules.drawing import COLOURS, SHAPES, STYLES, TEXTURES
from datamodules.shapes import CLASSES, SEARCH_CLASSES
from tools import ask_prompts, prompt_bank
from tools.ask_prompts import Bank, Endpoint, questions_of, sentence


class Server(HTTPServer):
    """Answers with `choices` completions at most; `script` holds what the next requests get instead: (status, headers)."""

    def __init__(self, choices=10):
        self.asked, self.keys, self.script, self.choices = [], [], [], choices
        super().__init__(("127.0.0.1", 0), Answer)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1/"


class Answer(BaseHTTPRequestHandler):
    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append(asked)
        self.server.keys.append(self.headers.get("Authorization"))
        status, headers = self.server.script.pop(0) if self.server.script else (200, {})
        count = min(asked["n"], self.server.choices)
        question = asked["messages"][0]["content"]
        texts = [f"\n{question[-9:]} No {i}. And more" for i in range(count)]
        content = {"choices": [{"message": {"content": text}} for text in texts]} if status == 200 else {"error": "no"}
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps(content).encode())

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    answers = Server()
    thread = threading.Thread(target=answers.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield answers
    answers.shutdown()
    answers.server_close()


def bank(server, tmp_path, names=("cat", "big_dog"), questions=("How is {name}?", "Who is {name}?"), **options):
    endpoint = Endpoint(server.url, "m", **{"key": "secret", "completions": 4, "per_minute": 1e6} | options)
    return Bank(tmp_path / "out" / "prompts.json", list(names), list(questions), endpoint)


def test_asking_writes_a_file_in_the_public_format(server, tmp_path):
    server.choices = 3  # fewer at a time than asked for
    answers = bank(server, tmp_path)
    assert "4 requests to" in answers.estimate(None, None)
    assert not server.asked
    answers.fill()
    content = json.loads(answers.path.read_text())
    assert list(content) == ["cat", "big_dog"]
    assert content["cat"] == ["w is cat?", *["w is cat?"] * 3, *["o is cat?"] * 4]
    assert [asked["n"] for asked in server.asked] == [4, 1] * 4
    assert server.asked[-1]["messages"][0]["content"] == "Who is big dog?"
    assert set(server.keys) == {"Bearer secret"}
    assert not answers.partial.exists()


def test_an_interrupted_bank_goes_on(server, tmp_path):
    answers, slept = bank(server, tmp_path), []
    server.script = [(200, {}), (429, {"Retry-After": "7"}), (503, {}), (200, {}), (401, {})]
    with pytest.raises(ValueError, match=r"status 401.*the same command goes on"):
        answers.fill(slept.append)
    assert 7.0 in slept
    assert 2.0 in slept
    assert len(server.asked) == 5
    with answers.partial.open("a") as file:
        file.write('["cat", "cut o')  # the machine went down while this was written
    again = bank(server, tmp_path)
    assert [name for name, _ in again.open] == ["big_dog", "big_dog"]
    assert "2 requests" in again.estimate(1.0, 2.0)
    again.fill()
    assert len(server.asked) == 7
    assert {len(texts) for texts in json.loads(again.path.read_text()).values()} == {8}


def test_answers_of_another_model_are_asked_anew(server, tmp_path):
    server.script = [(200, {}), (400, {})]
    with pytest.raises(ValueError, match="status 400"):
        bank(server, tmp_path).fill()
    assert len(bank(server, tmp_path).open) == 3
    other = bank(server, tmp_path)
    other = Bank(other.path, other.classnames, ["How is {name}?"], Endpoint(server.url, "another", completions=4))
    assert len(other.open) == 2


def test_requests_keep_to_the_rate(server, tmp_path, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(ask_prompts.time, "monotonic", lambda: now[0])
    slept = []

    def sleep(seconds):
        slept.append(seconds)
        now[0] += seconds

    bank(server, tmp_path, per_minute=20).fill(sleep)
    assert slept == pytest.approx([3.0] * 3)


def test_an_endpoint_out_of_reach_or_not_of_this_kind_is_named(server, tmp_path):
    answers = Endpoint("http://127.0.0.1:9", "m")
    with pytest.raises(ValueError, match=r"127.0.0.1:9/chat/completions does not answer"):
        answers.request("?", 1, sleep=lambda _: None)
    server.choices = 0
    with pytest.raises(ValueError, match="gives no text"):
        bank(server, tmp_path).fill()


def test_sentences_and_questions(tmp_path):
    assert sentence('  "A cat.\n\nIt purrs"') == "A cat."
    assert sentence("a cat") == "a cat."
    assert sentence(" \n") == ""
    assert all(
        "a flower" in question and "{name}" in question and "{kind}" not in question for question in questions_of("flowers102")
    )
    assert all("{kind}" not in question for question in questions_of("imagenet"))
    (tmp_path / "q").write_text("What is {name}?\n\n")
    assert questions_of("dtd", str(tmp_path / "q")) == ["What is {name}?"]
    (tmp_path / "q").write_text("What is it?\n")
    with pytest.raises(ValueError, match="{name}"):
        questions_of("dtd", str(tmp_path / "q"))


# ---------------------------------------------------------------- the command


def test_ask_needs_a_yes(server, tmp_path, capsys):
    command = ["ask", "data=digits", f"endpoint={server.url}", "model=m", f"out={tmp_path}/p.json", "per_minute=100000"]
    assert prompt_bank.main([*command, "price_in=1", "price_out=4"]) == 0
    shown = capsys.readouterr().out
    assert "30 requests" in shown
    assert "0.06 in the currency" in shown
    assert not server.asked
    assert prompt_bank.main([*command, "completions=2", "yes=true"]) == 0
    assert len(server.asked) == 30
    assert prompt_bank.main(["check", f"{tmp_path}/p.json", "data=digits"]) == 0
    assert "10 of 10 classes" in capsys.readouterr().out


def test_check_says_how_names_were_matched(tmp_path, capsys):
    names = list(CLASSES)
    content = {name: ["one", "one"] for name in names[3:]} | {names[0].upper(): ["x"], "star, checked": ["y"], names[1]: [" "]}
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(content))
    assert prompt_bank.main(["check", str(path), "data=shapes"]) == 1
    shown = capsys.readouterr().out
    assert "BAD" in shown
    assert "34 of 36" in shown
    assert "'red striped star' is 'RED STRIPED STAR' there" in shown
    assert "no class uses: star, checked" in shown
    assert f"without prompts: {names[1]}, {names[2]}" in shown
    assert "1 to 2 prompts a class, 33 of 67 are repeats" in shown


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "/nowhere.json", "data=shapes"], "there is no prompt file /nowhere.json"),
        (["check", "/nowhere.json"], "data=NAME"),
        (["check", "x.json", "shots=3"], "shots=3 is not understood"),
        (["ask", "data=shapes"], "endpoint=... model=... out=..."),
        (["ask", "data=shapes", "endpoint=me", "model=m", "out=x"], "http://"),
    ],
)
def test_mistakes_are_one_sentence(arguments, message, capsys):
    assert prompt_bank.main(arguments) == 1
    assert message in capsys.readouterr().err


# ---------------------------------------------------------------- the embedded world's own


@pytest.mark.parametrize(("domain", "classes"), [("shapes", CLASSES), ("search", SEARCH_CLASSES)])
def test_described_shapes_are_as_a_language_models_are(domain, classes):
    """T18 of AAPE's spec needs blocks of ten; the tiny CLIP knows the words of its captions alone."""
    lists = shape_descriptions(domain=domain)
    assert lists == shape_descriptions(domain=domain)
    assert list(lists) == list(classes)
    rng = RandomState(0)
    scenes = [Scene(style, *parts) for style in STYLES for parts in itertools.product(SHAPES, COLOURS, TEXTURES)]
    about = {}
    known = {word for scene in scenes for word in caption(scene, rng, filler=8).replace(".", "").split()}
    for name, texts in lists.items():
        assert len(texts) == 30
        assert len(set(texts)) < 30  # some are redundant
        assert {word for text in texts for word in text.replace(".", "").split()} <= known
        shape, colour, texture = classes[name]
        right = {caption(Scene("photo", shape, colour, texture), rng).split()[-1].strip(".") for _ in range(200)}
        saying = sum(any(text.rstrip(".").split()[-1] == word or f" {word} " in text for word in right) for text in texts)
        assert 10 <= saying <= 30, name
        about[name] = saying
    assert sum(about.values()) < 27 * len(classes)  # most are about their class, some are not
