"""Downloads from a web server of this process, which misbehaves."""

import hashlib
import urllib.request

import pytest
from web_server import served

from files import download as downloads
from files.download import Checksum, Redirects, download

BODY = bytes(range(256)) * 5000
MD5 = Checksum("md5", hashlib.md5(BODY).hexdigest())


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with served() as web:
        yield web


@pytest.fixture
def got(web, tmp_path):
    """Downloads BODY without waiting -> its path."""
    web.files["x.bin"] = BODY

    def run(checksum=MD5, url=None):
        download(url or web.url("x.bin"), tmp_path / "x.bin", checksum, wait=lambda seconds: None)
        return tmp_path / "x.bin"

    return run


def ranges(web):
    return [wanted for _, wanted in web.seen]


def test_a_file_is_there_whole_and_alone(got, tmp_path):
    assert got().read_bytes() == BODY
    assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


@pytest.mark.parametrize("checksum", [MD5, None])
def test_a_broken_transfer_goes_on_where_it_broke(web, got, checksum):
    web.cuts = [1000, 5000]
    assert got(checksum).read_bytes() == BODY
    assert ranges(web) == [None, "bytes=1000-", "bytes=6000-"]


def test_a_later_start_goes_on(web, got, tmp_path):
    web.cuts = [1000] + [0] * 10
    with pytest.raises(ValueError, match="6 times in a row; the next start goes on at byte 1,000"):
        got()
    assert not (tmp_path / "x.bin").exists()
    web.cuts.clear()
    assert got().read_bytes() == BODY
    assert ranges(web)[-1] == "bytes=1000-"


def test_another_version_is_not_joined_to_the_first(web, got, tmp_path):
    web.cuts = [1000] + [0] * 10
    with pytest.raises(ValueError):
        got(None)
    web.cuts.clear()
    web.tag, web.files["x.bin"] = '"2"', b"y" * 3000
    assert got(None).read_bytes() == b"y" * 3000


def test_without_version_and_checksum_it_starts_anew(web, got):
    web.tag, web.cuts = None, [1000]
    assert got(None).read_bytes() == BODY
    assert ranges(web) == [None, None]


def test_a_server_without_ranges(web, got):
    web.ranges, web.cuts = False, [1000]
    assert got().read_bytes() == BODY


def test_a_part_that_was_whole_needs_nothing_more(web, got, tmp_path):
    (tmp_path / "x.bin.part").write_bytes(BODY)
    (tmp_path / "x.bin.part.of").write_text(web.url("x.bin") + '\n"1"')
    assert got().read_bytes() == BODY
    assert ranges(web) == [f"bytes={len(BODY)}-"]


def test_a_part_of_another_file_is_not_trusted(web, got, tmp_path):
    for checksum in (MD5, None):
        (tmp_path / "x.bin.part").write_bytes(b"z" * 100)
        assert got(checksum).read_bytes() == BODY
        (tmp_path / "x.bin.part").write_bytes(b"z" * 100)
        (tmp_path / "x.bin.part.of").write_text('http://elsewhere/x.bin\n"1"')
        assert got(checksum).read_bytes() == BODY
    assert ranges(web) == [None] * 4


def test_a_wrong_checksum_leaves_nothing(got, tmp_path):
    with pytest.raises(ValueError, match=f"has the md5 {MD5.digits}, and the published one is 0000"):
        got(Checksum("md5", "0" * 32))
    assert not list(tmp_path.iterdir())


def test_a_busy_server_is_asked_again_and_a_missing_file_is_not(web, got):
    web.answers = [503, 503]
    assert got().read_bytes() == BODY
    del web.files["x.bin"], web.seen[:]
    with pytest.raises(ValueError, match=r"it answers 404 \(Not Found\)"):
        got()
    assert len(web.seen) == 1


def test_only_the_web_is_followed(web, got, tmp_path):
    (secret := tmp_path / "secret").write_text("secret")
    web.moved["a"] = web.url("x.bin")
    assert got(url=web.url("a")).read_bytes() == BODY
    for place in (secret.as_uri(), "ftp://127.0.0.1/x"):
        web.moved["b"] = place
        with pytest.raises(ValueError, match="which is not followed|answers 302"):
            got(url=web.url("b"))
    with pytest.raises(ValueError, match="none of http or https"):
        got(url=secret.as_uri())
    handler, request = Redirects(), urllib.request.Request("https://a/b")
    with pytest.raises(ValueError, match="which is not followed"):
        handler.redirect_request(request, None, 302, "", {}, "http://a/b")


def test_a_full_disk_is_seen_before(web, got, tmp_path, monkeypatch):
    monkeypatch.setattr(downloads, "SPARE", 2**60)
    with pytest.raises(OSError, match="GB are needed"):
        got()
    assert not (tmp_path / "x.bin.part").exists()
