"""Reads golden cases: inputs and outputs of the published implementations, and the method and tensors that each needs.

`NAME.json` lists the inputs (sizes, class names, labels, tensors), `NAME.safetensors` the outputs as `case|logits`,
`case|loss`, `case|param|TENSOR`, ... Depths and lengths of prompts are those of the files; a prompt tensor of length 0 is a
block without prompts, which has no tensor in our learners.
"""

import functools
import importlib.util
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from safetensors.torch import load_file

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.engine.clip import FrozenCLIP, build
from prompts.ivlp import IVLP
from prompts.kgcoop import KgCoOp
from prompts.maple import MaPLe
from prompts.pomp import POMP
from prompts.promptsrc import PromptSRC
from prompts.vpt import VPT
from prompts.zeroshot import ZeroShot

FOLDER = Path(os.environ.get("GOLDEN_DIR", Path(__file__).parent / "golden"))


@dataclass
class Case:
    """One published run: `inputs` as its json says, `golden` its outputs by name, `params` its learnable tensors that have
    rows, `empty` the names of those that have none."""

    name: str
    inputs: dict
    golden: dict
    params: dict = field(default_factory=dict)
    empty: list = field(default_factory=list)

    @property
    def clip(self):
        return toy_clip(self.inputs["seed"], self.inputs["vision_layers"], self.inputs["text_layers"])

    @property
    def images(self):
        return self.tensor("image")

    def tensor(self, name):
        """A tensor that the json describes."""
        spec = self.inputs["tensors"][name]
        return toy().make_tensor(name, tuple(spec["shape"]), spec["std"], self.inputs["seed"])


def case_names(folder=FOLDER):
    """(file, case) of every case in the folder, in order."""
    files = {outputs.stem: load_file(outputs) for outputs in sorted(folder.glob("*.safetensors"))}
    return [(file, case) for file, tensors in files.items() for case in sorted({key.split("|")[0] for key in tensors})]


def read_case(folder, file, name):
    """One case of a file."""
    inputs, tensors = json.loads((folder / f"{file}.json").read_text()), load_file(folder / f"{file}.safetensors")
    case = Case(name, inputs, {k.removeprefix(f"{name}|"): v for k, v in tensors.items() if k.startswith(f"{name}|")})
    for key in [key for key in case.golden if key.startswith("param|")]:
        tensor = key.removeprefix("param|")
        is_described = f"{name}/{tensor}" in inputs["tensors"]
        value = case.tensor(f"{name}/{tensor}") if is_described else case.golden[key]
        if value.numel():
            case.params[tensor] = value
        else:
            case.empty.append(tensor)
    return case


@functools.cache
def toy():
    """`toy_clip.py`, by which the published code's inputs were made."""
    spec = importlib.util.spec_from_file_location("toy_clip", FOLDER / "toy_clip.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.lru_cache(maxsize=1)
def toy_clip(seed, vision_layers, text_layers):
    """The CLIP of a case, with as many blocks as its file says."""
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


def learner_of(case):
    """The method that a case names, in the sizes of its tensors, and the published names of tensors that differ from ours."""
    method, params = re.match("[a-z]+", case.name)[0], case.params
    ctx = params.get("ctx", params.get("prompt_learner.ctx"))
    if case.name.startswith("coop_"):
        return coop(case.name, ctx), {}
    if method == "dpl":
        return dpl(case)
    if method == "kgcoop":
        return KgCoOp(len(ctx), weight=case.inputs["weight"], templates=[case.inputs["anchor_template"]]), {}
    if method == "maple":
        return MaPLe(len(ctx), depth=1 + sum(k.startswith("compound_prompts_text") for k in params)), {}
    if method in ("vpt", "ivlp", "promptsrc"):
        return deep_prompts(method, params)
    plain = {"zeroshot": lambda: ZeroShot("single"), "pomp": lambda: POMP(len(ctx)), "cocoop": lambda: CoCoOp(len(ctx))}
    if method in plain:
        return plain[method](), {}
    return pytest.fail(f"the golden case {case.name!r} is unknown: teach these tests which method it is")


def coop(name, ctx):
    """CoOp in the variant that the case's name says."""
    if name == "coop_init":
        return CoOp(len(ctx), init="a photo of a")
    if name.startswith("coop_csc"):
        return CoOp(ctx.shape[1], class_context=True)
    return CoOp(len(ctx), position=re.fullmatch(r"coop_(end|middle|front)\d+", name)[1])


def deep_prompts(method, params):
    """VPT, IVLP or PromptSRC with the lengths and depths of the tensors."""

    def block(name):
        return int(number[1]) if (number := re.search(r"resblocks\.(\d+)", name)) else 0

    towers = {
        "image": [k for k in params if k.startswith("image_encoder")],
        "text": [k for k in params if k == "prompt_learner.ctx" or k.startswith("text_encoder")],
    }
    names = {name: f"{tower}_ctx.{block(name)}" for tower, tensor_names in towers.items() for name in tensor_names}
    lengths = {tower: len(params[tensor_names[0]]) if tensor_names else 0 for tower, tensor_names in towers.items()}
    depths = {tower: len(tensor_names) for tower, tensor_names in towers.items()}
    if method == "vpt":
        return VPT(lengths["image"], depth=depths["image"]), names
    both = {"ivlp": IVLP, "promptsrc": PromptSRC}[method]
    return both(lengths["text"], lengths["image"], depths["text"], depths["image"]), names


def dpl(case):
    """DPL in the search, which has alphas, or with the lengths of the case's tensors: 0 in a block that has none."""
    towers, ours = {"img": "image", "txt": "text"}, {}
    lengths = {"text": [0] * case.inputs["text_layers"], "image": [0] * case.inputs["vision_layers"]}
    for name, tensor in case.params.items():
        kind, *place = name.split(".")
        tower = towers[re.search("img|txt", kind)[0]]
        if len(place) == 1:
            lengths[tower][int(place[0])] = len(tensor)
            ours[name] = f"{tower}_ctx.{place[0]}"
        else:
            ours[name] = f"{tower}_options.{place[0]}.{len(tensor)}" if place else f"{tower}_alphas"
    if "alphas_img" not in case.params:
        return DPL(lengths), ours
    options = {int(name.rpartition(".")[2]) for name in ours.values() if "_options." in name}
    options |= {0} if len(options) < case.params["alphas_img"].shape[1] else set()
    return DPLSearch(sorted(options)), ours
