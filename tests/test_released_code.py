"""The adapters that put our weights into released code, on a stand-in of its layout."""

import sys

import pytest
import torch

from benchmarks import released
from benchmarks.plain import clip_of
from benchmarks.released_code import released_model
from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP

MODEL_PY = """
import torch
from torch import nn
from clip.simple_tokenizer import pieces

class Towers(nn.Module):
    def __init__(self, state):
        super().__init__()
        self.names = {name: name.replace(".", "/") for name in state}
        for name, tensor in state.items():
            self.register_buffer(self.names[name], tensor.half().clone())
    def load_state_dict(self, state, strict=True):
        for name, tensor in state.items():
            setattr(self, self.names[name], tensor.clone())

def build_model(state):
    return Towers(state)
"""
COOP_PY = """
import torch
from torch import nn
from dassl.engine import TRAINER_REGISTRY, TrainerX
from dassl.optim import build_optimizer
from clip import clip

class Prompts(nn.Module):
    def __init__(self, shape):
        super().__init__()
        self.EXTRActx = nn.Parameter(torch.zeros(shape))
        self.register_buffer("token_prefix", torch.zeros(1))

class CustomCLIP(nn.Module):
    def __init__(self, cfg, names, towers):
        super().__init__()
        width = getattr(towers, "ln_final/weight").shape[0]
        self.prompt_learner = Prompts((cfg.TRAINER.COOP.N_CTX, width))
        self.towers, self.size = towers, cfg.INPUT.SIZE[0]
        assert cfg.TRAINER.COOP.CTX_INIT == ""
    def forward(self, pixels):
        return getattr(self.towers, "logit_scale") + self.prompt_learner.EXTRActx.sum() * pixels.sum()

@TRAINER_REGISTRY.register()
class CoOp(TrainerX):
    pass
"""


@pytest.fixture
def repository(tmp_path):
    """A folder laid out like the released repository; of its model only the shape is real."""

    def write(extra=""):
        files = {
            "clip/__init__.py": "",
            "clip/clip.py": MODEL_PY,
            "clip/simple_tokenizer.py": "pieces = 1",
            "trainers/__init__.py": "",
        }
        for name, text in (files | {"trainers/coop.py": COOP_PY.replace("EXTRA", extra)}).items():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    return write


@pytest.fixture(scope="module")
def tiny():
    return clip_of("tiny")


def test_released_code_is_imported_with_our_weights_and_forgotten(repository):
    clip, learner = clip_of("small"), CoOp(4)  # the tiny CLIP's weights are numbers of half precision
    PromptedCLIP(clip, learner).setup(TrainInfo(["a", "b"], 1))
    before = set(sys.modules)
    model = released_model(repository(), clip, learner, ["a", "b"])
    assert set(sys.modules) == before
    assert torch.equal(model.prompt_learner.ctx, learner.ctx)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == ["prompt_learner.ctx"]
    scaled = model(torch.zeros(1))
    assert torch.equal(scaled, clip.state_dict()["model.logit_scale"])  # float32 again, after the builder's half precision


def test_released_code_with_other_tensors_is_refused(tiny, repository):
    learner = CoOp(4)
    PromptedCLIP(tiny, learner).setup(TrainInfo(["a", "b"], 1))
    with pytest.raises(ValueError, match="other tensors than ours: other_ctx"):
        released_model(repository("other_"), tiny, learner, ["a", "b"])
    with pytest.raises(ValueError, match="has no trainers/coop.py"):
        released_model(repository() / "elsewhere", tiny, learner, ["a", "b"])


def test_sides_whose_logits_differ_are_not_timed(repository):
    with pytest.raises(ValueError, match="apart, so nothing is compared"):
        released.main(
            ["--coop", str(repository()), "--model", "tiny", "--classes", "5", "--images", "2", "--cases", "coop, 100"]
        )
