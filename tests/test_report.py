import json

import pytest
from rich.console import Console

import report


def put(folder, method, shots, seed, accuracy, digest=None, **evaluations):
    path = folder / f"{method}-{shots}-{seed}-{digest}" / "result.json"
    path.parent.mkdir(parents=True)
    names = {"method": method, "data": "shapes", "clip": "tiny", "protocol": "few_shot"}
    metrics = {name: {"accuracy": value} for name, value in (evaluations or {"test": accuracy}).items()}
    about = {"digest": digest or f"{method}{shots}", "seed": seed, "shots": shots, "names": names, "metrics": metrics}
    path.write_text(json.dumps(about))


def shown(folder):
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    report.show(report.read(folder), True, console)
    return console.export_text()


def test_mean_and_population_spread_over_seeds(tmp_path):
    for seed, accuracy in ((1, 50.0), (2, 60.0)):
        put(tmp_path, "coop", 4, seed, accuracy)
    put(tmp_path, "coop", 16, 1, 70.0)
    put(tmp_path, "zeroshot", 4, 1, 40.0)
    text = shown(tmp_path)
    assert "shapes, few_shot, clip tiny" in text
    coop = next(line for line in text.splitlines() if "coop" in line)
    assert "55.0 ± 5.0" in coop
    assert "70.0 |" in coop
    assert text.index("zeroshot") < text.index("coop")
    assert "seeds 1, 2" in text


def test_other_settings_are_other_rows(tmp_path):
    put(tmp_path, "coop", 4, 1, 50.0, digest="aaaa")
    put(tmp_path, "coop", 4, 1, 90.0, digest="bbbb")
    text = shown(tmp_path)
    assert "50.0" in text
    assert "90.0" in text
    assert "coop #bbbb" in text or "coop #aaaa" in text


def test_every_evaluation_is_a_row(tmp_path):
    put(tmp_path, "coop", 16, 1, None, base=80.0, new=60.0)
    text = shown(tmp_path)
    assert "coop (base)" in text
    assert "coop (new)" in text


def test_command_writes_a_plot(tmp_path, monkeypatch, capsys):
    for shots in (1, 16):
        put(tmp_path, "coop", shots, 1, 50.0 + shots)
        put(tmp_path, "zeroshot", shots, 1, 40.0)
    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path)])
    assert report.main() == 0
    assert (tmp_path / "accuracy.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "accuracy.png") in capsys.readouterr().out


def test_an_empty_folder_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["report.py", str(tmp_path)])
    assert report.main() == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "no result.json" in error
    with pytest.raises(ValueError, match="give the folder that runs write to"):
        report.read(tmp_path / "nowhere")
