"""Captioned toys, questions about them, and a language model of a few lines: what the language tasks need of their parts."""

from functools import partial

import numpy as np
import PIL.Image
import torch
from torch import nn
from toys import toy_clip

from datamodules.captioned import CaptionedData, CaptionedImage, CaptionSplits
from datamodules.questions import Question, QuestionData, QuestionSplits
from prompts.engine.language_model import Generation
from prompts.learner import TrainInfo
from prompts.limber import LiMBeR
from prompts.prompted_clip import PromptedCLIP

COLOURS = ("red", "blue", "green")
ADAM = partial(torch.optim.AdamW, lr=0.01)


class FakeLM(nn.Module):
    """`FrozenLM`'s interface: a row for each word, a loss that reads the rows, and what `say` (context, key) answers."""

    width, positions = 8, 400

    def __init__(self, say=lambda context, key: "a red dog"):
        super().__init__()
        self.say, self.asked, self.learned = say, [], []

    def rows(self, context):
        return torch.cat([torch.zeros(len(piece.split()), 8) if isinstance(piece, str) else piece for piece in context])

    def losses(self, contexts, texts):
        self.learned += [(context[-1], text) for context, text in zip(contexts, texts, strict=True)]
        lengths = torch.tensor([float(len(text)) for text in texts])
        return torch.stack([(self.rows(context) - 1).square().mean() for context in contexts]) * lengths

    def generate(self, contexts, generation, keys=None):
        self.asked += contexts
        return [self.say(context, key) for context, key in zip(contexts, keys, strict=True)]


class ToyPictures:
    """Nine training, three validation and seven test images of a colour, in two domains."""

    in_memory = True

    def items(self, split, count):
        for number in range(count):
            colour = COLOURS[number % 3]
            captions = (f"a {colour} dog", f"A {colour} dog sits on picture {number}.")
            yield CaptionedImage(f"{split}/{number}", 100 + number, captions, ("near", "far")[number % 2])

    def splits(self, seed):
        return CaptionSplits(*(list(self.items(split, count)) for split, count in (("train", 9), ("val", 3), ("test", 7))))

    def open(self, item):
        number = int(item.path.split("/")[1])
        noise = np.random.default_rng(number).integers(-50, 50, (32, 32, 3))
        return PIL.Image.fromarray((np.array([120, 100, 60])[np.arange(3) - number % 3] + noise).astype(np.uint8))


class ToyQuestions(ToyPictures):
    """A question about the colour of each image, and another one about every second."""

    def splits(self, seed):
        return QuestionSplits(*(list(self.asked(split, count)) for split, count in (("train", 9), ("val", 3), ("test", 7))))

    def asked(self, split, count):
        for item in self.items(split, count):
            number = item.image_id - 100
            colour = COLOURS[number % 3]
            answers = (colour,) * 8 + (f"dark {colour}", "none")
            yield Question(item.path, item.image_id, 10 * number, "What colour is it?", answers, item.captions, "other")
            if number % 2:
                yield Question(
                    item.path, item.image_id, 10 * number + 1, "Is it a dog?", ("yes",) * 10, item.captions, "yes/no"
                )


def parts(task, source, language_model, learner=None, data=None, tests=None, generation=None, **options):
    """The data, the model and the module of a task."""
    clip = toy_clip()
    kind = QuestionData if isinstance(source, ToyQuestions) else CaptionedData
    data = data or kind("toys", source, clip.image_spec, shots=-1, seed=1, batch_size=4, eval_batch_size=3)
    torch.manual_seed(0)
    model = PromptedCLIP(clip, learner or LiMBeR(), language_model=language_model)
    width = None if language_model is None else language_model.width
    model.setup(TrainInfo(data.classnames, len(data.train_items), prefix_width=width or 8))
    tests = [data.evaluation("toys", "test", "all")] if tests is None else tests
    generation = generation or Generation(max_tokens=5)
    return data, model, task(model, data, ADAM, 2, 1, tests, [], generation=generation, **options)
