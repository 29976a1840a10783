"""Exported graphs beside the classifiers that they came from. Slow, and needs the extra `export`: `make test_installed`."""

import json
import re
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import torch
from kinds_of_options import gives_class_logits
from toys import NAMES, ROOT, toy_clip

from datamodules.transforms import eval_transform
from prompts import (
    aape,
    aape_captions,
    cocoop,
    coop,
    cupl,
    dpl,
    dpl_search,
    ivlp,
    kgcoop,
    limber,
    linear_probe,
    maple,
    pomp,
    promptsrc,
    rpp,
    vpt,
)
from prompts.engine.clip import FrozenCLIP, build
from prompts.learner import TrainInfo
from prompts.prompted_clip import PromptedCLIP
from prompts.zeroshot import ZeroShot
from tools import export, graphs
from tools.classifier import Classifier

onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra `export`: make test_installed")

SENTENCES = {name: [f"a {name}.", f"a photo of a {name}."] for name in NAMES}
DEEP = {"depth_text": 2, "depth_image": 2}
METHODS = {
    "aape": lambda: aape.AAPE(distill_weight=0),
    "aape_captions": lambda: aape_captions.AAPECaptions(distill_weight=0),
    "aape_linear": lambda: aape.AAPE(distill_weight=0, head="linear_relu", residual=True),
    "cocoop": cocoop.CoCoOp,
    "coop": coop.CoOp,
    "coop_by_class": lambda: coop.CoOp(2, class_context=True),
    "cupl": lambda: cupl.CuPL(SENTENCES),
    "dpl": lambda: dpl.DPL({"text": [2, 0], "image": [1, 2]}),
    "dpl_search": lambda: dpl_search.DPLSearch((0, 2)),
    "ivlp": lambda: ivlp.IVLP(**DEEP),
    "kgcoop": kgcoop.KgCoOp,
    "linear_probe": linear_probe.LinearProbe,
    "maple": lambda: maple.MaPLe(depth=2),
    "pomp": pomp.POMP,
    "promptsrc": lambda: promptsrc.PromptSRC(**DEEP),
    "rpp": lambda: rpp.RPP(**DEEP, distillation={"weight": 0.0}),
    "rpp_carry": lambda: rpp.RPP(**DEEP, prompt_update="carry", residual_source="mean", first_layer_entry="raw"),
    "vpt": lambda: vpt.VPT(2, 2),
    "zeroshot": lambda: ZeroShot("single"),
}


def classifier(method, clip=None):
    """One whose learned tensors are far from where they start, so that no graph is right without them."""
    torch.manual_seed(0)
    model = PromptedCLIP(clip or toy_clip(), METHODS[method]())
    model.setup(TrainInfo(NAMES, 10, alternating=True))
    with torch.no_grad():
        for parameter in model.learner.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return Classifier(model, "cpu")


def images(count, size=32):
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8)


def agrees(given, ours, pixels):
    with torch.no_grad():
        out = ours.model(pixels)
    for name, theirs, wanted in zip(
        graphs.OUTPUTS, given, (out.logits, out.logits.softmax(-1), out.image_features), strict=True
    ):
        np.testing.assert_allclose(np.asarray(theirs), wanted.numpy(), rtol=0, atol=1e-4, err_msg=name)


def test_no_method_is_left_out():
    methods = {path.stem for path in (ROOT / "conf" / "method").glob("*.yaml")}
    assert {method for method in methods if gives_class_logits(method)} - {"aape_residual"} <= set(METHODS)


def test_a_prefix_for_a_language_model_is_no_classifier():
    with pytest.raises(ValueError, match="LiMBeR gives no class logits"):
        Classifier(PromptedCLIP(toy_clip(), limber.LiMBeR()), "cpu")


@pytest.mark.parametrize("method", METHODS)
def test_every_method_runs_in_onnxruntime(method, tmp_path):
    ours = classifier(method)
    said = export.export(ours, tmp_path / "m.onnx", {"method": method, "clip": "toy"})
    assert said.startswith(f"{tmp_path / 'm.onnx'}: 5 classes")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert [(i.name, i.type, i.shape) for i in session.get_inputs()] == [("images", "tensor(uint8)", ["batch", 3, 32, 32])]
    assert [i.shape for i in session.get_outputs()] == [["batch", 5], ["batch", 5], ["batch", 32]]
    for count in (1, 4, 7):
        pixels = images(count)
        agrees(session.run(None, {"images": pixels.numpy()}), ours, pixels)
    about = {key: json.loads(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    assert about["classnames"] == NAMES
    assert (about["method"], about["clip"], about["backbone"]) == (method, "toy", ours.model.clip.identity)
    assert str(ROOT).encode() not in (tmp_path / "m.onnx").read_bytes()


@pytest.mark.parametrize("method", ["coop", "cocoop", "maple", "dpl"])
def test_torch_loads_its_own_form(method, tmp_path):
    ours = classifier(method)
    export.export(ours, tmp_path / "m.pt2", {"method": method}, ["cat", "dog", "a red car"] if method == "maple" else None)
    extra = {"about.json": ""}
    graph = torch.export.load(tmp_path / "m.pt2", extra_files=extra).module()
    for count in (1, 4):
        pixels = images(count)
        agrees(graph(pixels), ours, pixels)
    about = json.loads(extra["about.json"])
    assert about["classnames"] == ours.classnames
    assert len(about["classnames"]) == (3 if method == "maple" else 5)
    assert str(ROOT).encode() not in (tmp_path / "m.pt2").read_bytes()


def small(vision=(), text=()):
    """A CLIP with these keys of its config."""
    vision = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 8, "layers": 2} | dict(vision)
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2} | dict(text)
    return FrozenCLIP(build({"embed_dim": 32, "vision_cfg": vision, "text_cfg": text}))


@pytest.mark.parametrize(
    ("method", "clip"),
    [
        ("coop", {"vision": {"patch_size": None, "layers": [1, 1, 1, 1], "width": 8}}),
        ("vpt", {"vision": {"timm_model_name": "vit_tiny_patch16_224", "timm_proj": "linear", "image_size": 224}}),
        ("maple", {"vision": {"pool_type": "avg"}, "text": {"no_causal_mask": True}}),
    ],
    ids=["convolutions", "timm", "padded text"],
)
def test_other_towers(method, clip, tmp_path):
    ours = classifier(method, small(**clip))
    pixels = images(4, ours.model.clip.image_spec["size"])
    export.export(ours, tmp_path / "m.onnx", {}, opset=20)
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    agrees(session.run(None, {"images": pixels.numpy()}), ours, pixels)


def test_a_text_tower_that_sees_padding_is_no_graph_of_images(tmp_path):
    with pytest.raises(ValueError, match="CoCoOp with this CLIP cannot be written as a graph"):
        export.export(classifier("cocoop", small(text={"no_causal_mask": True})), tmp_path / "m.onnx", {})
    assert not list(tmp_path.iterdir())


def test_text_features_are_folded_and_the_text_tower_is_left_out(tmp_path):
    export.export(classifier("coop"), tmp_path / "m.onnx", {})
    clip = toy_clip()
    in_images = sum(t.numel() for t in clip.state_dict().values()) - sum(t.numel() for t in clip.text_weights().values())
    assert (tmp_path / "m.onnx").stat().st_size < 1.5 * 4 * in_images + 100_000


@pytest.mark.parametrize("name", ["m.onnx", "m.pt2"])
@pytest.mark.parametrize("output", graphs.OUTPUTS)
def test_nothing_is_written_that_differs(name, output, tmp_path, monkeypatch):
    forward, at = graphs.Graph.forward, graphs.OUTPUTS.index(output)

    def wrong(self, images):
        return tuple(out + 2e-3 * (i == at) for i, out in enumerate(forward(self, images)))

    monkeypatch.setattr(graphs.Graph, "forward", wrong)
    with pytest.raises(ValueError, match=f"{name} is not written: for 1 images its {output} differ from the run's by"):
        export.export(classifier("coop"), tmp_path / name, {})
    assert not list(tmp_path.iterdir())


def test_a_method_that_is_no_graph_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(coop.CoOp, "logits", lambda self, clip, x, w: clip.logits(x, w) if x.sum() > 0 else x @ w.T)
    with pytest.raises(ValueError, match="CoOp with this CLIP cannot be written as a graph"):
        export.export(classifier("coop"), tmp_path / "m.pt2", {})
    ours = classifier("zeroshot")
    monkeypatch.setattr(graphs, "LARGEST", 1000)
    with pytest.raises(ValueError, match="an .onnx file holds 2 GB: write a .pt2"):
        export.export(ours, tmp_path / "m.onnx", {})
    assert not list(tmp_path.iterdir())
    assert ours.model.clip.text_rows == toy_clip().text_rows


DOCUMENTED = re.search(r"```python\n(.*?)```", (ROOT / "docs" / "export.md").read_text(), re.DOTALL).group(1)


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize("resize_mode", ["shortest", "squash", "longest"])
@pytest.mark.parametrize("shape", [(40, 60), (61, 40), (32, 32), (33, 32), (3, 200), (2000, 31), (20, 10)])
def test_the_documented_preprocessing_is_ours_bit_for_bit(resize_mode, interpolation, shape):
    names = {}
    exec(DOCUMENTED.partition("session =")[0], names)
    image = PIL.Image.fromarray(np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8))
    ours = eval_transform(32, (0.5,) * 3, (0.5,) * 3, interpolation, resize_mode).pixels(image)
    theirs = names["prepared"](image, 32, resize_mode, interpolation, mean=(0.5,) * 3, std=(0.5,) * 3)
    assert np.array_equal(theirs, ours.numpy())


def test_the_documented_program_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    ours, photos = classifier("coop"), []
    for at, name in enumerate("abc"):
        photos.append(PIL.Image.fromarray(np.random.default_rng(at).integers(0, 256, (50, 70, 3), dtype=np.uint8)))
        photos[-1].save(f"{name}.png")
    export.export(ours, Path("model.onnx"), {})
    exec(DOCUMENTED, {})
    assert capsys.readouterr().out.strip() == str([best[0][0] for best in ours.top(photos)])
