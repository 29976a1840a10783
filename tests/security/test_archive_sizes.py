"""Archives of tensors that claim more than they hold: no size in them is believed, and none takes much time or memory."""

import io
import struct
import time
import zipfile

import pytest
import torch
from archive_files import Claimed, pickled, zipped
from refusals import refused

from files.pickles import Node
from prompts.engine.archives import _module_state
from prompts.engine.tensor_pickles import evaluate
from prompts.engine.weights import read_weights
from prompts.parts.published import read_published

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
    offset = content.rfind(struct.pack("<q", 7))
    path = tmp_path / "model.pth.tar-5"
    for numel in (HUGE, 2**62, -1, 8, 6):
        path.write_bytes(content[:offset] + struct.pack("<q", numel) + content[offset + 8 :])
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


def test_a_pickle_that_grows_while_it_is_read(tmp_path):
    path = tmp_path / "x.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive:
        archive.writestr("x/data.pkl", bytes(300 * 2**20))
    content = bytearray(path.read_bytes())
    for offset in (22, content.rindex(b"PK\x01\x02") + 24):  # what the two headers claim to be its size
        content[offset : offset + 4] = struct.pack("<I", 1000)
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
