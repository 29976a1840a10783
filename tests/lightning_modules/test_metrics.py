import pytest
import torch
from sklearn.metrics import accuracy_score, f1_score

from lightning_modules.metrics import ClassCounts, summarise


def test_agrees_with_scikit_learn_over_several_batches():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(101, 7, generator=generator)
    labels = torch.randint(0, 6, (101,), generator=generator)  # the last class has no images
    counts = ClassCounts(7)
    for start in range(0, 101, 30):
        counts.update(logits[start : start + 30], labels[start : start + 30])
    result = summarise(counts.compute(), [f"c{i}" for i in range(7)])
    predicted = logits.argmax(1)
    assert result["accuracy"] == pytest.approx(100 * accuracy_score(labels, predicted))
    macro = f1_score(labels, predicted, labels=labels.unique(), average="macro", zero_division=0)  # as published
    assert result["macro_f1"] == pytest.approx(100 * macro)
    assert result["images"] == 101
    for label, row in enumerate(result["per_class"]):
        of_class = labels == label
        assert row["class"] == f"c{label}"
        assert row["images"] == of_class.sum()
        if of_class.any():
            assert row["accuracy"] == pytest.approx(100 * (predicted[of_class] == label).float().mean().item())
        else:
            assert row["accuracy"] is None
