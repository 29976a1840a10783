"""A method of two stages in one command: DPL's search, then the training of the lengths that it chose."""

import json

import pytest
from safetensors.torch import load_file

DPL = [
    "clip=toy", "data=toy", "method=dpl", "earlier.method.lengths=[0,2,3]", "earlier.method.alpha_lr=0.1",
    "earlier.data.alternating_batch_size=6", "earlier.epochs=3", "shots=4", "batch_size=6", "epochs=3", "optim.lr=0.1",
]  # fmt: skip


def runs(folder):
    """The finished runs below a folder, by method."""
    results = {path.parent: json.loads(path.read_text()) for path in folder.rglob("result.json")}
    return {result["names"]["method"]: (path, result) for path, result in results.items()}


def test_both_is_a_search_and_a_training_each_in_its_folder(run_here, tmp_path, capsys):
    result = run_here(*DPL)
    stage_results = runs(tmp_path)
    assert set(stage_results) == {"dpl_search", "dpl"}
    (search, searched), (trained, _) = stage_results["dpl_search"], stage_results["dpl"]
    files = {"dpl.json", "dpl.png", "prompts.safetensors", "result.json"}
    for folder in (search, trained):
        assert files <= {path.name for path in folder.iterdir()}
    content = json.loads((search / "dpl.json").read_text())
    assert json.loads((trained / "dpl.json").read_text()) == content
    lengths = content["text"] + content["image"]
    assert result["trainable_parameters"] == 32 * sum(lengths) > 0
    assert searched["trainable_parameters"] == 4 * 32 * 5 + 2 * 2 * 3
    assert sum(len(t) for t in load_file(trained / "prompts.safetensors").values()) == sum(lengths)

    capsys.readouterr()
    assert run_here(*DPL) == result
    assert capsys.readouterr().out.count("done already") == 1
    (trained / "result.json").unlink()
    assert run_here(*DPL)["metrics"] == result["metrics"]
    assert capsys.readouterr().out.count("done already") == 1  # of the search
    alone = run_here(*DPL, f"method.prompt_lengths={search}")
    assert alone["metrics"] == result["metrics"]

    content["text"] = [3, 3]
    (search / "dpl.json").write_text(json.dumps(content))
    other = run_here(*DPL, f"method.prompt_lengths={search / 'dpl.json'}")
    assert other["trainable_parameters"] == 32 * (6 + sum(content["image"]))

    (search / "dpl.json").unlink()
    again = run_here(*DPL, "fit=false", f"ckpt={trained}", "protocol=base_to_new")  # on its own, with other class lists
    assert set(again["metrics"]) == {"base", "new"}
    assert again["trainable_parameters"] == result["trainable_parameters"]


@pytest.mark.parametrize("method", ["ivlp", "maple", "promptsrc"])
def test_found_lengths_shape_another_method_and_stay_with_its_prompts(run_here, tmp_path, method):
    path = tmp_path / "dpl.json"
    path.write_text(json.dumps({"text": [3, 2], "image": [0, 4]}))
    settings = ["data=toy", "clip=toy", f"method={method}", "shots=4", "batch_size=6", "epochs=1"]
    trained = run_here(*settings, f"method.prompt_lengths={path}")
    [folder] = [file.parent for file in tmp_path.rglob("result.json")]
    projections = 2 * (32 * 32 + 32) if method == "maple" else 4 * 32
    assert trained["trainable_parameters"] == 5 * 32 + projections
    path.unlink()
    again = run_here(*settings, "fit=false", f"ckpt={folder}")
    assert again["metrics"] == trained["metrics"]


def test_nothing_found_is_zero_shot_clip(run_here, tmp_path):
    (tmp_path / "dpl.json").write_text(json.dumps({"text": [0, 0], "image": [0, 0]}))
    result = run_here(*DPL, f"method.prompt_lengths={tmp_path}")
    zeroshot = run_here("clip=toy", "data=toy", "method=zeroshot", "method.templates=single", "shots=4")
    assert result["metrics"]["test"]["accuracy"] == zeroshot["metrics"]["test"]["accuracy"]
    assert result["trainable_parameters"] == 0


def test_two_ranks_find_and_train_the_same(cli, run_here, tmp_path):
    run = cli(*DPL, "trainer=ddp_cpu", "output=two")
    assert run.returncode == 0, run.stderr
    assert "Traceback" not in run.stderr
    assert "sync_dist" not in run.stderr  # Lightning's advice for metrics that are not yet summed up over the ranks
    assert run.stdout.count("trainable parameters") == 2  # one rank speaks, of both stages
    run_here(*DPL, "output=one")
    one, two = ({phase: f for phase, (f, _) in runs(tmp_path / name).items()} for name in ("one", "two"))
    searches = [json.loads((folders["dpl_search"] / "dpl.json").read_text()) for folders in (one, two)]
    assert searches[0]["text"] == searches[1]["text"]
    assert searches[0]["image"] == searches[1]["image"]
    for tower in ("text", "image"):
        for a, b in zip(*(one_search["alphas"][tower] for one_search in searches), strict=True):
            assert a == pytest.approx(b, abs=1e-4)
    for phase in ("dpl_search", "dpl"):
        a, b = (load_file(folders[phase] / "prompts.safetensors") for folders in (one, two))
        assert a.keys() == b.keys()
        assert all((a[key] - b[key]).abs().max() < 1e-3 for key in a)


@pytest.mark.parametrize("method", ["toy", "zeroshot", "coop"])
def test_a_stage_starts_from_all_that_the_one_before_has_learned(run_here, tmp_path, method):
    """Whatever its tensors are called, and also where there are none."""
    line = ["protocol=base_to_new", f"method={method}", "recipe=none", "shots=4", "batch_size=6", "optim.lr=0.5"]
    result = run_here(*line, "protocol.train=[base,new]")
    [first] = [path for path in tmp_path.rglob("result.json") if not json.loads(path.read_text())["stages"]]
    assert result["stages"] == [
        {name: metrics["accuracy"] for name, metrics in json.loads(first.read_text())["metrics"].items()}
    ]
    by_hand = run_here(*line, "protocol.train=new", f"init_from={first.parent}")
    assert by_hand["metrics"] == result["metrics"]
    assert by_hand["train_loss"] == result["train_loss"]
