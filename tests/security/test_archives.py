"""Archives of tensors that other people made: what they hold is read, nothing in them runs, no size in them is believed."""

import io
import os
import pickle
import struct
import time
import warnings
import zipfile
from collections import OrderedDict

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from refusals import refused
from safetensors.torch import load_file, save_file
from torch import nn
from toys import ROOT, toy_clip

from prompts.engine.archives import _module_state, read_tensors
from prompts.engine.clip import load
from prompts.engine.pickles import Node, evaluate
from prompts.engine.weights import read_weights
from prompts.parts.published import read_published
from runs import launch

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning", "ignore:.torch.jit.*:DeprecationWarning")
TRACE, TINY = "was-here", ROOT / "prompts/tiny_clip"


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


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path)
    return path


@pytest.fixture
def no_torch_load(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a stranger's file reached torch's own loaders")

    monkeypatch.setattr(torch, "load", refused)
    monkeypatch.setattr(torch.jit, "load", refused)


# ---------------------------------------------------------------- what is read is what was written


@pytest.mark.parametrize(
    "make", [Many, lambda: toy_clip().model, lambda: toy_clip().model.half()], ids=["many", "clip", "fp16"]
)
def test_a_torchscript_archive_holds_the_modules_state(tmp_path, make):
    module = make()
    found = read_tensors(script(module, tmp_path / "m.pt"))
    assert found.is_script
    wanted = module.state_dict()
    assert {name for name in found.tensors if name != "attn_mask"} == set(wanted)  # TorchScript lists that buffer too
    for name, tensor in wanted.items():
        assert found.tensors[name].dtype == tensor.dtype
        assert torch.equal(found.tensors[name], tensor)


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dicts_come_back_from_both_formats(tmp_path, zipped):
    x = torch.randn(6, 4)
    state = {"a": x.t()[1:], "b": x[2:4], "half": x.half(), "bf16": x.bfloat16(), "ids": torch.arange(3), "scalar": x.sum()}
    state |= {"empty": torch.zeros(0, 3), "parameter": nn.Parameter(x), "mask": x > 0}
    torch.save({"state_dict": OrderedDict(state), "epoch": 3}, tmp_path / "x", _use_new_zipfile_serialization=zipped)
    found = read_tensors(tmp_path / "x").tensors
    assert list(found) == list(state)
    assert all(torch.equal(found[k], v) and found[k].dtype == v.dtype and found[k].is_contiguous() for k, v in state.items())


# ---------------------------------------------------------------- nothing runs


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
    assert [each.name for each in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.usefixtures("no_torch_load")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("read", [read_published, read_weights])
def test_a_pickle_calls_nothing(tmp_path, zipped, read):
    path = tmp_path / "model.pth.tar-50"
    bad = {key: Call(tmp_path / f"{TRACE}-{key}") for key in "abc"}
    torch.save({"state_dict": {"ctx": torch.ones(4, 64), **bad}, "rest": bad}, path, _use_new_zipfile_serialization=zipped)
    found = read(path)
    assert set(found if isinstance(found, dict) else found.state) == {"ctx"}
    assert [each.name for each in tmp_path.iterdir()] == [path.name]


def test_a_pickle_changes_no_function_of_ours():
    before = torch._utils._rebuild_tensor_v2.__defaults__
    state = pickle.dumps((None, {"__defaults__": (1, 2, 3), "__code__": None}), 2)[2:-1]
    evaluate(io.BytesIO(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b."))
    assert torch._utils._rebuild_tensor_v2.__defaults__ == before


# ---------------------------------------------------------------- no size is believed


class Stored:
    def __init__(self, numel, key="0"):
        self.numel, self.key = numel, key


class Claimed:
    """A tensor as a pickle claims it."""

    def __init__(self, numel, size, stride, offset=0, key="0"):
        self.arguments = (Stored(numel, key), offset, size, stride, False, OrderedDict())

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.arguments


class Pickler(pickle.Pickler):
    def persistent_id(self, value):
        return ("storage", torch.FloatStorage, value.key, "cpu", value.numel) if isinstance(value, Stored) else None


def pickled(state):
    file = io.BytesIO()
    Pickler(file, 2).dump({"state_dict": state})
    return file.getvalue()


def zipped(path, content, storages, packed=False, size=None):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        archive.writestr("x/data.pkl", content)
        for key, data in storages.items():
            archive.writestr(f"x/data/{key}", data)
    if size:  # what the directory claims of the last member
        content = bytearray(path.read_bytes())
        place = content.rfind(b"PK\x01\x02")
        content[place + 20 : place + 28] = struct.pack("<II", size, size)
        path.write_bytes(content)
    return path


FOUR = bytes(16)
HUGE = 10**12
CLAIMS = {
    "a storage of 4 terabytes": (Claimed(HUGE, (HUGE,), (1,)), {"0": FOUR}, "claim 4,000,000,000,000 bytes"),
    "a view of 4 terabytes by stride 0": (Claimed(4, (HUGE,), (0,)), {"0": FOUR}, "claims 1,000,000,000,000 elements"),
    "many dimensions": (Claimed(4, (2,) * 60, (0,) * 60), {"0": FOUR}, "no valid shape"),
    "a number without end": (Claimed(4, (10 ** (10**5),), (0,)), {"0": FOUR}, "no valid shape"),
    "beyond the storage": (Claimed(4, (4,), (1,), 3), {"0": FOUR}, "its storage has 4"),
    "strides beyond the storage": (Claimed(4, (2, 2), (10**9, 1)), {"0": FOUR}, "its storage has 4"),
    "negative": (Claimed(4, (2,), (-1,), 3), {"0": FOUR}, "no valid shape"),
    "negative storage": (Claimed(-1, (2,), (1,)), {"0": FOUR}, "impossible number"),
    "not there": (Claimed(4, (4,), (1,), key="7"), {"0": FOUR}, "lacks 'data/7'"),
    "elsewhere": (Claimed(4, (4,), (1,), key="../../x"), {"0": FOUR}, "lacks"),
    "a shape of text": (Claimed(4, ("4",), ("1",)), {"0": FOUR}, "no valid shape"),
}


@pytest.mark.usefixtures("no_torch_load")
@pytest.mark.parametrize("claim", CLAIMS)
def test_a_tensor_that_claims_too_much(tmp_path, claim):
    tensor, storages, message = CLAIMS[claim]
    path = zipped(tmp_path / "x.pt", pickled({"ctx": tensor}), storages)
    for read in (read_published, read_weights):
        with pytest.raises(ValueError, match=message) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("no_torch_load")
def test_archives_that_unpack_to_more_than_they_are(tmp_path):
    many = {str(i): Claimed(2**20, (2**20,), (1,)) for i in range(1000)}  # 4 GiB in all, of one storage of 4 MiB
    bombs = {
        "claim 4,194,304,000 bytes": zipped(tmp_path / "a", pickled(many), {"0": bytes(2**22)}),
        "the file has": zipped(
            tmp_path / "b", pickled({"x": Claimed(2**22, (2**22,), (1,))}), {"0": bytes(2**24)}, packed=True
        ),
        "claims 16,777,216 bytes": zipped(tmp_path / "c", bytes(2**24), {"0": FOUR}, packed=True),
        "its tensors claim": zipped(tmp_path / "d", pickled({"x": Claimed(4, (4,), (1,))}), {"0": FOUR}, size=2**30),
    }
    for message, path in bombs.items():
        with pytest.raises(ValueError, match=message):
            read_published(path)


def test_a_legacy_file_that_claims_too_much(tmp_path):
    buffer = io.BytesIO()
    torch.save({"state_dict": {"ctx": torch.arange(7.0)}}, buffer, _use_new_zipfile_serialization=False)
    content = buffer.getvalue()
    place = content.rfind(struct.pack("<q", 7))
    path = tmp_path / "model.pth.tar-5"
    for numel in (HUGE, 2**62, -1, 8, 6):
        path.write_bytes(content[:place] + struct.pack("<q", numel) + content[place + 8 :])
        with pytest.raises(ValueError, match="claim"):
            read_published(path)


PROGRAMS = {
    "a memo of 2^32 places": b"\x80\x02]r\xff\xff\xff\xff.",
    "a string of 2^62 bytes": b"\x80\x04\x8e" + struct.pack("<Q", 2**62) + b"x.",
    "tuples in tuples": b"\x80\x02})" + b"\x85" * 100_000 + b"K\x01s.",
    "lists in lists": b"(" * 100_000 + b"l" * 100_000 + b".",
    "one list copied often": b"\x80\x02("
    + b"K\x01" * 50_000
    + b"lq\x010"
    + b"ccollections\nOrderedDict\nh\x01\x85R0" * 1000
    + b"N.",
    "pops what is not there": b"000.",
    "no end": b"]" * 1000,
    "nothing": b"",
    "an extension": b"\x80\x02\x82\x01.",
    "out of band": b"\x80\x05\x97.",
    "digits": b"I" + b"9" * 100_000 + b"\n.",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_pickle_takes_neither_memory_nor_time(tmp_path, program):
    path = zipped(tmp_path / "x.pt", PROGRAMS[program], {})
    started = time.process_time()
    with pytest.raises(ValueError, match="published checkpoint"):
        read_published(path)
    assert time.process_time() - started < 10


def test_modules_without_end(tmp_path):
    shared = b"\x80\x02c__torch__\nM\n)\x81q\x00"  # each holds the one below twice: 2^40 paths
    for i in range(40):
        shared += b"0c__torch__\nM\n)\x81}(X\x01\x00\x00\x00ah%cX\x01\x00\x00\x00bh%cubq%c" % (i, i, i + 1)
    path = zipped(tmp_path / "x.pt", shared + b".", {})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/code/__torch__.py", 'class M(Module):\n  __parameters__ = ["w", ]\n  __buffers__ = []\n')
    with pytest.raises(ValueError, match="nested without end"):
        read_weights(path)


# ---------------------------------------------------------------- damaged files of every kind


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """A file of each kind -> its bytes."""
    folder = tmp_path_factory.mktemp("archives")
    state = {"ctx": torch.randn(4, 8), "token_prefix": torch.zeros(3, 1, 8).half()}
    torch.save({"state_dict": state, "epoch": 1}, folder / "zip")
    torch.save({"state_dict": state, "epoch": 1}, folder / "legacy", _use_new_zipfile_serialization=False)
    script(nn.Linear(2, 3), folder / "script")
    save_file(state, folder / "safetensors")
    return {path.name: path.read_bytes() for path in folder.iterdir()} | {"pickle": b"", "random": b""}


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_are_a_sentence_or_a_state(originals, tmp_path_factory, data):
    kind = data.draw(st.sampled_from(sorted(originals)))
    content = bytearray(originals[kind] or data.draw(st.binary(max_size=200)))
    if kind == "pickle":
        with zipfile.ZipFile(io.BytesIO(originals["zip"])) as archive:
            content = bytearray(archive.read("zip/data.pkl"))
    for _ in range(data.draw(st.integers(1, 4)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / ("x.safetensors" if kind == "safetensors" else "x.pt")
    if kind == "pickle":
        zipped(path, bytes(content), {"0": bytes(128), "1": bytes(48)})
    else:
        path.write_bytes(content)
    for read in (read_weights, read_published):
        try:
            found = read(path)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either end is right
        else:
            state = found if isinstance(found, dict) else found.state
            assert all(isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in state.items())
    assert list(folder.iterdir()) == [path]


@pytest.mark.parametrize("read", [read_weights, read_published])
def test_what_is_no_file_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "x.pt")
    with pytest.raises(ValueError, match="a pipe"):
        read(tmp_path / "x.pt")


@pytest.mark.parametrize(
    ("rows", "learned", "message"),
    [
        (torch.tensor([0, 49408]), torch.ones(2, 4), "ids lie between 0 and 49,407"),
        (torch.tensor([-1, 5]), torch.ones(2, 4), "holds -1 to 5"),
        (torch.tensor([0, 1, 2]), torch.ones(2, 4), "does not number the rows"),
        (torch.tensor([0.5, 1.5]), torch.ones(2, 4), "does not number the rows"),
        (torch.zeros(0, dtype=torch.long), torch.ones(0, 4), "does not number the rows"),
        (torch.tensor(3), torch.ones(2, 4), "does not number the rows"),
    ],
)
def test_token_rows_that_no_vocabulary_has(tmp_path, rows, learned, message):
    path = tmp_path / "x.safetensors"
    save_file({"token_embedding.rows": rows, "token_embedding.weight": learned}, path)
    with pytest.raises(ValueError, match=message):
        read_weights(path, 49408)


def test_a_width_that_no_token_embedding_has(tmp_path):
    """One row of the file would become 49,408, of 10 GB."""
    path = tmp_path / "x.safetensors"
    save_file({"token_embedding.rows": torch.tensor([0]), "token_embedding.weight": torch.ones(1, 50_000)}, path)
    with pytest.raises(ValueError, match="more than any CLIP has"):
        read_weights(path, 49408)


def test_a_pickle_that_grows_while_it_is_read(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", bytes(300 * 2**20))
    content = bytearray(path.read_bytes())
    for place in (22, content.rindex(b"PK\x01\x02") + 24):  # what the two headers claim to be its size
        content[place : place + 4] = struct.pack("<I", 1000)
    path.write_bytes(content)
    assert "packed in a way" in refused(read_weights, path)


def test_long_names_of_modules_around_modules(tmp_path):
    """A name of each tensor repeats those of the modules around it."""
    inner = {f"t{i}": torch.zeros(1) for i in range(3)}
    views = io.BytesIO()
    torch.save(inner, views)
    with zipfile.ZipFile(views) as archive:
        state = evaluate(io.BytesIO(archive.read("archive/data.pkl")))
    module = Node("__torch__.M", state)
    for _ in range(40):
        module = Node("__torch__.M", {"n" * 190: module})
    with pytest.raises(ValueError, match="a name in it has"):
        _module_state(module, {})


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_number(tmp_path, dtype):
    state = load_file(TINY / "weights.safetensors")
    state["ln_final.weight"] = state["ln_final.weight"].to(dtype)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(ValueError, match="do not fit the architecture .* first ln_final.weight"):
        load(str(TINY / "config.json"), str(tmp_path / "x.safetensors"))
