import pytest
from fakes import guessed, put

from reports.collect import read


def config(**keys):
    return {"seed": 1, "data_root": "/here", "output": "a", "data": {"seed": 1, "root": "/here/dtd"}, "fit": True} | keys


def test_seeds_of_one_configuration_are_a_group(tmp_path):
    for seed in (10, 2):
        put(
            tmp_path,
            seed=seed,
            metrics={"test": 50.0 + seed},
            config=config(seed=seed, data={"seed": seed, "root": "/here/dtd"}),
        )
    (group,) = read([tmp_path])
    assert group.by_seed("test") == {2: 52.0, 10: 60.0}
    assert group.label == "coop"


def test_where_and_how_it_was_run_does_not_part_a_group(tmp_path):
    put(tmp_path, seed=1, config=config(trainer={"devices": 1}, workers=0))
    there = {"data_root": "/there", "data": {"seed": 2, "root": "/there/dtd"}, "output": "b", "workers": 8}
    put(tmp_path, seed=2, config=config(trainer={"devices": 8}, **there))
    assert len(read([tmp_path])) == 1


def test_runs_that_differ_in_more_than_the_seed_are_not_averaged(tmp_path):
    put(tmp_path, seed=1, config=config(optim={"lr": 0.1}))
    put(tmp_path, seed=2, config=config(optim={"lr": 0.2}))
    with pytest.raises(ValueError, match=r"seed1.*seed2.*differ in more than the seed \(optim.lr\)"):
        read([tmp_path])


def test_a_file_may_lie_elsewhere(tmp_path):
    for seed in (1, 2):
        put(tmp_path, seed=seed, config=config(method={"alphas": f"/somewhere{seed}/alphas.json"}))
    assert len(read([tmp_path])) == 1


def test_other_evaluations_are_not_averaged(tmp_path):
    put(tmp_path, seed=1, metrics={"base": 1.0})
    put(tmp_path, seed=2, metrics={"base": 1.0, "new": 2.0})
    with pytest.raises(ValueError, match="their evaluations"):
        read([tmp_path])


def test_one_job_with_two_results_is_refused_and_a_copy_is_not(tmp_path):
    put(tmp_path / "a", metrics={"test": 50.0})
    put(tmp_path / "b", metrics={"test": 50.0})
    (group,) = read([tmp_path / "a", tmp_path / "b", tmp_path])
    assert len(group.runs) == 1
    put(tmp_path / "c", metrics={"test": 51.0})
    with pytest.raises(ValueError, match="same configuration and seed with different results"):
        read([tmp_path])


def test_settings_tell_groups_of_one_method_apart(tmp_path):
    for depth in (2, 3):
        put(tmp_path, "maple", digest=f"d{depth}", config=config(method={"depth": depth, "n_ctx": 2}))
    put(tmp_path, "maple", shots=1, digest="one", config=config(method={"depth": 3, "n_ctx": 2}, epochs=5))
    put(tmp_path, "coop", config=config(method={"n_ctx": 4}))
    labels = {group.digest: group.label for group in read([tmp_path])}
    assert labels["d2"] == "maple (depth=2)"
    assert labels["d3"] == labels["one"] == "maple (depth=3)"  # one row over shots
    assert "coop" in labels.values()


def test_evaluations_of_saved_prompts_are_apart_and_told_by_them(tmp_path):
    put(tmp_path, digest="trained", config=config())
    for name in ("a", "b"):
        put(tmp_path, digest=name, config=config(fit=False, ckpt=f"runs/{name}"))
    groups = {group.digest: group for group in read([tmp_path])}
    assert groups["trained"].label == "coop"
    assert groups["a"].label == "coop (ckpt=runs/a)"
    assert groups["a"].protocol == "saved prompts, few_shot"


def test_what_cannot_be_told_is_told_by_the_digest(tmp_path):
    for name in ("aaaa", "bbbb"):
        put(tmp_path, digest=name)
    assert {group.label for group in read([tmp_path])} == {"coop (#aaaa)", "coop (#bbbb)"}


@pytest.mark.parametrize(("text", "what"), [("{", "cannot be read"), ("{}", "has no digest"), ("[]", "is a list")])
def test_a_broken_file_is_named(tmp_path, text, what):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(ValueError, match=f"{tmp_path}/result.json {what}"):
        read([tmp_path])


def test_no_results(tmp_path):
    with pytest.raises(ValueError, match="give the folder that runs write to"):
        read([tmp_path / "nowhere"])


def test_predictions_are_optional(tmp_path):
    metrics, arrays = guessed(0.7)
    put(tmp_path, seed=1, metrics={"test": metrics, "other": metrics}, predictions={"test": arrays})
    put(tmp_path, seed=2, metrics={"test": metrics, "other": metrics})
    (group,) = read([tmp_path])
    stored = group.runs[1].predictions("test")
    assert 100 * stored.correct_N.mean() == pytest.approx(metrics["accuracy"])
    assert group.runs[1].predictions("other") is None
    assert group.runs[2].predictions("test") is None


def test_unreadable_images_keep_their_place_and_are_neither_right_nor_wrong(tmp_path):
    metrics, (predicted, label, confidence) = guessed(0.7)
    predicted[3] = label[3] = confidence[3] = 0
    put(tmp_path, metrics={"test": metrics}, predictions={"test": (predicted, label, confidence)})
    stored = read([tmp_path])[0].runs[1].predictions("test")
    assert len(stored.correct_N) == len(label)
    assert (stored.readable_N[3], stored.correct_N[3]) == (False, False)
    assert len(stored.readable().correct_N) == len(stored.readable().confidence_N) == len(label) - 1


def test_one_configuration_is_of_one_task_with_the_same_summaries_and_stages(tmp_path):
    summary = {"S": {"function": "mean", "evaluations": ["test"], "value": 50.0}}
    others = ({"task": "toy"}, {"summary": summary}, {"stages": [{"test": 1.0}]})
    for at, (about, what) in enumerate(zip(others, ("task", "summaries", "stages"), strict=True)):
        put(tmp_path / str(at), seed=1)
        put(tmp_path / str(at), seed=2, **about)
        with pytest.raises(ValueError, match=f"their {what}"):
            read([tmp_path / str(at)])
