import errno
import os
import signal

import pytest
import torch

from runs import launch


def fails(error):
    try:
        raise error
    except Exception as raised:
        return raised


def test_bugs_are_not_taken_for_mistakes():
    assert launch.error_message(fails(TypeError("a bug"))) is None
    with pytest.raises(ValueError) as raised:
        int("x")
    assert launch.error_message(raised.value) is None
    with pytest.raises(ValueError) as raised:
        torch.optim.SGD([torch.zeros(1)], lr=-1)  # an installed package's `raise`
    assert launch.error_message(raised.value) is None
    assert launch.error_message(fails(ValueError("ours"))) == "ours"
    worker = "Caught ValueError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nValueError: ours"
    assert launch.error_message(fails(ValueError(worker))) == "ours"


def test_what_the_system_refuses_is_one_sentence():
    full = launch.error_message(fails(OSError(errno.ENOSPC, "No space left on device", "outputs/x")))
    assert full == "No space left on device: outputs/x. Make room there and start the same command again."
    assert "Make room" in launch.error_message(fails(RuntimeError("writing failed:\nNo space left on device")))
    assert "output=PATH" in launch.error_message(fails(PermissionError(errno.EACCES, "Permission denied", "x")))
    assert "ulimit -n" in launch.error_message(fails(OSError(errno.EMFILE, "Too many open files", "x")))
    assert launch.error_message(fails(FileNotFoundError(errno.ENOENT, "No such file or directory", "a\nb"))).count("\n") == 0
    worker = "Caught OSError in DataLoader worker process 0.\nOriginal Traceback (most recent call last):\nOSError: gone"
    assert launch.error_message(fails(OSError(worker))) == "OSError: gone"


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_the_process_ends_changes_nothing(monkeypatch, capsys, how):
    before = signal.getsignal(how)
    monkeypatch.setattr(launch.ranks, "join", lambda: os.kill(os.getpid(), how))
    assert launch.exit_status_of(lambda: None) == 0
    assert capsys.readouterr().err == ""
    assert signal.getsignal(how) is before


@pytest.mark.parametrize(("how", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_is_a_status_and_a_sentence(capsys, how, status):
    assert launch.exit_status_of(lambda: os.kill(os.getpid(), how)) == status
    assert capsys.readouterr().err == f"Stopped by {how.name}; the same command starts over.\n"
