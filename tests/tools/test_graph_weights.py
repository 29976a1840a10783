"""A graph holds the tensors that it computes with, and no others; needs none of the packages of ONNX."""

import io

import torch
from toys import NAMES, toy_clip

from prompts.coop import CoOp
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from tools import graphs
from tools.classifier import Classifier


def traced(learner):
    torch.manual_seed(0)
    model = PromptedCLIP(toy_clip(), learner)
    model.setup(TrainInfo(NAMES, 10))
    ours = Classifier(model, "cpu")
    return ours, graphs.traced(ours)


def test_a_graph_of_constant_texts_has_no_text_tower():
    ours, program = traced(CoOp())
    content = graphs.pt2_file(program, {})
    loaded = torch.export.load(io.BytesIO(content))
    held = {*loaded.state_dict, *loaded.constants}
    assert "text" in held
    assert any(".visual." in name for name in held)
    assert not [name for name in held if "token_embedding" in name or "clip.model.transformer" in name]
    assert len(content) < 500_000  # of which the image tower has 140,000; the token embeddings alone have 6,300,000
    assert graphs.check(graphs.pt2_run(content), ours, "the graph") < graphs.TOLERANCE
