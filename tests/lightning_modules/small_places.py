"""Coloured rectangles in images of two sizes, expressions for them, and learners of a few lines that score regions."""

from functools import partial

import numpy as np
import PIL.Image
import torch
from torch import nn
from toys import toy_clip

from datamodules.grounding import GroundingData
from datamodules.grounding_items import Expression, GroundingSplits
from lightning_modules.grounding import Grounding
from prompts.learner import GradientFree, PromptLearner, TrainInfo
from prompts.prompted_clip import PromptedCLIP

COLOURS = ("red", "green", "blue")
BOXES = ((2.0, 3.0, 12.0, 13.0), (16.0, 5.0, 28.0, 15.0), (4.0, 18.0, 20.0, 28.0))  # of red, green and blue
ADAM = partial(torch.optim.AdamW, lr=0.01)


class Rectangles:
    """Two expressions for each image: the box of a colour, and one whose gold box no proposal hits in every third image."""

    in_memory = True
    sizes = ((40, 30), (30, 48))  # width and height
    broken = None  # the path of an image that cannot be read

    def expressions(self, split, images):
        for number in range(images):
            for place in (0, 1):
                colour = COLOURS[(number + place) % 3]
                missed = number % 3 == 2 and place == 1
                gold = (0.0, 0.0, 3.0, 3.0) if missed else BOXES[COLOURS.index(colour)]
                yield Expression(f"{split}/{number}", number, f"{split}-{number}-{place}", f"The {colour} box.", gold, BOXES)

    def splits(self, seed):
        return GroundingSplits(*(list(self.expressions(split, n)) for split, n in (("train", 6), ("val", 3), ("test", 7))))

    def open(self, item):
        if item.path == self.broken:
            raise ValueError(f"{item.path} is damaged")
        number = int(item.path.split("/")[1])
        width, height = self.sizes[number % 2]
        pixels = np.random.default_rng(number).integers(0, 90, (height, width, 3))
        for channel, (x1, y1, x2, y2) in enumerate(BOXES):
            pixels[int(y1) : int(y2), int(x1) : int(x2), channel] += 150
        return PIL.Image.fromarray(pixels.astype(np.uint8))

    def region_mask(self, item, number):
        return None


class ByColour(GradientFree):
    """The mean of the channel that an expression names, within each box."""

    offers = ("scores of regions",)
    needs_masks = False

    def __init__(self):
        super().__init__()
        self.seen = []

    def bind(self, clip, classnames):
        pass

    def set_bank(self, clip, texts):
        pass

    def region_scores(self, clip, images, boxes, texts, masks=None, keys=None):
        self.seen.append((images, boxes, texts, masks, keys))
        scores = []
        for image, of_image, text in zip(images, boxes, texts, strict=True):
            channel = next((i for i, colour in enumerate(COLOURS) if colour in text), 0)
            cut = [image[channel, int(y1) : int(y2), int(x1) : int(x2)].float().mean() for x1, y1, x2, y2 in of_image.tolist()]
            scores.append(torch.stack(cut))
        return scores


class Scaled(PromptLearner):
    """The same, times a number that is learned."""

    offers = ("scores of regions",)
    needs_masks = False

    def setup(self, clip, info):
        self.scale = nn.Parameter(torch.tensor(0.01))

    def bind(self, clip, classnames):
        pass

    def set_bank(self, clip, texts):
        pass

    def region_scores(self, clip, images, boxes, texts, masks=None, keys=None):
        return [scores * self.scale for scores in ByColour().region_scores(clip, images, boxes, texts, masks, keys)]

    def grounding_losses(self, scores, targets):
        rows = [
            nn.functional.cross_entropy(row[None], torch.tensor([max(target, 0)])) * (target >= 0)
            for row, target in zip(scores, targets, strict=True)
        ]
        return {"ce": torch.stack(rows)}


def parts(learner=None, source=None, shots=-1, **options):
    """The data, the model and the module."""
    clip = toy_clip()
    sizes = {"batch_size": 4, "eval_batch_size": 4}
    data = GroundingData("boxes", source or Rectangles(), clip.image_spec, shots, seed=1, **sizes, **options)
    model = PromptedCLIP(clip, learner or ByColour())
    model.setup(TrainInfo(data.classnames, len(data.train_items)))
    return data, model, Grounding(model, data, ADAM, 2, 1, [data.evaluation("boxes", "test", "all")], [])
