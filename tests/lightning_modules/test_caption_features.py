"""Sources of captions and questions vouch for their images, so evaluations read image features from the store."""

from contextlib import nullcontext

import pytest
import torch
from caption_trees import put_coco, put_vqa
from toys import IMAGE_SPEC, toy_clip

from datamodules.captioned import CaptionedData
from datamodules.drawn_scenes import DrawnScenes
from datamodules.karpathy import KarpathySplit
from datamodules.known_features import FEATURES
from datamodules.questions import QuestionData
from datamodules.vqa_files import VQA
from lightning_modules.features import ImageFeatures
from runs.feature_store import FeatureStore


def features_of(data, clip, folder):
    """The features of the test images by index, and how many images were encoded for them."""
    features = ImageFeatures(FeatureStore(folder, 1))
    evaluation = data.evaluation("x", "test", "all")
    batches = list(features.evaluation(evaluation.loader(0, 1), clip, nullcontext, "x"))
    index, rows = (torch.cat([batch[key] for batch in batches]) for key in ("index", FEATURES))
    assert index.tolist() == list(range(len(evaluation.items)))
    return rows, features.encoded


@pytest.mark.parametrize("kind", ["coco", "vqa", "scenes"])
def test_an_evaluation_is_encoded_once(tmp_path, kind):
    put_coco(tmp_path)
    put_vqa(tmp_path)
    sources = {"coco": KarpathySplit(str(tmp_path), "coco", "dataset_coco.json"), "vqa": VQA(str(tmp_path), "vqa2"),
               "scenes": DrawnScenes()}  # fmt: skip
    make = QuestionData if kind == "vqa" else CaptionedData
    data, clip = make("x", sources[kind], IMAGE_SPEC, -1, 1), toy_clip()
    del data.selected.test[6:]
    first, encoded = features_of(data, clip, tmp_path / "store")
    again, none = features_of(data, clip, tmp_path / "store")
    assert (encoded, none) == (len(data.test_items), 0)
    assert torch.equal(first, again)
    pixels = next(iter(data.eval_loader("test")))["image"]
    assert torch.equal(first, clip.encode_image(pixels).detach())


def test_an_image_that_has_changed_is_encoded_again(tmp_path):
    put_coco(tmp_path)
    data = CaptionedData("x", KarpathySplit(str(tmp_path), "coco", "dataset_coco.json"), IMAGE_SPEC, -1, 1)
    before, _ = features_of(data, toy_clip(), tmp_path / "store")
    path = tmp_path / "coco" / data.test_items[1].path
    path.write_bytes((tmp_path / "coco" / data.train_items[1].path).read_bytes())
    after, encoded = features_of(data, toy_clip(), tmp_path / "store")
    assert encoded == 2
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])
