"""The published implementations' numbers: logits, loss and gradients of every case in the folder GOLDEN_DIR (default: beside
this file), whose files say everything: sizes, class names,
labels, tensors.

`NAME.json` lists the inputs, `NAME.safetensors` the outputs as `case|logits`, `case|loss`, `case|param|TENSOR`, ...
"""

import functools
import importlib.util
import json
import os
import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.engine.clip import FrozenCLIP, build
from prompts.ivlp import IVLP
from prompts.learner import TrainInfo
from prompts.maple import MaPLe
from prompts.parts.context import fixed_plan
from prompts.parts.local_contrast import class_sample
from prompts.pomp import POMP
from prompts.prompted_clip import PromptedCLIP
from prompts.promptsrc import PromptSRC
from prompts.vpt import VPT
from prompts.zeroshot import ZeroShot

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden"))
TOLERANCE = 1e-4  # max|a-b| / max|b|, float32 on a CPU


def cases():
    files = {outputs.stem: load_file(outputs) for outputs in sorted(FOLDER.glob("*.safetensors"))}
    found = [(file, case) for file, tensors in files.items() for case in sorted({key.split("|")[0] for key in tensors})]
    return [pytest.param(file, case, id=f"{file}-{case}") for file, case in found]


@functools.cache
def toy():
    spec = importlib.util.spec_from_file_location("toy_clip", FOLDER / "toy_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=1)
def toy_clip(seed, vision_layers, text_layers):
    layers = {"vision_layers": vision_layers, "text_layers": text_layers}
    state = toy().make_state_dict(seed, **layers)
    patch, width = state["visual.conv1.weight"].shape[-1], state["visual.conv1.weight"].shape[0]
    patches, text_width = len(state["visual.positional_embedding"]) - 1, state["ln_final.weight"].shape[0]
    size = int(patches**0.5) * patch
    config = {
        "embed_dim": state["text_projection"].shape[1],
        "vision_cfg": {"layers": layers["vision_layers"], "width": width, "patch_size": patch, "image_size": size},
        "text_cfg": {
            "layers": layers["text_layers"],
            "width": text_width,
            "heads": text_width // 64,
            "context_length": len(state["positional_embedding"]),
            "vocab_size": len(state["token_embedding.weight"]),
        },
        "quick_gelu": True,
    }
    model = build(config, empty=True)
    model.load_state_dict(state, assign=True)
    return FrozenCLIP(model)


def learner_of(case, params):
    """The method a case names, in the sizes of its tensors, and the published tensor names that differ from ours."""
    ctx = params.get("ctx", params.get("prompt_learner.ctx"))
    image = [k for k in params if k.startswith("image_encoder")]
    text = [k for k in params if k == "prompt_learner.ctx" or k.startswith("text_encoder")]

    def block(name):
        return int(found[1]) if (found := re.search(r"resblocks\.(\d+)", name)) else 0

    if case == "zeroshot":
        return ZeroShot("single"), {}
    if found := re.fullmatch(r"coop_(end|middle|front)\d+", case):
        return CoOp(len(ctx), position=found[1]), {}
    if re.fullmatch(r"coop_csc\d+", case):
        return CoOp(ctx.shape[1], class_context=True), {}
    if case == "coop_init":
        return CoOp(len(ctx), init="a photo of a"), {}
    if case == "pomp":
        return POMP(len(ctx)), {}
    if case == "cocoop":
        return CoCoOp(len(ctx)), {}
    if re.fullmatch(r"maple_d\d+", case):
        return MaPLe(len(ctx), depth=1 + sum(k.startswith("compound_prompts_text") for k in params)), {}
    if case.startswith("dpl_"):
        return dpl(params)
    names = {k: f"image_ctx.{block(k)}" for k in image} | {k: f"text_ctx.{block(k)}" for k in text}
    if case in ("vpt_shallow", "vpt_deep"):
        return VPT(len(params[image[0]]), depth=len(image)), names
    if case in ("ivlp", "promptsrc"):
        return {"ivlp": IVLP, "promptsrc": PromptSRC}[case](len(ctx), len(params[image[0]]), len(text), len(image)), names
    return pytest.fail(f"the golden case {case!r} is unknown: teach this test which method it is")


def released_layout(learner, out, labels, sampled):
    """POMP's logits as its code lays them out: the own class, then the sampled ones, and where these are the own class."""
    logits = learner.local_contrast.corrected(out.logits, out.sample, len(learner.plan))
    columns = [out.sample.targets[:, None], torch.searchsorted(out.sample.ids, sampled).expand(len(labels), -1)]
    own = torch.zeros(len(labels), 1, dtype=torch.bool)
    return logits.gather(1, torch.cat(columns, 1)), torch.cat([own, sampled == labels[:, None]], 1)


def dpl(params):
    """DPL in the search, or with the lengths of the case's tensors."""
    towers, ours, lengths = {"img": "image", "txt": "text"}, {}, {"text": [0, 0, 0], "image": [0, 0, 0]}
    for name, tensor in params.items():
        kind, *place = name.split(".")
        tower = towers[re.search("img|txt", kind)[0]]
        if len(place) == 1:
            lengths[tower][int(place[0])] = len(tensor)
            ours[name] = f"{tower}_ctx.{place[0]}"
        else:
            ours[name] = f"{tower}_options.{place[0]}.{len(tensor)}" if place else f"{tower}_alphas"
    if any(map(any, lengths.values())):
        return DPL(lengths), ours
    return DPLSearch(range(params["alphas_img"].shape[1])), ours


def agrees(name, ours, golden):
    ours, golden = ours.detach().flatten().float(), golden.flatten().float()
    error = (ours[: len(golden)] - golden).abs().max() / golden.abs().max()
    assert error < TOLERANCE, f"{name}: off by {error:.1e} of its largest entry"


@pytest.mark.parametrize(("file", "case"), cases())
def test_case(file, case):
    inputs, tools = json.loads((FOLDER / f"{file}.json").read_text()), toy()
    golden = {
        k.removeprefix(f"{case}|"): v for k, v in load_file(FOLDER / f"{file}.safetensors").items() if k.startswith(f"{case}|")
    }
    params = {k.removeprefix("param|"): v for k, v in golden.items() if k.startswith("param|")}
    for name in params:
        if spec := inputs["tensors"].get(f"{case}/{name}"):
            params[name] = tools.make_tensor(f"{case}/{name}", tuple(spec["shape"]), spec["std"], inputs["seed"])
    clip = toy_clip(inputs["seed"], inputs["vision_layers"], inputs["text_layers"])
    learner, ours = learner_of(case, params)
    model = PromptedCLIP(clip, learner)
    model.setup(TrainInfo(inputs["classnames"], num_images=0, alternating=True))
    if case != "coop_init":  # which must start where the published code starts
        model.load_prompt_state({ours.get(k, k): v for k, v in params.items()}, inputs["classnames"])
    spec, labels = inputs["tensors"]["image"], torch.tensor(inputs["labels"])
    sampled = golden["sampled"].long() if case == "pomp" else None
    sample = None if sampled is None else class_sample(labels, sampled[None], torch.zeros_like(labels))
    out = model(tools.make_tensor("image", tuple(spec["shape"]), spec["std"], inputs["seed"]), sample)

    seen = {"logits"} | {k for k in golden if k.startswith("param|")}
    if sampled is None:
        agrees("logits", out.logits, golden["logits"])
    else:
        logits, masked = released_layout(learner, out, labels, sampled)
        assert ((golden["logits"] < -1e5) == masked).all()
        agrees("logits", logits[~masked], golden["logits"][~masked])
        seen |= {"sampled"}
    if case == "zeroshot":
        agrees("image_features", F.normalize(out.image_features, dim=-1), golden["image_features"])
        agrees("text_features", F.normalize(out.text_features, dim=-1), golden["text_features"])
        (plan,) = [fixed_plan(clip, inputs["classnames"], t) for t in learner.templates]
        for row, tokens in enumerate(golden["tokens"]):
            n = len(plan.prefix) + int(plan.lengths[row])
            assert [*plan.prefix.tolist(), *plan.rows[row].tolist()][:n] == tokens[:n].tolist()
            assert not tokens[n:].any()
        seen |= {"image_features", "text_features", "tokens"}
    else:
        terms = {name: t.mean() for name, t in model.losses(out, labels, torch.arange(len(labels))).items()}
        loss = sum(terms.values())
        loss.backward()
        agrees("loss", loss, golden["loss"])
        tensors = dict(learner.named_parameters())
        for name in params:
            gradient = tensors[ours.get(name, name)].grad
            agrees(f"gradient of {name}", gradient, golden[f"grad|{name}"])
            agrees(f"gradient norm of {name}", gradient.norm(), golden[f"grad_norm|{name}"])
        if case == "promptsrc":
            for name, term in terms.items():
                agrees(f"loss part {name}", term, golden[f"part|{name}"])
            agrees("teacher_text_features", learner.teacher.text(), golden["teacher_text_features"])
            agrees("teacher_logits", learner.teacher.logits(learner.teacher.image(out.pixels)), golden["teacher_logits"])
            seen |= {f"part|{name}" for name in terms} | {"teacher_text_features", "teacher_logits"}
        seen |= {"loss"} | {f"{kind}|{name}" for kind in ("grad", "grad_norm") for name in params}
        assert {n for n, p in tensors.items() if p.grad is not None} == {ours.get(n, n) for n in params}
    assert golden.keys() == seen, f"{case} holds tensors that no check read: {golden.keys() - seen}"
