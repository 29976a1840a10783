import numpy as np
import torch

from lightning_modules.predictions import PredictionMetric, write_predictions


def test_images_keep_their_place_whatever_the_order(tmp_path):
    logits = torch.randn(5, 300, generator=torch.Generator().manual_seed(0))
    logits[0, 299] = 9
    metric = PredictionMetric(5)
    metric.update(torch.tensor([3, 0]), logits[[3, 0]], torch.tensor([7, 299]))
    metric.update(torch.tensor([1, 2, 4]), logits[[1, 2, 4]], torch.tensor([1, 2, 4]))
    write_predictions(tmp_path / "p.npz", {"base": metric.compute()})
    stored = np.load(tmp_path / "p.npz")
    assert stored["base/pred"].dtype == np.uint16
    assert stored["base/pred"].tolist() == logits.argmax(-1).tolist()
    assert stored["base/label"].tolist() == [299, 1, 2, 7, 4]
    np.testing.assert_allclose(stored["base/confidence"], logits.softmax(-1).amax(-1), rtol=1e-3)
    assert [path.name for path in tmp_path.iterdir()] == ["p.npz"]
