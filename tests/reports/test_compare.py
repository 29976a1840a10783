import numpy as np
import pytest
from fakes import guessed, put

from reports.classification import class_changes, confusions, item_test, most_confused
from reports.collect import read
from reports.compare import benchmarks, check_names, comparisons


def two(folder, images=200, **options):
    for method, skill in (("zeroshot", 0.5), ("coop", 0.8)):
        for seed in (1, 2, 3):
            metrics, arrays = guessed(skill, seed=seed, images=images)
            put(folder, method, seed, metrics={"test": metrics}, predictions={"test": arrays}, **options)


def test_pairs_on_the_same_seeds_and_images(tmp_path):
    two(tmp_path)
    groups = {group.label: group for group in read([tmp_path])}
    (comparison,) = comparisons(groups.values(), item_test=item_test)
    assert (comparison.a, comparison.b, comparison.seeds) == ("coop", "zeroshot", [1, 2, 3])
    assert comparison.where == "shapes, few_shot, clip tiny, 16 shots"
    means = [np.mean(list(groups[label].by_seed("test").values())) for label in ("coop", "zeroshot")]
    assert comparison.difference == pytest.approx(means[0] - means[1])
    assert comparison.is_gain
    assert comparison.items.interval[0] < comparison.difference < comparison.items.interval[1]
    assert comparison.items.interval[0] > 0
    assert len(comparison.items.mcnemar) == 3
    assert max(comparison.items.mcnemar) < 0.01
    assert comparison.t_test < 0.05


def test_the_order_of_the_two_is_the_users(tmp_path):
    two(tmp_path)
    groups = read([tmp_path])
    (comparison,) = comparisons(groups, ("zeroshot", "coop"))
    assert (comparison.a, comparison.b) == ("zeroshot", "coop")
    assert comparison.difference < 0
    assert not comparison.is_gain
    with pytest.raises(ValueError, match="no result of 'cocoop' to compare; there are: zeroshot, coop"):
        check_names(groups, ("cocoop", "coop"))


def test_two_of_three_are_compared_once(tmp_path):
    for method in ("zeroshot", "coop", "maple"):
        put(tmp_path, method)
    (comparison,) = comparisons(read([tmp_path]), ("maple", "coop"))
    assert (comparison.a, comparison.b) == ("maple", "coop")


def test_of_a_figure_whose_best_is_the_lowest(tmp_path):
    loss = {"key": "loss", "title": "loss", "unit": "", "higher_is_better": False}
    for method, value in (("zeroshot", 3.0), ("coop", 2.0)):
        put(tmp_path, method, metrics={"test": value}, figure=loss)
    (comparison,) = comparisons(read([tmp_path]))
    assert (comparison.a, comparison.difference, comparison.is_gain) == ("coop", -1.0, True)


def test_common_seeds_alone_and_no_images_without_predictions(tmp_path):
    put(tmp_path, "zeroshot", 1, metrics={"test": 40.0})
    for seed in (1, 2):
        put(tmp_path, "coop", seed, metrics={"test": 50.0 + seed})
    (comparison,) = comparisons(read([tmp_path]), item_test=item_test)
    assert (comparison.seeds, comparison.difference) == ([1], 11.0)
    assert comparison.items is None
    assert comparison.t_test is None


def test_other_images_are_not_paired(tmp_path):
    for method, images in (("zeroshot", 100), ("coop", 120)):
        metrics, arrays = guessed(0.6, images=images)
        put(tmp_path, method, metrics={"test": metrics}, predictions={"test": arrays})
    (comparison,) = comparisons(read([tmp_path]), item_test=item_test)
    assert comparison.items is None


def test_images_that_one_method_could_not_read_are_left_out_for_both(tmp_path):
    _, (predicted, label, confidence) = guessed(0.6)
    unread = label.copy()
    put(tmp_path, "zeroshot", predictions={"test": (predicted, label, confidence)})
    wrong = (label + 1) % 5
    wrong[:50], unread[:50], gone = 0, 0, confidence.copy()
    gone[:50] = 0
    put(tmp_path, "coop", predictions={"test": (wrong, unread, gone)})
    (comparison,) = comparisons(read([tmp_path]), item_test=item_test)
    right = 100 * (predicted == label)[50:].mean()  # coop alone is wrong on the rest
    assert comparison.items.interval[0] < -right < comparison.items.interval[1]


def test_the_largest_number_of_shots_stands_for_a_method(tmp_path):
    for shots in (16, -1, 4):
        put(tmp_path, shots=shots)
    (benchmark,) = benchmarks(read([tmp_path]))
    assert benchmark.groups["coop"].shots == -1


def test_classes_gained_and_lost(tmp_path):
    def metrics(*values):
        return {"test": {"accuracy": 0.0, "per_class": [{"class": f"c{i}", "accuracy": v} for i, v in enumerate(values)]}}

    put(tmp_path, "zeroshot", metrics=metrics(50.0, 60.0, None))
    for seed, shift in ((1, 0.0), (2, 10.0)):
        put(tmp_path, "coop", seed, metrics=metrics(70.0 + shift, 40.0, None))
    zeroshot, coop = read([tmp_path])
    assert class_changes(coop, zeroshot, "test") == [("c0", 25.0), ("c1", -20.0)]


def test_confusions_sum_over_seeds(tmp_path):
    two(tmp_path)
    group = read([tmp_path])[1]
    counts, names = confusions(group, "test")
    assert counts.sum() == 600
    assert 100 * counts.trace() / 600 == pytest.approx(np.mean(list(group.by_seed("test").values())))
    true, predicted, share = most_confused(counts, names)[0]
    assert true != predicted
    assert share == pytest.approx(100 * counts[names.index(true), names.index(predicted)] / counts[names.index(true)].sum())
