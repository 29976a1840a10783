import re
import struct
from html.parser import HTMLParser

import browser
import pytest
from fakes import full_set, guessed, put

from reports.collect import read
from reports.page import page
from reports.tasks import task_reports

SECTIONS = (
    "Accuracy",
    "Accuracy against shots",
    "Base against new classes",
    "Classes gained and lost",
    "Confusions",
    "Calibration",
    "Significance",
    "Cost",
    "Learning curves",
    "All results",
)
VOID = {"meta", "link", "br"}


@pytest.fixture(scope="module")
def full(tmp_path_factory):
    return whole(full_set(tmp_path_factory.mktemp("full")))


def whole(folder, title="Everything"):
    """The page of these results, with the sections of their task."""
    return page(read([folder]), title, reports=task_reports(["classification"]))


class Checker(HTMLParser):
    """Tags close in order; collects ids, links and headings."""

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.words = [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[key] for key in ("href", "xlink:href", "src") if key in attributes]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append((self.open[-1] if self.open else "", data.strip()))


def test_has_every_section_and_reaches_out_for_nothing(full):
    checked = Checker(full)
    assert not checked.open
    assert tuple(text for tag, text in checked.words if tag == "h2") == SECTIONS
    assert all(link.startswith(("#", "data:")) for link in checked.links)
    assert {link[1:] for link in checked.links if link.startswith("#")} <= set(checked.ids)
    assert not re.search(r"@import|url\((?!#)|<script", full)


def test_colours_are_the_pages_own(full):
    drawn = "".join(re.findall(r"<svg.*?</svg>", full, flags=re.DOTALL))
    assert "#0102" not in drawn  # every placeholder colour was replaced
    assert set(re.findall(r"(?:fill|stroke): (#\w+)", drawn)) <= {"#ffffff"}  # a clip rectangle may be white
    assert "var(--series-0)" in drawn


def test_equal_results_give_the_same_page(tmp_path, full):
    assert whole(full_set(tmp_path)) == full


def test_few_results_leave_sections_out(tmp_path):
    put(tmp_path)
    text = whole(tmp_path)
    assert [text for tag, text in Checker(text).words if tag == "h2"] == ["Accuracy", "All results"]


def test_names_are_text_not_markup(tmp_path):
    metrics, arrays = guessed(0.5)
    metrics["per_class"][0]["class"] = "<b>R&D</b> $x_1$"
    for method in ("zeroshot", "a<i>b"):
        put(tmp_path, method, metrics={"test": metrics}, predictions={"test": arrays}, data="d&d")
    text = whole(tmp_path, "<u>")
    Checker(text)
    assert "<b>" not in text
    assert "<u>" not in text
    assert "a<i>b" not in text


@pytest.mark.skipif(browser.find() is None, reason="no Chromium here: apt-get install chromium")
@pytest.mark.parametrize(("width", "dark"), [(1400, False), (390, False), (1400, True)])
def test_in_a_browser(full, tmp_path, width, dark):
    path = tmp_path / "report.html"
    path.write_text(full)
    with browser.browser(tmp_path / "profile") as opened:
        opened.open(path.as_uri(), width=width, dark=dark)
        asked = [event["request"]["url"] for event in opened.seen("Network.requestWillBeSent")]
        assert asked[0] == path.as_uri()
        assert all(url.startswith("data:") for url in asked[1:])
        assert opened.seen("Log.entryAdded", "Runtime.exceptionThrown", "Runtime.consoleAPICalled") == []
        assert opened.evaluate("document.documentElement.scrollWidth") <= width  # wide tables scroll in their own box
        assert opened.evaluate("document.querySelectorAll('svg').length") > 10
        outside = "[...document.querySelectorAll('svg')].filter(e => e.getBoundingClientRect().right > innerWidth + 1).length"
        assert opened.evaluate(outside) == 0
        ink, paper = (
            opened.evaluate(f"getComputedStyle(document.{where}).{what}")
            for where, what in (("querySelector('svg text')", "fill"), ("body", "backgroundColor"))
        )
        assert (brightness(ink) > 200) == dark
        assert (brightness(paper) < 60) == dark
        opened.screenshot(tmp_path / "page.png")
        size = struct.unpack(">II", (tmp_path / "page.png").read_bytes()[16:24])
        assert size[0] == width
        opened.pdf(tmp_path / "page.pdf")
        assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3
