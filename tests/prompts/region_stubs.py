"""Stand-ins for a CLIP whose answers are known: a tokenizer of whole words, and features that tests write down."""

import math

import torch


class Words:
    """Each word is a token; the vocabulary grows as words come."""

    start, end = [0], [1]

    def __init__(self, context_length=77):
        self.context_length, self.vocabulary = context_length, ["<start>", "<end>", "<pad>"]

    def encode(self, text):
        self.vocabulary += [word for word in dict.fromkeys(text.split()) if word not in self.vocabulary]
        return [self.vocabulary.index(word) for word in text.split()]

    def text(self, ids):
        return " ".join(self.vocabulary[i] for i in ids if i > 2)


class StubCLIP:
    """`of_image` gives the first numbers of the feature of pixels (3,S,S) from 0 to 1, `of_text` those of a text. Numbers are
    added behind, other ones for images and for texts, that make every feature one of length 1: a score is the product of the
    first numbers, exactly."""

    device, logit_scale = torch.device("cpu"), torch.tensor(1.0)

    def __init__(self, of_image, of_text, size=32, logit_scale=1.0):
        self.of_image, self.of_text, self.tokenizer = of_image, of_text, Words()
        self.logit_scale = torch.tensor(logit_scale)
        self.image_spec = {"size": size, "mean": (0.0,) * 3, "std": (1.0,) * 3, "interpolation": "bicubic"}
        self.encoded = []  # how many images each call had

    def encode_image(self, pixels):
        self.encoded.append(len(pixels))
        return torch.stack([unit(self.of_image(image), (1, 0)) for image in pixels])

    def encode_text(self, plan):
        texts = [self.tokenizer.text(row) for row in plan.padded(self.tokenizer.context_length, 2).tolist()]
        return torch.stack([unit(self.of_text(text), (0, 1)) for text in texts])


def unit(numbers, place):
    numbers = torch.as_tensor(numbers, dtype=torch.float32)
    rest = math.sqrt(1 - float(numbers.square().sum()))
    return torch.cat([numbers, rest * torch.tensor(place)])


def noise(height=32, width=32, seed=0):
    """An image (3,H,W) uint8."""
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))
