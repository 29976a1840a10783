"""Detectors behind DenseCLIP's maps: torchvision's own results, independence of the batch, score maps, refusals."""

import pytest
import torch
from toys import toy_clip

from prompts.denseclip_detector import DenseCLIPDetector
from prompts.learner import TrainInfo
from prompts.parts.box_scores import score_loss, score_target
from prompts.parts.detectors import RetinaNetDetector, Seen, Target
from prompts.parts.training_draws import Step

CLASSES = ["cat", "car", "dog"]
SMALL = {"width": 8, "hidden": 16, "decoder_width": 8, "decoder_heads": 2, "decoder_layers": 1, "sampled": (16, 16)}
KINDS = ("retinanet", "maskrcnn")


def learner_of(kind, **options):
    clip = toy_clip()
    torch.manual_seed(3)
    learner = DenseCLIPDetector(kind, **{**SMALL, "least_score": 0.0, "most_boxes": 10, **options})
    learner.setup(clip, TrainInfo(CLASSES, 4))
    return clip, learner


def batch():
    """Three images, the second smaller than the others; the last without objects."""
    pixels = torch.randint(0, 256, (3, 3, 40, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    size = torch.tensor([[40, 48], [32, 30], [40, 48]])
    masks = torch.zeros(2, 40, 48, dtype=torch.uint8)
    masks[0, 4:20, 6:26] = masks[1, 10:30, 2:22] = 1
    two = Target(torch.tensor([[6.0, 4, 26, 20], [2, 10, 22, 30]]), torch.tensor([0, 2]), masks)
    one = Target(torch.tensor([[2.0, 10, 22, 30]]), torch.tensor([1]), masks[1:])
    none = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), masks[:0])
    return pixels, size, [two, one, none]


def step_of(places, seed=7):
    index = torch.tensor([11, 5, 8])[places]
    return Step(seed, index, torch.full((len(places),), 1 / 3))


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("kind", KINDS)
def test_losses_and_boxes_of_an_image_depend_on_no_other(kind, norm):
    clip, learner = learner_of(kind, head_norm=norm)
    pixels, size, targets = batch()
    together, outputs = learner.train().detection_losses(clip, pixels, size, targets, step_of([0, 1, 2]))
    assert outputs.shape == (3,)
    assert {"score_map", "classification" if kind == "retinanet" else "mask"} < together.keys()
    for place in range(3):
        alone, _ = learner.detection_losses(
            clip, pixels[place : place + 1], size[place : place + 1], targets[place : place + 1], step_of([place])
        )
        for name, loss in alone.items():
            torch.testing.assert_close(loss[0], together[name][place], rtol=1e-4, atol=1e-5)
    found = learner.eval().detect(clip, pixels, size)
    for place, (height, width) in enumerate(size.tolist()):
        [alone] = learner.detect(clip, pixels[place : place + 1], size[place : place + 1])
        torch.testing.assert_close(alone.boxes, found[place].boxes, rtol=1e-4, atol=1e-3)
        assert (found[place].boxes <= torch.tensor([width, height] * 2)).all()
        assert set(found[place].labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize("kind", KINDS)
def test_every_tensor_learns_and_the_generator_stays(kind):
    clip, learner = learner_of(kind)
    pixels, size, targets = batch()
    before = torch.get_rng_state()
    losses, _ = learner.train().detection_losses(clip, pixels, size, targets, step_of([0, 1, 2]))
    assert torch.equal(before, torch.get_rng_state())
    assert all(loss.shape == (3,) and loss.isfinite().all() for loss in losses.values())
    sum(loss.sum() for loss in losses.values()).backward()
    assert not [name for name, p in learner.named_parameters() if p.requires_grad and p.grad is None]
    assert sum(len(group["params"]) for group in learner.parameter_groups()) == len(
        [p for p in learner.parameters() if p.requires_grad]
    )


def test_a_narrow_head_hears_its_maps_with_groupnorm_alone():
    """torchvision starts the heads' weights with a deviation of 0.01, so behind four convolutions of 64 channels a map is faded
    to nothing: docs/detection.md, on drawn scenes."""
    spread = {}
    for norm in ("none", "group"):
        torch.manual_seed(0)
        detector = RetinaNetDetector([32, 40], [4, 8], len(CLASSES), 64, norm=norm)
        seen = Seen([torch.randn(2, 32, 8, 8), torch.randn(2, 40, 4, 4)], (32, 32), (32, 32))
        head = detector.net.head.classification_head
        logits = head.cls_logits(head.conv(detector.maps(seen)["0"]))
        spread[norm] = float((logits - logits.mean((0, 2, 3), keepdim=True)).std())
        assert sorted(name for name, _ in detector.named_parameters() if name.endswith("conv.0.1.weight")) == (
            ["net.head.classification_head.conv.0.1.weight", "net.head.regression_head.conv.0.1.weight"]
            if norm == "group" else []
        )  # fmt: skip
    assert spread["none"] < 1e-3
    assert spread["group"] > 0.05


class Given(torch.nn.Module):
    """A backbone that gives maps that were made before."""

    def __init__(self, maps, width):
        super().__init__()
        self.maps, self.out_channels = maps, width

    def forward(self, images):
        return self.maps


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_found_is_what_torchvisions_model_finds(kind):
    clip, learner = learner_of(kind, guidance="none")
    pixels = batch()[0][:1, :, :32, :32]
    [found] = learner.eval().detect(clip, pixels, torch.tensor([[32, 32]]))
    net = learner.detector.net
    maps = learner.guided(clip, pixels)
    net.backbone = Given(learner.detector.maps(Seen([maps.levels[i] for i in learner.levels], (32, 32), maps.padded)), 8)
    net.transform.min_size, net.transform.max_size = (32,), 32
    net.transform.size_divisible = 1
    with torch.no_grad():
        [expected] = net([torch.zeros(3, 32, 32)])
    assert len(found.boxes) > 3
    torch.testing.assert_close(found.boxes, expected["boxes"])
    torch.testing.assert_close(found.scores, expected["scores"])
    assert found.labels.tolist() == (expected["labels"] - int(kind == "maskrcnn")).tolist()


def released_loss(scores, boxes, labels, classes, height, width):
    """Of one image, in the words of DenseCLIP's released code for detection; scores (K,h',w') with their temperature."""
    target, mask = torch.zeros(classes, height // 4, width // 4), torch.zeros(1, height // 4, width // 4)
    for box, label in zip((boxes / 4).long(), labels, strict=True):
        x1, x2 = (box[[0, 2]].clamp(0, width // 4 - 1)).tolist()
        y1, y2 = (box[[1, 3]].clamp(0, height // 4 - 1)).tolist()
        target[label, y1:y2, x1:x2], mask[:, y1:y2, x1:x2] = 1, 1
    enlarged = torch.nn.functional.interpolate(scores[None], size=target.shape[1:], mode="bilinear", align_corners=False)[0]
    mask = mask.expand(classes, -1, -1)
    return torch.nn.functional.binary_cross_entropy(enlarged.sigmoid(), target, weight=mask, reduction="sum") / mask.sum()


def test_the_loss_of_a_score_map_is_the_released_one():
    boxes = torch.tensor([[4.0, 8, 21, 17], [17, 1, 18, 2], [10, 3, 32, 11.5]])
    labels, scores = torch.tensor([1, 0, 2]), torch.randn(3, 3, 4) / 9
    target, covered = score_target(boxes, labels, 3, (6, 8))
    assert target[1].nonzero().tolist() == [[2, 1], [2, 2], [2, 3], [2, 4], [3, 1], [3, 2], [3, 3], [3, 4]]
    assert not target[0].any()  # a box within a position
    assert (target.any(0) == covered).all()
    expected = released_loss(scores / 0.07, boxes, labels, 3, 24, 32)
    torch.testing.assert_close(score_loss(scores, target, covered, 0.07), expected)
    nothing = score_target(boxes[:0], labels[:0], 3, (6, 8))
    assert score_loss(scores.requires_grad_(), *nothing, 0.07) == 0.0


def test_the_map_joins_the_pyramid_over_its_temperature():
    clip, learner = learner_of("retinanet", dropout=0.0, tau=0.5)
    with torch.no_grad():
        maps = learner.eval().guided(clip, torch.rand(1, 3, 32, 32))
    torch.testing.assert_close(maps.levels[learner.guided.score_level][:, -maps.score_map.shape[1] :], maps.score_map * 2)


def test_padding_is_no_part_of_the_score_maps_loss():
    clip, learner = learner_of("retinanet", dropout=0.0)
    pixels, size, targets = batch()
    losses, _ = learner.train().detection_losses(clip, pixels, size, targets, step_of([0, 1, 2]))
    other = pixels.clone()
    other[1, :, 32:] = other[1, :, :, 30:] = 255
    again, _ = learner.detection_losses(clip, other, size, targets, step_of([0, 1, 2]))
    for name, loss in losses.items():
        torch.testing.assert_close(again[name], loss)


def test_refusals():
    for options, key in (
        ({"levels": [2, 1]}, "levels"), ({"levels": []}, "levels"), ({"tau": 0}, "tau"), ({"sampled": [1, 2]}, "sampled"),
        ({"dropout": 1.0}, "dropout"), ({"width": 0}, "width"), ({"detector": "yolo"}, "detector"),
        ({"head_norm": "layer"}, "head_norm"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=key):
            DenseCLIPDetector(**options)
    with pytest.raises(ValueError, match="score map joins level"):
        learner_of("retinanet", levels=[0])
    clip, learner = learner_of("maskrcnn")
    pixels, size, targets = batch()
    bare = [Target(target.boxes, target.labels) for target in targets]
    with pytest.raises(ValueError, match="learns masks"):
        learner.detection_losses(clip, pixels, size, bare, step_of([0, 1, 2]))
