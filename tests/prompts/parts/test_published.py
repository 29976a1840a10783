"""Checkpoints in exactly the shapes that the published code saves (spec F, H7)."""

import os

import pytest
import torch
from test_methods import NAMES, OTHERS, batch, logits, model_of
from torch.optim.lr_scheduler import CosineAnnealingLR

from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.ivlp import IVLP
from prompts.kgcoop import KgCoOp
from prompts.maple import MaPLe
from prompts.parts.published import kinds_of, learned_tensors, published_state, read_published
from prompts.pomp import POMP
from prompts.vpt import VPT

# per row of the spec's table: the method here, and our tensor names -> the published ones
BLOCKS = {i: f"transformer.resblocks.{i}.VPT_shallow" for i in (1, 2)}
IMAGE = {"image_ctx.0": "image_encoder.VPT"} | {f"image_ctx.{i}": f"image_encoder.{name}" for i, name in BLOCKS.items()}
TEXT = {"text_ctx.0": "prompt_learner.ctx"} | {f"text_ctx.{i}": f"text_encoder.{name}" for i, name in BLOCKS.items()}
ROWS = {
    "coop": (lambda: CoOp(4), {}, False),
    "coop csc": (lambda: CoOp(4, class_context=True), {}, False),
    "pomp": (lambda: POMP(4), {}, False),
    "cocoop": (lambda: CoCoOp(), {}, False),
    "maple": (lambda: MaPLe(2, 3), None, True),
    "ivlp": (lambda: IVLP(2, 2, 3, 3), TEXT | IMAGE, True),
    "deep language": (lambda: IVLP(4, 0, 3), TEXT, True),
    "vpt": (lambda: VPT(2, 3), IMAGE, True),
    "promptsrc": (lambda: IVLP(4, 4, 3, 3), TEXT | IMAGE, True),
}


def published(path, learner, names, whole_model, clip, half=("ctx", "meta_net", "proj")):
    """What the official trainers write: learner (or the whole model), token buffers, optimiser, a live scheduler."""
    prefix = "prompt_learner." if whole_model else ""
    names = names or {name: prefix + name for name in learner.state_dict()}
    state = {names[k]: v.half() if k.startswith(half) else v for k, v in learner.state_dict().items()}
    lists = ("train_", "test_") if isinstance(learner, POMP) else ("",)
    for name in lists:
        state |= {f"{prefix}{name}token_prefix": torch.randn(7, 1, 64), f"{prefix}{name}token_suffix": torch.randn(7, 60, 64)}
    if whole_model:
        backbone = {
            k.replace("visual.", "image_encoder.", 1): v for k, v in clip.model.state_dict().items() if k.startswith("visual.")
        }
        state |= backbone | {"logit_scale": torch.tensor(4.6), "text_encoder.ln_final.weight": torch.randn(64)}
        state |= {"prompt_learner.ZS_image_encoder.conv1.weight": torch.randn(4)}
    optimiser = torch.optim.SGD(list(learner.parameters()), lr=0.1, momentum=0.9)
    scheduler = CosineAnnealingLR(optimiser, 5)
    # Dassl keeps the scheduler's successor as an object in the state dict
    content = {"epoch": 50, "optimizer": optimiser.state_dict(), "scheduler": scheduler.state_dict() | {"successor": scheduler}}
    torch.save({"state_dict": state, "val_result": None} | content, path)


@pytest.mark.parametrize("row", ROWS)
def test_every_published_shape_loads(small_clip, tmp_path, row):
    make, names, whole_model = ROWS[row]
    trained = model_of(small_clip, make()).eval()
    with torch.no_grad():
        for tensor in trained.learner.parameters():
            tensor.add_(torch.randn_like(tensor) * 0.1).copy_(tensor.half())  # what float16 can hold
    path = tmp_path / "model.pth.tar-50"
    published(path, trained.learner, names, whole_model, small_clip)

    with pytest.raises(Exception, match="[Uu]nsupported|weights_only|WeightsUnpickler"):
        torch.load(path, weights_only=True)
    torch.manual_seed(9)
    model = model_of(small_clip, make()).eval()
    class_names = NAMES if model.learner.class_specific else None
    model.load_prompt_state(learned_tensors(read_published(path), model.learner.published_names), class_names)
    assert torch.equal(logits(model), logits(trained))
    assert all(p.dtype == torch.float32 for p in model.learner.parameters())
    if class_names is None:
        model.bind(OTHERS)
        assert model(batch()[0]).logits.shape == (8, 2)


def test_another_depth_is_refused(small_clip, tmp_path):
    path = tmp_path / "model.pth.tar-5"
    published(path, model_of(small_clip, MaPLe(2, 3)).learner, None, True, small_clip)
    model = model_of(small_clip, MaPLe(2, 2))
    with pytest.raises(
        ValueError, match="does not fit MaPLe as configured: compound_prompt_projections.1.bias is .* absent here|here absent"
    ):
        model.load_prompt_state(learned_tensors(read_published(path), {}))


KINDS = {
    "coop": {"coop": {"n_ctx": 4, "class_context": False}, "kgcoop": {"n_ctx": 4}, "pomp": {"n_ctx": 4}},
    "coop csc": {"coop": {"n_ctx": 4, "class_context": True}},
    "pomp": {"pomp": {"n_ctx": 4}, "coop": {"n_ctx": 4, "class_context": False}, "kgcoop": {"n_ctx": 4}},
    "cocoop": {"cocoop": {"n_ctx": 4}},
    "maple": {"maple": {"n_ctx": 2, "depth": 3}},
    "ivlp": {"promptsrc": {"n_text": 2, "depth_text": 3, "n_image": 2, "depth_image": 3}},
    "deep language": {"promptsrc": {"n_text": 4, "depth_text": 3, "n_image": 0, "depth_image": 0}},
    "vpt": {"vpt": {"n_ctx": 2, "depth": 3}},
    "promptsrc": {"promptsrc": {"n_text": 4, "depth_text": 3, "n_image": 4, "depth_image": 3}},
}


@pytest.mark.parametrize("row", ROWS)
def test_names_and_shapes_tell_method_and_lengths(small_clip, tmp_path, row):
    make, names, whole_model = ROWS[row]
    path = tmp_path / "model.pth.tar-50"
    published(path, model_of(small_clip, make()).learner, names, whole_model, small_clip)
    state = read_published(path)
    without = {name: tensor for name, tensor in state.items() if "ZS_image_encoder" not in name}
    if "promptsrc" in KINDS[row]:  # IVLP saves the same but for the teacher, and each reads the other's
        settings = KINDS[row]["promptsrc"]
        assert list(kinds_of(state).items()) == [("promptsrc", settings), ("ivlp", settings)]
        assert list(kinds_of(without).items()) == [("ivlp", settings), ("promptsrc", settings)]
    else:
        assert list(kinds_of(state).items()) == list(KINDS[row].items())


def test_a_single_block_of_coupled_prompts():
    state = {"prompt_learner.ctx": torch.ones(2, 4), "prompt_learner.proj.weight": torch.ones(4, 4)}
    assert kinds_of(state) == {"maple": {"n_ctx": 2, "depth": 1}}


def test_states_of_nothing_known():
    assert kinds_of({}) == kinds_of({"fc.weight": torch.ones(2, 2)}) == {}
    assert kinds_of({"ctx": torch.ones(())}) == kinds_of({"image_encoder.VPT": torch.ones(2)}) == {}


def test_kgcoops_unused_modules_are_left_out(small_clip):
    trained = model_of(small_clip, KgCoOp(4)).learner.state_dict()
    unused = {"meta_net.linear1.weight": torch.ones(4, 64), "bias_vectors": torch.full((1, 64), float("nan"))}
    assert kinds_of(trained | unused) == {"kgcoop": {"n_ctx": 4}}
    assert learned_tensors(trained | unused, KgCoOp.published_names).keys() == trained.keys()


@pytest.mark.parametrize("row", ROWS)
def test_ours_are_written_in_the_published_names(small_clip, row):
    make, names, whole_model = ROWS[row]
    learner = model_of(small_clip, make()).learner
    method = "ivlp" if row == "deep language" else row.split()[0]
    _, state = published_state(method, learner.state_dict())
    prefix = "prompt_learner." if whole_model else ""
    assert state.keys() == set((names or {name: prefix + name for name in learner.state_dict()}).values()) & state.keys()
    back = learned_tensors(state, learner.published_names)
    assert back.keys() == learner.state_dict().keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in learner.state_dict().items())


@pytest.mark.parametrize(
    ("method", "shapes", "said"),
    [
        ("rpp", {"ctx": 2}, "method=rpp has no published format"),
        ("ivlp", {"text_ctx.0.q": 2}, "no place for the tensor text_ctx.0.q"),
        ("ivlp", {"text_ctx.0": 2, "text_ctx.2": 2}, "these prompts skip blocks"),
        ("ivlp", {"text_ctx.0": 2, "text_ctx.1": 3}, "the same number of prompts in each block"),
        ("vpt", {"image_ctx.1": 2}, "the same number of prompts in each block"),
        ("maple", {"ctx": 2, "compound_prompts_text.0": 3}, "the same number of prompts in each block"),
    ],
)
def test_what_the_published_format_has_no_place_for(method, shapes, said):
    with pytest.raises(ValueError, match=said):
        published_state(method, {name: torch.ones(n, 4) for name, n in shapes.items()})


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_hostile_pickle_runs_nothing(tmp_path):
    path, trace = tmp_path / "model.pth.tar-50", tmp_path / "was-here"
    torch.save({"state_dict": {"ctx": torch.ones(4, 64), "bad": Hostile(trace)}, "scheduler": Hostile(trace)}, path)
    assert read_published(path).keys() == {"ctx"}
    assert not trace.exists()
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="neither prompts of this suite nor a published checkpoint"):
        read_published(path)
