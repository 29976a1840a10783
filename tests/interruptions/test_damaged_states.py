"""A `last.ckpt` that is damaged, of another run, or hostile is refused in one sentence and stays as it is."""

import io
import random
import shutil
import zipfile
from functools import partial

import pytest
import torch

from runs import launch

PICKLES = {  # small files that torch.load would take minutes or gigabytes for, weights_only or not
    "keys": b"\x80\x02}q\0(K\1K\1\x86q\1" + b"h\1h\1\x86q\1" * 40 + b"K\1u.",
    "bytes": b"\x80\x02cbuiltins\nbytearray\nq\0\x8a\x05" + (10**11).to_bytes(5, "little") + b"\x85R.",
    "dropped": b"\x80\x02}X\1\0\0\0acbuiltins\nbytearray\nK\1\x85RsX\1\0\0\0aK\1s.",
    "lists": b"\x80\x02]q\0" + b"]q\1(h\0h\0eh\1q\0" * 60 + b".",
}


def saved(state):
    torch.save(state, buffer := io.BytesIO())
    return buffer.getvalue()


def archived(pickle):
    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr(zipfile.ZipInfo("a/data.pkl"), pickle)  # of no time: always the same bytes
        archive.writestr(zipfile.ZipInfo("a/version"), "3")
    return buffer.getvalue()


def script():
    torch.jit.script(torch.nn.Linear(2, 2)).save(buffer := io.BytesIO())
    return buffer.getvalue()


def put_nan(state):
    state["state_dict"]["model.learner.up"][0, 0] = float("nan")


def put_narrow_tensor(state):
    state["state_dict"]["model.learner.down"] = state["state_dict"]["model.learner.down"][:, :2]


def put_expanded_tensor(state):
    state["state_dict"]["model.learner.down"] = torch.ones(1).expand(6 * 10**9)  # 24 GB of one number


def put_seed(state):
    state["run"]["seed"] = 2


def put_loops(state):
    state["loops"] = {"fit_loop": [1, 2, 3]}


def put_losses(state):
    state["progress"]["losses"] = [["many", 3]]


def edited(content, edit):
    state = torch.load(io.BytesIO(content), weights_only=True)
    edit(state)
    return saved(state)


DAMAGES = {  # the content of the file, as a function of what it was
    "random": lambda content: random.Random(1).randbytes(len(content)),
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "code": lambda content: b"cos\nsystem\n(S'touch was-here'\ntR.",
    "list": lambda content: saved([1, 2, 3]),
    "script": lambda content: script(),
}
DAMAGES |= {
    edit.__name__: partial(edited, edit=edit)
    for edit in (put_nan, put_narrow_tensor, put_expanded_tensor, put_seed, put_loops, put_losses)
}
DAMAGES |= {name: lambda content, pickle=pickle: archived(pickle) for name, pickle in PICKLES.items()}


def test_a_damaged_state_is_refused_and_stays(run_here, tmp_path, monkeypatch, capsys):
    overrides = ["method=doomed", "shots=4", "batch_size=6", "save_every=0"]
    whole = run_here(*overrides)
    shutil.rmtree(tmp_path / "outputs")
    monkeypatch.setenv("DOOM", "3:raise:0:20")
    with pytest.raises(ValueError, match="doomed"):
        run_here(*overrides)
    monkeypatch.setenv("DOOM", "")
    [last] = tmp_path.rglob("last.ckpt")
    content = last.read_bytes()
    capsys.readouterr()
    for name, damage in DAMAGES.items():
        damaged = damage(content)
        last.write_bytes(damaged)
        message = None
        try:
            run_here(*overrides)
        except Exception as error:
            message = launch.error_message(error)
        assert message, name
        assert "last.ckpt" in message, name
        assert "force=true" in message, name
        assert "\n" not in message, name
        assert last.read_bytes() == damaged
        assert not (tmp_path / "was-here").exists()
        assert "loss" not in capsys.readouterr().out
    last.write_bytes(content)
    assert run_here(*overrides)["train_loss"] == whole["train_loss"]
    last.write_bytes(b"garbage")
    assert run_here(*overrides, "force=true")["train_loss"] == whole["train_loss"]
