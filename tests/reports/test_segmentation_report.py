"""The report's sections for segmentation, and what is read of its samples, which anyone may have made."""

import re

import pytest
from fakes import put
from test_sample_cards import FIGURES, SAMPLE, sections, with_samples

from reports.collect import read
from reports.compare import benchmarks
from reports.segmentation import class_rows

CARD = SAMPLE["segmentation"]


def test_classes_and_pictures_of_two_methods(tmp_path):
    for method in ("denseclip", "clip_fpn"):
        with_samples(tmp_path, "segmentation", method)
    text = sections(tmp_path, "segmentation")
    assert {"All numbers", "IoU by class", "Images and their classes"} <= set(re.findall(r"<h2>(.*?)</h2>", text))
    table = text[text.index("IoU by class</h2>") : text.index("Images and their classes</h2>")]
    rows = re.findall(r"<tr><th scope=\"row\">(.*?)</th>(.*?)</tr>", table)
    assert [(name, re.findall(r"<td[^>]*>(.*?)</td>", cells)) for name, cells in rows] == [
        ("sky", ["12,345", "61.50", "61.50"]),
        ("boat", ["0", "", ""]),
    ]
    assert text.count('<img src="data:image/png;base64,') == 4  # the image and its truth, and a prediction of each method
    assert '<i style="color:#00ff00">■</i>sky' in text
    assert text.count("<dd>sky 61 %</dd>") == 2
    assert "mIoU 50.5 %" in text


def test_methods_with_other_classes_stand_in_no_table(tmp_path):
    for method, names in (("denseclip", "ab"), ("clip_fpn", "ba")):
        entries = [{"class": name, "iou": 1.0, "accuracy": 1.0} for name in names]
        put(tmp_path, method, metrics={"test": {"miou": 1.0, "per_class": entries}}, figure=FIGURES["segmentation"])
    (benchmark,) = benchmarks(read([tmp_path]))
    assert len(benchmark.groups) == 2
    assert class_rows(benchmark, "test") == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"truth": "../../secret.png"}, "leads out of its folder"),
        ({"prediction": "samples/none.png"}, "none.png"),
        ({"prediction": None}, "prediction"),
        ({"classes": [["sky", 61.4, "red;background:url(//x)"]]}, "not one such as #ff0000"),
        ({"classes": [["sky", 161.4, "#00ff00"]]}, "not a number from 0"),
        ({"classes": [["sky", 61.4]]}, "is not [class, IoU, colour]"),
        ({"miou": "50"}, "not a number from 0"),
    ],
)
def test_what_no_run_writes_is_left_out_and_said_so(tmp_path, change, said):
    entry = {"why": "best", "index": 0, "image": "samples/test-0.png", **CARD, **change}
    with_samples(tmp_path, "segmentation", samples=[entry])
    left_out = []
    text = sections(tmp_path, "segmentation", left_out)
    assert len(left_out) == 1
    assert said in left_out[0]
    assert "43.5" in text  # the figures stay


def test_markup_in_names_of_classes_is_text(tmp_path):
    entry = {"why": "worst", "index": 1, **CARD, "classes": [["<script>alert(1)</script>", 5, "#000000"]]}
    with_samples(tmp_path, "segmentation", samples=[entry])
    assert "<script" not in sections(tmp_path, "segmentation")
