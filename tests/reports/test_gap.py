"""The distance between images and texts, on features that are given."""

import json
from types import SimpleNamespace

import pytest
import torch

from reports.insight import gap

X = torch.tensor([[2.0, 0, 0], [0, 3.0, 0], [0, 0, 4.0]])
LABELS = torch.tensor([0, 1, 1])


class Learner:
    def __init__(self, vectors=(), error=None):
        self.vectors, self.error = vectors, error

    def image_prompts(self):
        return None

    def joint_vectors(self, clip, image, classnames):
        yield from self.vectors
        if self.error:
            raise ValueError(self.error)


class Model:
    """A CLIP whose image features are the images themselves."""

    def __init__(self, text, **learner):
        self.text, self.learner, self.classnames, self.bound = text, Learner(**learner), ["own"], []
        self.clip = SimpleNamespace(encode_image=lambda pixels, prompts: pixels)

    def bind(self, names):
        self.bound.append(names)

    def eval(self):
        return self

    def to(self, device):
        return self

    def text_depends_on(self):
        return "image" if self.text is not None and self.text.ndim == 3 else "nothing"

    def text_features(self, image):
        if self.text is None or self.text.ndim == 2:
            return self.text
        return torch.stack([self.text[int(x.argmax())] for x in image])


def of(model, method="mine", bad=()):
    dataset = [
        {"image": x[None], "label": int(label), "weight": float(at not in bad)}
        for at, (x, label) in enumerate(zip(X, LABELS, strict=True))
    ]
    evaluation = SimpleNamespace(classnames=["a", "b"])
    return SimpleNamespace(
        names={"method": method},
        default_baseline="clip",
        model=model,
        baseline_parts=SimpleNamespace(model=Model(torch.eye(3)[:2])),
        device=torch.device("cpu"),
        dataset=lambda name: dataset,
        test_set=lambda name: evaluation,
    )


def rows(folder):
    return json.loads((folder / "gap.json").read_text())["test"]["against"]


def test_distances_and_cosines(tmp_path):
    model = Model(5 * torch.eye(3)[:2], vectors=[("h", "image", 0.1 * X), ("mean", "class", torch.eye(3)[[2, 1]])])
    said = gap.gap(of(model), tmp_path, ["test"])
    text, h, mean, baseline = rows(tmp_path)
    assert [row["vectors"] for row in (text, h, mean, baseline)] == ["text features", "h", "mean", "text features"]
    assert text["cosine"] == pytest.approx(2 / 3)  # of images 1 and 2 with their classes, and 0 of the third
    # the mean image is (1/3, 1/3, 1/3), the mean text (1/2, 1/2, 0): texts count once each, however many images have them
    assert text["distance"] == pytest.approx((2 / 36 + 1 / 9) ** 0.5)
    assert (h["cosine"], h["distance"]) == (pytest.approx(1), pytest.approx(0, abs=1e-6))
    assert mean["cosine"] == pytest.approx(1 / 3)
    assert {key: baseline[key] for key in ("cosine", "distance")} == {key: text[key] for key in ("cosine", "distance")}
    assert "mine           text features            0.408 apart   cosine  0.667" in said
    assert model.bound == [["a", "b"], ["own"]]  # as it was


def test_texts_that_depend_on_the_image(tmp_path, monkeypatch):
    monkeypatch.setattr(gap, "AT_ONCE", 2)
    text = torch.stack([torch.eye(3)[:2], torch.eye(3)[:2].flip(0), torch.eye(3)[[0, 2]]])  # image, class, d
    gap.gap(of(Model(text)), tmp_path, ["test"])
    (row, _) = rows(tmp_path)
    assert row["cosine"] == pytest.approx((1 + 0 + 1) / 3)
    mean = torch.tensor([3 / 6, 2 / 6, 1 / 6])
    assert row["distance"] == pytest.approx((torch.tensor([1 / 3] * 3) - mean).norm().item())
    monkeypatch.setattr(gap, "TEXTS", 4)
    gap.gap(of(Model(text)), tmp_path, ["test"])
    assert json.loads((tmp_path / "gap.json").read_text())["test"]["images"] == 2


def test_what_is_not_there(tmp_path):
    said = gap.gap(of(Model(None, error="there is no prompt file x.")), tmp_path, ["test"])
    assert [row["method"] for row in rows(tmp_path)] == ["clip"]
    assert said.endswith("\n  there is no prompt file x.")
    gap.gap(of(Model(torch.eye(3)[:2]), "clip", bad=(0,)), tmp_path, ["test"])
    assert json.loads((tmp_path / "gap.json").read_text())["test"]["images"] == 2
    assert len(rows(tmp_path)) == 1  # the baseline itself
    with pytest.raises(ValueError, match="none of the 3 test images of test"):
        gap.gap(of(Model(torch.eye(3)[:2]), bad=(0, 1, 2)), tmp_path, ["test"])
