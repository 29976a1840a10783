"""Full disks: one sentence, no temporary file, and the same command goes on when there is room."""

import os
import subprocess

import pytest
from disturbed import DOOMED, DPL, PROBE, log_of, outcome_of


@pytest.fixture
def small_disk(tmp_path):
    """Makes a file system of so many KiB, where this may be done; what it yields frees its space again."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = []

    def make(kib):
        mount = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(folder)], capture_output=True)
        if mount.returncode:
            pytest.skip("file systems cannot be mounted here")
        mounted.append(folder)
        return folder

    yield make
    for mount_point in mounted:
        subprocess.run(["umount", str(mount_point)], check=True)


@pytest.mark.parametrize(
    "overrides", [[*DOOMED, "select=best_val", "save_every=0"], DPL, PROBE], ids=["doomed", "dpl", "probe"]
)
def test_a_disk_that_fills_up(forks, undisturbed, tmp_path, small_disk, overrides):
    """Each try has room for one more page, so that every kind of file is the first that does not fit in one of them."""
    whole = undisturbed(*overrides)
    disk, failed = small_disk(4096), 0
    stone = disk / "stone"
    for room in (0, 1, 2, 4, 8, 20, 40):
        stone.write_bytes(b"")
        stat = os.statvfs(disk)
        stone.write_bytes(bytes(stat.f_bavail * stat.f_frsize - room * 4096))
        status = forks.run(tmp_path, *overrides, f"output={disk}/outputs")
        text = log_of(tmp_path)
        assert "Traceback" not in text, text
        files = [path for path in disk.rglob("*") if path.is_file()]
        assert not [path for path in files if path.suffix == ".tmp" or path.name.endswith(".lock")], files
        if not status:
            break
        failed += 1
        assert status == 1
        last = text.splitlines()[-1]
        assert last.startswith(f"error: {disk}/")
        assert "cannot be written (No space left on device): make room; the same command" in last
    assert failed >= 2
    stone.unlink()
    assert forks.run(tmp_path, *overrides, f"output={disk}/outputs") == 0, log_of(tmp_path)
    assert outcome_of(disk / "outputs") == whole


def test_a_file_that_may_not_grow(forks, undisturbed, tmp_path):
    """The same where nothing can be mounted: the operating system refuses to write more than so much into one file."""
    whole = undisturbed(*DOOMED)
    for most in (1000, 5000):
        assert forks.run(tmp_path, *DOOMED, LARGEST_FILE=str(most)) == 1
        text = log_of(tmp_path)
        assert "Traceback" not in text
        assert "cannot be written (File too large): make room; the same command" in text.splitlines()[-1]
        assert not list(tmp_path.rglob("*.tmp"))
    assert forks.run(tmp_path, *DOOMED) == 0, log_of(tmp_path)
    assert outcome_of(tmp_path / "outputs") == whole
