"""A classifier as one graph that other programs run, with weights, prompts and class list: ONNX, or torch.export's .pt2.

Every written file was read back and run on `probes`, and its outputs agreed with the classifier's.

Shapes: B images, C classes, d width of the shared embedding, S image size in pixels.
"""

from __future__ import annotations

import importlib.util
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tools.classifier import Classifier

INPUT, OUTPUTS = "images", ("logits", "probabilities", "features")
TOLERANCE = 1e-4  # of a number x of an output, times 1 + |x| / 10: float32 has no more digits of large ones
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
OPSETS = range(18, 24)  # of torch's exporter
LARGEST = 2_000_000_000  # bytes of an .onnx file, which is one protobuf message
BATCHES = (1, 2, 5)  # of the probes
ABOUT = "about.json"  # the file in a .pt2 that says what it is
Run = Callable[[Tensor], Sequence[Tensor]]


class Graph(nn.Module):
    """Pixels to `OUTPUTS`. Text features that no image changes are constants; else the text tower is a part of the graph."""

    def __init__(self, classifier: Classifier) -> None:
        super().__init__()
        self.model = classifier.model
        self.folds = self.model.text_depends_on() != "image"
        nothing = torch.zeros(1, self.model.clip.embed_dim, device=classifier.device)
        self.register_buffer("text", self.model.text_features(nothing) if self.folds else None)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,3,S,S) uint8 -> logits (B,C), probabilities (B,C), un-normalised image features (B,d)."""
        clip, learner = self.model.clip, self.model.learner
        features = clip.encode_image(images, learner.image_prompts())
        text = self.text if self.folds else learner.encode_text(clip, features)
        logits = learner.logits(clip, features, text).float()  # type: ignore[arg-type]
        return logits, logits.softmax(-1), features.float()


@torch.no_grad()
def traced(classifier: Classifier) -> torch.export.ExportedProgram:
    """The graph for batches of any size. ValueError where this method with this CLIP cannot be traced."""
    clip = classifier.model.clip
    rows, clip.text_rows = clip.text_rows, None  # chunks of a batch would fix its size
    try:
        with quiet_exporters():
            batch = {INPUT: {0: torch.export.Dim("batch", min=1)}}
            # strict: a plain trace turns len(images) into a number
            program = torch.export.export(Graph(classifier), (probes(classifier, 3),), dynamic_shapes=batch, strict=True)
    except Exception as error:  # the exporter raises many types
        raise ValueError(
            f"{type(classifier.model.learner).__name__} with this CLIP cannot be written as a graph "
            f"({_reason(error)}): use tools/predict.py, or another method or CLIP."
        ) from error
    finally:
        clip.text_rows = rows
    used = {spec.target for spec in program.graph_signature.input_specs}
    for tensors in (program.state_dict, program.constants):  # without the text tower where its features are constants
        for name in [name for name in tensors if name not in used]:
            del tensors[name]
    for module in program.graph_module.modules():  # without the paths of this machine
        for node in module.graph.nodes if isinstance(module, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def onnx_file(program: torch.export.ExportedProgram, about: Mapping[str, Any], opset: int) -> bytes:
    """The graph in ONNX; `about` is its metadata, a json text by key. ValueError where it cannot be converted."""
    require_onnx()
    size = sum(t.numel() * t.element_size() for t in [*program.state_dict.values(), *program.constants.values()])
    if size > LARGEST:
        raise ValueError(f"this graph has {size / 1e9:.1f} GB of weights, and an .onnx file holds 2 GB: write a .pt2.")
    try:
        with quiet_exporters():
            names: dict[str, Any] = {"input_names": [INPUT], "output_names": list(OUTPUTS)}
            made = torch.onnx.export(program, None, dynamo=True, opset_version=opset, verbose=False, **names)
        model = made.model_proto
    except Exception as error:  # the exporter raises many types
        raise ValueError(f"this graph cannot be written in ONNX ({_reason(error)}): write a .pt2.") from error
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    del model.graph.value_info[:]  # shapes of intermediate values, which a reader infers
    for part in (model.graph, *model.functions):
        for node in part.node:  # without the paths of this machine
            del node.metadata_props[:]
    del model.metadata_props[:]
    for key, value in about.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    return model.SerializeToString()


def pt2_file(program: torch.export.ExportedProgram, about: Mapping[str, Any]) -> bytes:
    """The graph as torch.export saves it, with `about` in the extra file `ABOUT`."""
    buffer = io.BytesIO()
    torch.export.save(program, buffer, extra_files={ABOUT: json.dumps(about)})
    return buffer.getvalue()


def onnx_run(content: bytes) -> Run:
    """A function that runs an .onnx file on the CPU. ValueError where onnxruntime refuses it."""
    require_onnx()
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common type
        raise ValueError(f"onnxruntime cannot read this graph ({_reason(error)}): choose another --opset.") from error
    return lambda pixels: [torch.from_numpy(out) for out in session.run(list(OUTPUTS), {INPUT: pixels.numpy()})]


def pt2_run(content: bytes) -> Run:
    """A function that runs a .pt2 file made by this process."""
    return torch.export.load(io.BytesIO(content)).module()


@torch.no_grad()
def check(run: Run, classifier: Classifier, name: str) -> float:
    """The largest difference of the file's outputs from the classifier's, in the measure of `TOLERANCE`. ValueError where it is
    above that."""
    worst = 0.0
    for count in BATCHES:
        pixels = probes(classifier, count)
        out = classifier.model(pixels)
        ours = (out.logits, out.logits.softmax(-1), out.image_features)
        for output, given, wanted in zip(OUTPUTS, run(pixels), ours, strict=True):
            fits = given.shape == wanted.shape
            off = float(((given - wanted).abs() / (1 + wanted.abs() / 10)).max()) if fits else float("inf")
            if not off <= TOLERANCE:  # NaN is no agreement
                raise ValueError(
                    f"{name} is not written: for {count} images its {output} differ from the run's by {off:.1e}, where "
                    f"{TOLERANCE:.0e} is allowed."
                )
            worst = max(worst, off)
    return worst


def probes(classifier: Classifier, count: int) -> Tensor:
    """(B,3,S,S) uint8 on the CPU: noise, always the same."""
    size = classifier.model.clip.image_spec["size"]
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(count))


def require_onnx() -> None:
    """ValueError where a package is missing that ONNX needs."""
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise ValueError(
            f"an .onnx file needs the packages {', '.join(PACKAGES)}, and {' and '.join(missing)} cannot be imported: "
            "pip install '.[export]' in a clone of this project, or write a .pt2."
        )


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:160]}".rstrip(".: ")


@contextmanager
def quiet_exporters() -> Iterator[None]:
    """A block in which the exporters log nothing, not even errors, as these are also raised."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)
