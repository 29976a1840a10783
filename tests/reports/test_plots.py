import re

from reports.plots import class_change_plot, shorten


def bars(text):
    return [float(value) for value in re.findall(r'<rect [^>]*width="([\d.]+)"', text)]


def test_bars_are_as_long_as_their_change():
    text = class_change_plot([("a", -10.0), ("b", 20.0), ("c", 0.0), ("d", 0.0)], "mine")
    gain, loss = bars(text)
    assert gain == 2 * loss
    assert text.index(">b<") < text.index(">2 classes unchanged<") < text.index(">a<")
    assert "+20.0" in text
    assert "-10.0" in text


def test_of_many_classes_the_largest_changes_are_shown():
    text = class_change_plot([(f"class {at}", at - 20.0) for at in range(40)], "mine", most=5)
    assert len(bars(text)) == 10
    assert ">30 classes changed less<" in text
    assert ">class 39<" in text
    assert ">class 20<" not in text


def test_no_change_at_all_is_said():
    text = class_change_plot([("a", 0.0)], "same")
    assert bars(text) == []
    assert ">1 class unchanged<" in text


def test_long_names_are_cut():
    assert shorten("a_b") == "a b"
    assert len(shorten("x" * 50)) == 26
