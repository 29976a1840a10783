"""Archives from elsewhere: nothing outside of the folder, no links, bounded sizes, one sentence."""

import gzip
import io
import os
import random
import stat
import tarfile
import zipfile

import pytest

from files import unpack as unpacking
from files.unpack import unpack


def member(name, content=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tarred(path, *members, packed=True):
    with tarfile.open(path, "w:gz" if packed else "w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            archive.addfile(info, io.BytesIO(content))
    return path


def zipped(path, *members, packing=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", packing) as archive:
        for name, content, mode in members:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, packing
            archive.writestr(info, content)
    return path


@pytest.fixture
def places(tmp_path):
    """An archive's path, and the folder to unpack into, two folders down."""
    return tmp_path / "a", tmp_path / "deep" / "folder"


def everything(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if not path.is_dir())


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/x", "a\\..\\x", "C:/x", "c:x", "a\x07b", "a/" * 40 + "x", "x" * 1500])
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_names_that_lead_elsewhere(places, tmp_path, name, kind):
    path, folder = places
    if kind == "tar":
        tarred(path, member("good", b"1"), member(name, b"2"))
    else:
        zipped(path, ("good", b"1", 0), (name, b"2", 0))
    with pytest.raises(ValueError, match="it holds the path"):
        unpack(path, folder)
    assert everything(tmp_path) == ["a", "deep/folder/good"]


def test_links_and_devices_are_never_made(places, tmp_path):
    path, folder = places
    (outside := tmp_path / "outside").mkdir()
    links = [
        member("out", type=tarfile.SYMTYPE, linkname=str(outside)),
        member("out/x", b"1"),  # through the link
        member("hard", type=tarfile.LNKTYPE, linkname="../../a"),
        member("pipe", type=tarfile.FIFOTYPE),
        member("disk", type=tarfile.BLKTYPE),
    ]
    result = unpack(tarred(path, *links), folder)
    assert result.left_out == ["out", "hard", "pipe", "disk"]
    assert everything(folder) == ["out/x"]
    assert not list(outside.iterdir())
    assert all(stat.S_ISREG(os.lstat(folder / name).st_mode) for name in everything(folder))
    zipped(path, ("link", str(outside).encode(), stat.S_IFLNK | 0o777), ("link/x", b"1", 0))
    assert unpack(path, folder.with_name("other")).left_out == ["link"]
    assert not list(outside.iterdir())


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_bomb_stops_early(places, monkeypatch, kind):
    path, folder = places
    monkeypatch.setattr(unpacking, "CHUNK", 1000)
    monkeypatch.setattr(unpacking, "MAX_GROWTH", 10)
    content = bytes(3_000_000)
    tarred(path, member("x", content)) if kind == "tar" else zipped(path, ("x", content, 0))
    with pytest.raises(ValueError, match="10 times its size"):
        unpack(path, folder)
    assert sum((folder / name).stat().st_size for name in everything(folder)) < 200_000


def test_a_bomb_behind_the_end(places, monkeypatch):
    path, folder = places
    monkeypatch.setattr(unpacking, "CHUNK", 1000)
    with gzip.open(path, "wb") as file:
        file.write(member("x", b"")[0].tobuf() + bytes(30_000_000))
    with pytest.raises(ValueError, match="100 times its size"):
        unpack(path, folder)


def test_a_size_below_nothing(places):
    path, folder = places
    header = bytearray(member("x")[0].tobuf())
    header[124:136] = b"\xff" * 11 + b"\x00"  # -256
    header[148:156] = b"%06o\0 " % (sum(header[:148]) + sum(header[156:]) + 8 * 32)
    path.write_bytes(header + bytes(2048))
    with pytest.raises(ValueError, match="a header makes no sense"):
        unpack(path, folder)


def test_too_many_files(places, monkeypatch):
    monkeypatch.setattr(unpacking, "MAX_FILES", 3)
    path, folder = places
    with pytest.raises(ValueError, match="more than 3 files"):
        unpack(tarred(path, *(member(str(i), b"1") for i in range(4))), folder)


def test_sizes_that_are_claimed(places):
    path, folder = places
    info = tarfile.TarInfo("x")
    info.size = 2**40
    with gzip.open(path, "wb") as file:
        file.write(info.tobuf() + b"short")
    with pytest.raises(ValueError, match="100 times its size"):
        unpack(path, folder)
    info.size = 2**32
    info.type = tarfile.XHDTYPE  # tarfile would read it at once
    path.write_bytes(info.tobuf() + bytes(2**16))
    with pytest.raises(ValueError, match="a header claims 4,294,967,808 bytes|claims 4,294,967,296 bytes"):
        unpack(path, folder.with_name("b"))


def test_packings_that_are_not_bounded(places):
    path, folder = places
    with pytest.raises(ValueError, match="is packed in a way that is not read here"):
        unpack(zipped(path, ("x", b"1", 0), packing=zipfile.ZIP_LZMA), folder)


@pytest.mark.parametrize("packed", [True, False])
def test_archives_that_are_cut_short(places, packed):
    path, folder = places
    content = tarred(path, member("a", b"1" * 600), member("b", b"2" * 512), packed=packed).read_bytes()
    end = len(content) if packed else 1024 + 512 + 1024 + 512  # the rest is filling
    for i, cut in enumerate(range(0, end, 7 if packed else 128)):
        path.write_bytes(content[:cut])
        with pytest.raises(ValueError, match="it is damaged|it holds no files"):
            unpack(path, folder / str(i))
    path.write_bytes(content)
    assert unpack(path, folder / "whole").files == 2


def test_a_zip_with_a_wrong_checksum(places):
    path, folder = places
    content = zipped(path, ("x", b"abc", 0), packing=zipfile.ZIP_STORED).read_bytes()
    path.write_bytes(content.replace(b"abc", b"abd", 1))
    with pytest.raises(ValueError, match="it is damaged"):
        unpack(path, folder)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_any_damage_is_a_sentence_and_stays_in_the_folder(places, tmp_path, kind):
    path, folder = places
    if kind == "tar":
        tarred(path, member("d/a", b"1" * 700), member("ü" * 80, b"2"), packed=False)
    else:
        zipped(path, ("d/a", b"1" * 700, 0), ("b", b"2", 0))
    content, rng = path.read_bytes(), random.Random(1)
    end = min(len(content), 5000)
    for i in range(200):
        damaged = bytearray(content)
        for _ in range(rng.choice((1, 1, 3, 20))):
            damaged[rng.randrange(end)] = rng.choice((0, 47, 46, 128, 255, rng.randrange(256)))
        path.write_bytes(damaged)
        try:
            unpack(path, folder / str(i))
        except ValueError as error:
            assert len(str(error)) < 300  # noqa: PT017
        except OSError as error:
            assert error.filename  # noqa: PT017 (a name of the disk, such as one that is a folder and a file)
    assert {name.partition("/")[0] for name in everything(tmp_path)} <= {"a", "deep"}
