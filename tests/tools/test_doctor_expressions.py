"""tools.doctor on referring expressions: how many there are, what their proposals allow, and what is missing."""

from refer_trees import put_refcoco


def test_all_is_well(tmp_path, run_doctor):
    put_refcoco(tmp_path)
    status, text = run_doctor("refcoco", "images=true")
    assert status == 0
    assert text.startswith("ok   refcoco in ")
    for line in (
        "6 / 1 / 3 training / validation / test expressions",
        "2 / 1 / 1 training / validation / test images",
        "not the published lists: they have 120,624 / 10,834 / 5,657 expressions, 16,994 / 1,500 / 750 images",
        "detected proposals: 3.0 for a test expression, the right one among them for 100.0 %",
    ):
        assert line in text
    status, text = run_doctor("refcoco_testb")
    assert (status, "detected proposals: 1.2 for a test expression, the right one among them for 25.0 %" in text) == (0, True)
    assert "1 of 2 test images have no detected box" in text
    assert "gold proposals: 2.0 for a test expression" in run_doctor("refcoco_gold")[1]


def test_what_is_missing_is_counted_with_the_rest(tmp_path, run_doctor):
    folder = put_refcoco(tmp_path)
    (tmp_path / "coco/train2014/COCO_train2014_000000000042.jpg").unlink()
    status, text = run_doctor("refcoco")
    assert status == 1
    assert "1 missing in coco/train2014: COCO_train2014_000000000042.jpg\n     -> extract or download" in text
    assert "6 / 1 / 3 training" in text
    (folder / "dets.json").unlink()
    (folder / "refs(unc).p").write_bytes(b"nonsense")
    status, text = run_doctor("refcoco")
    assert "the file of detections refcoco/dets.json is missing" in text
    assert "is refused" in run_doctor("refcoco_gold")[1]
    assert "Files: refcoco.zip" in text
