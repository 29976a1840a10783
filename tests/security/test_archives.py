"""Archives of tensors that other people made: what they hold is read, and nothing in them runs."""

import io
import os
import pickle
from collections import OrderedDict

import pytest
import torch
from archive_files import script
from torch import nn
from toys import toy_clip

from prompts.engine.archives import read_tensors
from prompts.engine.tensor_pickles import evaluate
from prompts.engine.weights import read_weights
from prompts.parts.published import read_published
from runs import launch

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning", "ignore:.torch.jit.*:DeprecationWarning")
TRACE = "was-here"


class Writing(nn.Module):
    """Loaded as TorchScript, it writes a file."""

    def __init__(self):
        super().__init__()
        self.ctx = nn.Parameter(torch.ones(4, 32))

    @torch.jit.export
    def __getstate__(self):
        return (self.ctx, self.training)

    @torch.jit.export
    def __setstate__(self, state: tuple[torch.Tensor, bool]):
        torch.save([state[0]], "was-here")
        self.ctx = state[0]
        self.training = state[1]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


class Many(nn.Module):
    """What a module may hold beside plain parameters: shared ones, views, integers, tensors that are no state."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.again = self.linear
        self.inner = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2))
        whole = torch.randn(6, 4)
        self.register_buffer("turned", whole.t()[1:])
        self.register_buffer("halved", whole[2:4].half())
        self.register_buffer("count", torch.tensor(224))
        self.register_buffer("empty", torch.zeros(0, 3))
        self.beside = torch.ones(4)
        self.sizes = [1, 2]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) + torch.tensor([1.0, 2.0])


class Call:
    """Unpickled, it makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize(
    "make", [Many, lambda: toy_clip().model, lambda: toy_clip().model.half()], ids=["many", "clip", "fp16"]
)
def test_a_torchscript_archive_holds_the_modules_state(tmp_path, make):
    module = make()
    content = read_tensors(script(module, tmp_path / "m.pt"))
    assert content.is_script
    wanted = module.state_dict()
    assert {name for name in content.tensors if name != "attn_mask"} == set(wanted)  # TorchScript lists that buffer too
    for name, tensor in wanted.items():
        assert content.tensors[name].dtype == tensor.dtype
        assert torch.equal(content.tensors[name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_come_back_from_both_formats(tmp_path, zipped):
    x = torch.randn(6, 4)
    state = {"a": x.t()[1:], "b": x[2:4], "half": x.half(), "bf16": x.bfloat16(), "ids": torch.arange(3), "scalar": x.sum()}
    state |= {"empty": torch.zeros(0, 3), "parameter": nn.Parameter(x), "mask": x > 0}
    torch.save({"state_dict": OrderedDict(state), "epoch": 3}, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    held = read_tensors(tmp_path / "x").tensors
    assert list(held) == list(state)
    assert all(torch.equal(held[k], v) and held[k].dtype == v.dtype and held[k].is_contiguous() for k, v in state.items())


def test_a_torchscript_archive_never_runs(run_here, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = script(Writing(), tmp_path / "model.pt")
    torch.jit.load(path)
    (tmp_path / TRACE).unlink()  # so the archive does write where TorchScript loads it
    monkeypatch.setattr(torch.jit, "load", None)
    given = {
        "no prompts": ["method=coop", "method.n_ctx=4", "fit=false", f"ckpt={path}"],
        "holds no prompts": ["method=coop", "method.n_ctx=4", f"init_from={path}"],
        "do not fit": ["clip=vit_b32", f"clip.weights={path}", "clip.activation=gelu"],
    }
    for message, overrides in given.items():
        with pytest.raises(Exception, match=message) as caught:
            run_here(*overrides)
        assert "\n" not in launch.error_message(caught.value)
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.usefixtures("no_torch_load")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("read", [read_published, read_weights])
def test_a_pickle_calls_nothing(tmp_path, zipped, read):
    path = tmp_path / "model.pth.tar-50"
    bad = {key: Call(tmp_path / f"{TRACE}-{key}") for key in "abc"}
    torch.save({"state_dict": {"ctx": torch.ones(4, 64), **bad}, "rest": bad}, path, _use_new_zipfile_serialization=zipped)
    content = read(path)
    assert set(content if isinstance(content, dict) else content.state) == {"ctx"}
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_pickle_changes_no_function_of_ours():
    before = torch._utils._rebuild_tensor_v2.__defaults__
    state = pickle.dumps((None, {"__defaults__": (1, 2, 3), "__code__": None}), 2)[2:-1]
    evaluate(io.BytesIO(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before
