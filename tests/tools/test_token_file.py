"""A learned context as a file of token embeddings, and what the export command refuses before it loads anything large."""

import json
import re

import pytest
import torch
from safetensors import safe_open
from toys import NAMES, toy_clip

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.ivlp import IVLP
from prompts.kgcoop import KgCoOp
from prompts.learner import TrainInfo
from prompts.pomp import POMP
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot
from runs import launch
from tools import export, graphs
from tools.classifier import Classifier


def classifier(learner):
    torch.manual_seed(0)
    model = PromptedCLIP(toy_clip(), learner)
    model.setup(TrainInfo(NAMES, 10))
    return Classifier(model, "cpu")


@pytest.mark.parametrize(
    "learner", [CoOp(4), CoOp(4, position="middle"), KgCoOp(), POMP(2)], ids=["CoOp", "middle", "KgCoOp", "POMP"]
)
def test_another_text_tower_makes_the_same_features_of_the_file(learner, tmp_path):
    """The words of docs/export.md, done with open_clip's own text transformer."""
    ours = classifier(learner)
    assert export.export(ours, tmp_path / "x.safetensors", {"method": "m"}, ["grey cat"]).endswith("of width 32")
    with safe_open(tmp_path / "x.safetensors", "pt") as file:
        (name,) = file.keys()
        rows, about = file.get_tensor(name), json.loads(file.metadata()["about"])
    assert name == "emb_params"
    assert about["backbone"] == ours.model.clip.identity
    assert about["example"]["classname"] == "grey cat"
    tokens, theirs = about["example"]["tokens"], toy_clip().model
    tokens = torch.tensor([*tokens, *[0] * (77 - len(tokens))])
    x = theirs.token_embedding(tokens.clamp_min(0))
    x[tokens < 0] = rows[-1 - tokens[tokens < 0]]
    x = theirs.transformer((x + theirs.positional_embedding)[None], attn_mask=theirs.attn_mask)
    feature = theirs.ln_final(x)[0, tokens.argmax()] @ theirs.text_projection
    torch.testing.assert_close(feature[None], ours.text_features(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (CoCoOp(), "CoCoOp has learned no context"),
        (ZeroShot("single"), "ZeroShot has learned no context"),
        (CoOp(2, class_context=True), "CoOp has learned no context"),
        (IVLP(2, 2, 2, 2, init=None), "IVLP has learned no context"),
        (IVLP(2, 0, 2, 0, init=None), "IVLP has learned no context"),
    ],
)
def test_other_methods_have_no_such_file(learner, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export.export(classifier(learner), tmp_path / "x.safetensors", {})
    assert not list(tmp_path.iterdir())


def test_nor_has_a_context_beside_a_trained_clip(tmp_path):
    ours = classifier(CoOp(2))
    ours.model.clip.changed = True
    with pytest.raises(ValueError, match="has learned more than this context"):
        export.export(ours, tmp_path / "x.safetensors", {})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--to", "m.tflite"], "ends in .onnx, .pt2, .safetensors"),
        (["--to", "m.onnx", "--opset", "9"], "--opset 9: give a number from 18 to 23"),
        (["--to", "m.pt2"], "there are no prompts at nowhere"),
    ],
)
def test_mistakes_are_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["export", "nowhere", *arguments])
    assert launch.exit_status_of(export.main) == 1
    errors = capsys.readouterr().err
    assert re.fullmatch(r"error: .*\n", errors)
    assert said in errors


def test_a_missing_package_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(graphs, "PACKAGES", ("torch", "onnx_of_tomorrow"))
    monkeypatch.setattr("sys.argv", ["export", "nowhere", "--to", str(tmp_path / "m.onnx")])
    assert launch.exit_status_of(export.main) == 1
    said = capsys.readouterr().err
    assert "onnx_of_tomorrow cannot be imported: pip install '.[export]' in a clone" in said
