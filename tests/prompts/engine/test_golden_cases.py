"""Golden cases are read as they are: their depths, their lengths of prompts, and blocks without prompts."""

import json

import plain
import pytest
import torch
import torch.nn.functional as F
from golden_cases import case_names, learner_of, read_case, toy, toy_clip
from safetensors.torch import save_file
from test_golden import check_case

from prompts.engine.rows import ExtraKV, TowerPrompts
from prompts.engine.text_plan import token_lists

LENGTHS = {"txt": [2, 0, 1, 0], "img": [0, 3]}  # rows by block: other depths than the published cases have, and blocks without


@pytest.fixture
def other_depths(tmp_path):
    """A case of DPL as a published run may write it, its numbers by the plain computation; -> its folder."""
    inputs = {"seed": 1, "vision_layers": 2, "text_layers": 4, "classnames": ["rose", "annual crop land"], "labels": [1, 0, 1]}
    params = {f"ctx_{tower}.{i}": torch.randn(n, {"txt": 512, "img": 768}[tower]) / 10 for tower in LENGTHS
              for i, n in enumerate(LENGTHS[tower])}  # fmt: skip
    params = {name: tensor.requires_grad_() for name, tensor in params.items()}
    clip = toy_clip(1, 2, 4)
    text, image = (
        TowerPrompts(extra={i: ExtraKV([params[f"ctx_{tower}.{i}"]]) for i in range(len(LENGTHS[tower]))}) for tower in LENGTHS
    )
    lists = token_lists(clip.tokenizer, inputs["classnames"], "a photo of a {}.", 0, "end")
    images = toy().make_tensor("image", (3, 3, 32, 32), 1.0, 1)
    logits = clip.logits(plain.encode_image(clip, images, image), plain.encode_text(clip, lists, text)[0])
    loss = F.cross_entropy(logits, torch.tensor(inputs["labels"]))
    gradients = torch.autograd.grad(loss, list(params.values()), allow_unused=True, materialize_grads=True)
    golden = {"logits": logits.detach(), "loss": loss.detach()}
    for (name, tensor), gradient in zip(params.items(), gradients, strict=True):
        golden |= {f"param|{name}": tensor.detach(), f"grad|{name}": gradient, f"grad_norm|{name}": gradient.norm()}
    save_file({f"dpl_train|{name}": tensor for name, tensor in golden.items()}, tmp_path / "deep.safetensors")
    inputs["tensors"] = {"image": {"shape": [3, 3, 32, 32], "std": 1.0}}
    (tmp_path / "deep.json").write_text(json.dumps(inputs))
    return tmp_path


def test_depths_and_empty_prompts_are_those_of_the_case(other_depths):
    assert case_names(other_depths) == [("deep", "dpl_train")]
    case = read_case(other_depths, "deep", "dpl_train")
    assert sorted(case.params) == ["ctx_img.1", "ctx_txt.0", "ctx_txt.2"]
    assert sorted(case.empty) == ["ctx_img.0", "ctx_txt.1", "ctx_txt.3"]
    check_case(case)
    case.golden["grad|ctx_txt.2"] *= 1.01
    with pytest.raises(AssertionError, match="gradient of ctx_txt.2: off by"):
        check_case(case)


def test_an_unknown_case_is_named(other_depths):
    case = read_case(other_depths, "deep", "dpl_train")
    case.name = "mystery_d3"
    with pytest.raises(pytest.fail.Exception, match="'mystery_d3' is unknown"):
        learner_of(case)
