"""tools.doctor on tar and parquet shards, and the keys that it takes from a run's command line."""

import pytest
from large import write

from tools import doctor


@pytest.mark.parametrize("form", ["webdataset", "parquet"])
def test_shards_are_examined(tmp_path, run_doctor, form):
    folder = write(tmp_path, form)
    format = f"data.source.disk.format={form}"
    status, text = run_doctor("imagenet21k", format, "images=true")
    assert status == 0, text
    assert "3 classes, 15 / 6 / 6 training / validation / test images" in text
    path = sorted(folder.glob("*train*"))[-1]
    path.write_bytes(path.read_bytes()[: 3000 if form == "webdataset" else -1200])
    status, text = run_doctor("imagenet21k", format)
    assert status == 1
    assert f"shard imagenet21k_resized/{path.name} cannot be read to its end: it is cut short or damaged" in text
    status, text = run_doctor("imagenet21k", format, "data.source.disk.train=other")
    assert status == 1
    assert "with the word other in its name for the train images" in text


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["data=imagenet21k", "data.source.disk.frmat=x"], "takes root, folder, format, train, val, image, label, index"),
        (["data=imagenet21k", "data.source.disk.format=zip"], "format='zip' is not known"),
        (["data=imagenet21k", "data.source.disk._target_=os.system"], "data.source.disk._target_ is no key"),
        (["data=imagenet21k", "data.source.disk.format.x=1"], "is no key"),
        (["data=imagenet21k", "data.shots=1"], "data.shots is no key"),
        (["data.source.disk.format=x"], "is for one dataset: say which with data=NAME"),
        (["data=_base"], "data=_base is not known"),
        (["data=../config"], "is not known"),
        (["data=dtd", "limit=abc"], "limit=abc: give"),
        (["data=dtd", "images=abc"], "images=abc"),
    ],
)
def test_wrong_overrides_are_one_sentence(tmp_path, capsys, arguments, reason):
    assert doctor.main([f"data_root={tmp_path}", *arguments]) == 1
    output = capsys.readouterr()
    assert reason in output.err
    assert output.err.count("\n") == 1
    assert not output.out
