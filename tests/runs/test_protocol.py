"""Protocols: class subsets, evaluations, summaries, and what is refused."""

import pytest

from runs.protocol import protocol_of

FEW_SHOT = {"train": "all", "evaluate": {"test": "all"}, "targets": {}}
BASE_TO_NEW = FEW_SHOT | {
    "train": "base",
    "evaluate": {"base": "base", "new": "new"},
    "summary": {"H": {"harmonic_mean": ["base", "new"]}},
}
GROUPS = {
    "train": ["1/3", "2/3", "3/3"],
    "evaluate": {"a": "1/3", "b": "2/3", "c": "3/3"},
    "targets": {},
    "summary": {"forgetting": {"forgetting": ["a", "b", "c"]}, "average": {"mean": ["a", "b", "c"]}},
}


def test_the_harmonic_mean_of_base_and_new():
    """27 in docs/pretraining.md."""
    protocol = protocol_of(BASE_TO_NEW)
    for base, new, wanted in ((80, 70, 74.667), (80, 0, 0), (0, 0, 0)):
        summary = protocol.summarise({"base": base, "new": new}, [], [])
        assert summary["H"] == {
            "function": "harmonic_mean",
            "evaluations": ["base", "new"],
            "value": pytest.approx(wanted, abs=1e-3),
        }


def test_evaluations_on_the_dataset_that_is_trained_on_go_by_its_name():
    protocol = protocol_of(FEW_SHOT | {"evaluate": {"source": "all"}, "summary": {"average": {"mean": "targets"}}})
    assert protocol.evaluations("eurosat") == {"eurosat": "all"}
    figures = {"eurosat": 10.0, "dtd": 20.0, "ucf101": 40.0}
    assert protocol.summarise(figures, ["dtd", "ucf101"], [])["average"]["value"] == 30.0
    assert protocol.summarise(figures, [], []) == {}  # of no targets there is no mean


def test_forgetting_is_of_the_classes_that_an_earlier_stage_has_learned():
    stages = [{"a": 90.0, "b": 30.0, "c": 20.0}, {"a": 70.0, "b": 80.0, "c": 25.0}]
    last = {"a": 60.0, "b": 75.0, "c": 85.0}
    summary = protocol_of(GROUPS).summarise(last, [], stages)
    assert summary["forgetting"]["evaluations"] == ["a", "b"]
    assert summary["forgetting"]["value"] == pytest.approx(((90 - 60) + (80 - 75)) / 2)
    assert summary["average"]["value"] == pytest.approx(220 / 3)
    assert "forgetting" not in protocol_of(GROUPS | {"train": ["1/3"]}).summarise(stages[0], [], [])
    second = protocol_of(GROUPS | {"train": ["1/3", "2/3"]}).summarise(stages[1], [], stages[:1])
    assert second["forgetting"]["evaluations"] == ["a"]
    assert second["forgetting"]["value"] == 20.0


def test_a_summary_of_the_dataset_that_is_trained_on_and_of_others():
    protocol = protocol_of(FEW_SHOT | {"evaluate": {"source": "all", "a": "base"}, "summary": {"m": {"mean": ["source", "a"]}}})
    summary = protocol.summarise({"eurosat": 10.0, "a": 20.0}, [], [], data="eurosat")
    assert summary["m"] == {"function": "mean", "evaluations": ["eurosat", "a"], "value": 15.0}
    stages = GROUPS | {"evaluate": {"source": "1/3"}, "summary": {"f": {"forgetting": ["source"]}}}
    assert protocol_of(stages).summarise({"toy": 1.0}, [], [{"toy": 4.0}], data="toy")["f"]["value"] == 3.0


@pytest.mark.parametrize(
    "change",
    [
        {"summary": {"test": {"mean": ["test"]}}},
        {"evaluate": {"test": "all", "source": "all", "toy": "base"}},
        {"targets": {"toy": ["digits", "digits"]}},
        {"targets": {"toy": ["test"]}},
        {"targets": {"toy": ["digits"]}, "summary": {"digits": {"mean": "targets"}}},
    ],
)
def test_no_name_stands_for_two_numbers(change):
    with pytest.raises(ValueError, match="this protocol would give .* twice with data=toy"):
        protocol_of(FEW_SHOT | change).check_names("toy")


def test_a_run_trains_on_the_last_of_the_subsets():
    assert protocol_of(GROUPS).subset == "3/3"
    assert protocol_of(BASE_TO_NEW).train == ("base",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": []}, "protocol.train names no classes"),
        ({"train": ["1/3", "4/3"]}, "protocol.train: subset=4/3 is not known"),
        ({"train": 5}, "protocol.train: subset=5 is not known"),
        ({"evaluate": {}}, "protocol.evaluate names no evaluation"),
        ({"evaluate": {"test": "old"}}, "protocol.evaluate.test: subset=old is not known"),
        ({"targets": {"toy": "digits"}}, "protocol.targets.toy='digits': give a list of names of datasets"),
        ({"summary": ["H"]}, r"protocol.summary=\['H'\]: give a function of evaluations by name"),
        ({"summary": {"H": {"median": ["base", "new"]}}}, "protocol.summary.H.median is not known: choose one of"),
        ({"summary": {"H": {"mean": ["base", "old"]}}}, "protocol.summary.H is of 'old', which is no evaluation"),
        ({"summary": {"H": {"mean": 5}}}, "protocol.summary.H is of 5"),
        ({"summary": {"H": {"mean": []}}}, "protocol.summary.H is of no evaluation"),
        ({"summary": {"H/2": {"mean": ["base"]}}}, "protocol.summary has the name 'H/2'"),
        ({"evaluate": {"a/b": "all"}}, "protocol.evaluate has the name 'a/b'"),
        ({"evaluate": {1: "all"}}, "protocol.evaluate has the name 1"),
        ({"evaluate": {"val": "all"}}, "protocol.evaluate.val has a name that the history of a training needs"),
        ({"evaluate": {"epoch": "all"}}, "protocol.evaluate.epoch has a name that the history of a training needs"),
        ({"summary": {"H": {"mean": ["base"], "harmonic_mean": ["base"]}}}, "protocol.summary.H=.*: give one function"),
        ({"recipe": 3}, "protocol.recipe=3: give the name of a protocol"),
        ({"subset": "all"}, "protocol.subset is not known"),
    ],
)
def test_what_is_no_protocol_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        protocol_of(BASE_TO_NEW | change)


@pytest.mark.parametrize("key", ["train", "evaluate", "targets"])
def test_a_protocol_lacks_nothing(key):
    with pytest.raises(ValueError, match=f"there is no key protocol.{key}"):
        protocol_of({name: value for name, value in FEW_SHOT.items() if name != key})
