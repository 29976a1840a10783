"""Logits of the official modules on a CLIP whose every tensor follows from its name (spec H4), to the five digits recorded."""

import zlib

import numpy as np
import pytest
import torch

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.engine.clip import FrozenCLIP, build
from prompts.ivlp import IVLP
from prompts.learner import TrainInfo
from prompts.maple import MaPLe
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot

NAMES = ["cat", "golden_retriever", "sea or lake"]
WORDS = "a photo of a"
VISION = {"layers": 3, "width": 768, "patch_size": 16, "image_size": 32}
CONFIG = {"embed_dim": 512, "vision_cfg": VISION, "text_cfg": {"layers": 3}, "quick_gelu": True}


def wave(name, shape):
    """g in (-1,1), row-major, float64"""
    i = np.arange(1, int(np.prod(shape)) + 1, dtype=np.float64)
    x = np.sin(12.9898 * i + zlib.crc32(name.encode()) % 1000) * 43758.5453
    return torch.from_numpy((2 * (x - np.floor(x)) - 1).reshape(shape))


def fill(name, tensor):
    g = wave(name, tensor.shape)
    is_norm = ".ln_" in f".{name}" and name.endswith("weight")
    tensor.data.copy_((1 + 0.1 * g) if is_norm else 0.04 * g)


@pytest.fixture(scope="module")
def clip():
    model = build(CONFIG)
    for name, tensor in model.state_dict().items():
        fill(name, tensor)
    model.logit_scale.data.fill_(np.log(100))
    return FrozenCLIP(model)


def published_name(name, method):
    """Ours -> the full-model name by which the tensors were filled."""
    kind, _, block = name.partition(".")
    if method is IVLP and kind == "image_ctx":
        return "image_encoder.VPT" if block == "0" else f"image_encoder.transformer.resblocks.{block}.VPT_shallow"
    if method is IVLP and block != "0":
        return f"text_encoder.transformer.resblocks.{block}.VPT_shallow"
    return f"prompt_learner.{name}"


CASES = {
    "zero-shot": (ZeroShot("single"), False, [[1.08931, 0.98758, 2.31720], [-0.15673, 0.63635, 2.12555]]),
    "coop end": (CoOp(4, WORDS), False, [[1.08931, 0.98758, 2.31720], [-0.15673, 0.63635, 2.12555]]),
    "coop middle": (CoOp(4, WORDS, "middle"), False, [[0.83017, 0.41233, 2.55571], [-0.71764, 0.07213, 2.24027]]),
    "coop front": (CoOp(4, WORDS, "front"), False, [[1.22466, 0.89006, 1.85328], [-0.62238, 0.94146, 2.21447]]),
    "coop filled": (CoOp(4), True, [[1.94896, -1.02533, 0.21284], [0.81515, -0.63059, -0.32356]]),
    "cocoop": (CoCoOp(4, WORDS), False, [[-4.07113, -2.68227, -2.26058], [-2.86054, -0.91875, -0.83139]]),
    "maple 1": (MaPLe(2, 1, WORDS), False, [[2.19694, 1.38094, 3.52710], [1.47702, 1.32185, 3.65206]]),
    "maple 3": (MaPLe(2, 3, WORDS), False, [[-2.42669, -2.75836, -0.74629], [-2.18704, -2.10610, 0.38116]]),
    "ivlp 2+2": (IVLP(2, 2, 3, 3, WORDS), False, [[-0.61818, -0.30210, 1.10879], [-0.46816, 0.32370, 2.07367]]),
    "language only": (IVLP(4, 0, 3, 0, WORDS), False, [[0.13338, 0.65207, 1.78355], [0.27962, 1.35095, 2.66827]]),
    "ivlp 4+4": (IVLP(4, 4, 2, 2, WORDS), False, [[2.53074, 3.43211, 4.49608], [1.43700, 2.91279, 4.00633]]),
}


@pytest.mark.parametrize("case", CASES)
def test_case(clip, case):
    learner, fill_context, expected = CASES[case]
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(NAMES, 0))
    for name, tensor in learner.named_parameters():
        context = name in ("ctx", "text_ctx.0")  # stays at the words it starts from, unless the case says otherwise
        if fill_context or not context:
            fill(published_name(name, type(learner)), tensor)
    out = model(2 * wave("image", (2, 3, 32, 32)).float())
    torch.testing.assert_close(out.logits, torch.tensor(expected), rtol=0, atol=1e-4)
    if case == "coop filled":
        torch.nn.functional.cross_entropy(out.logits, torch.tensor([0, 2])).backward()
        gradient, first = learner.ctx.grad, torch.tensor([-0.22537, -0.220296, -0.452224, 0.0753955])
        assert gradient.norm().item() == pytest.approx(11.0424, abs=1e-3)
        torch.testing.assert_close(gradient[0, :4], first, rtol=0, atol=1e-4)
