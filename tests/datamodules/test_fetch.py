"""Fetching datasets, from a web server of this process."""

import hashlib
import io
import tarfile
import zipfile

import pytest
import yaml
from web_server import served

from datamodules import fetch
from tools.dataset_config import dataset_config, dataset_names


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    with served() as web:
        yield web


def tar_of(files, mode="w:gz"):
    with tarfile.open(fileobj=(content := io.BytesIO()), mode=mode) as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text))
    return content.getvalue()


def zip_of(files):
    with zipfile.ZipFile(content := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture
def run(web, tmp_path, capsys):
    """Fetches the dataset `toy` of these files (by name: content, entry of the table) -> status, output, errors."""

    def fetched(files, *arguments, by_hand=()):
        entries = []
        for name, (content, entry) in files.items():
            web.files[name] = content
            entries.append({"url": web.url(name), "md5": hashlib.md5(content).hexdigest()} | entry)
        table = tmp_path / "sources.yaml"
        table.write_text(yaml.safe_dump({"toy": {"folder": "toys", "page": "P", "files": entries, "by_hand": list(by_hand)}}))
        status = fetch.main(["data=toy", f"data_root={tmp_path}", *arguments], table)
        return status, *capsys.readouterr()

    return fetched


def tree(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


INNER = tar_of({"images/a.jpg": b"1", "images/b.jpg": b"2"})
CASES = {
    "a folder of a tar": (
        tar_of({"toy/images/a.jpg": b"1", "toy/labels/l.txt": b"2", "other": b"3"}),
        {"take": "toy/", "makes": "images"},
        {"images/a.jpg": b"1", "labels/l.txt": b"2"},
    ),
    "a plain tar called gz": (tar_of({"./images/a.jpg": b"1"}, "w"), {"makes": "images"}, {"images/a.jpg": b"1"}),
    "a zip": (zip_of({"2750/River/a.jpg": b"1"}), {"makes": "2750"}, {"2750/River/a.jpg": b"1"}),
    "a file of a zip": (
        zip_of({"d/x.json": b"{}", "y.json": b"1"}),
        {"take": "d/x.json", "makes": "x.json"},
        {"x.json": b"{}"},
    ),
    "an archive in an archive": (
        zip_of({"c/inner.tar.gz": INNER, "__MACOSX/c": b"1"}),
        {"inside": "c/inner.tar.gz", "makes": "images"},
        {"images/a.jpg": b"1", "images/b.jpg": b"2"},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_archives_become_the_folders(run, web, tmp_path, case):
    content, entry, expected = CASES[case]
    files = {"toy.tar.gz": (content, entry)}
    status, output, _ = run(files)
    assert status == 0
    assert tree(tmp_path / "toys") == expected
    assert "tools.doctor data=toy" in output
    before = len(web.seen)
    assert "stays as it is" in run(files)[1]
    assert len(web.seen) == before


def test_plain_files_and_kept_archives(run, tmp_path):
    archive = zip_of({"images/a.jpg": b"1"})
    assert run({"labels.mat": (b"123", {"makes": "labels.mat"}), "i.zip": (archive, {"makes": "images"})}, "keep=true")[0] == 0
    assert tree(tmp_path / "toys") == {"labels.mat": b"123", "i.zip": archive, "images/a.jpg": b"1"}


def test_an_archive_that_was_got_by_hand_is_checked_and_stays(run, web, tmp_path):
    archive = zip_of({"images/a.jpg": b"1"})
    (given := tmp_path / "toys" / "i.zip").parent.mkdir()
    given.write_bytes(b"cut short")
    status, _, errors = run({"i.zip": (archive, {"makes": "images"})})
    assert status == 1
    assert "has the md5" in errors
    given.write_bytes(archive)
    assert run({"i.zip": (archive, {"makes": "images"})})[0] == 0
    assert given.read_bytes() == archive
    assert not web.seen


def test_a_source_that_is_gone_says_where_to_put_it(run, web, tmp_path):
    web.answers = [404]
    status, _, errors = run({"i.zip": (b"", {"makes": "images"})})
    assert status == 1
    (line,) = errors.splitlines()
    assert "it answers 404" in line
    assert f"get it by hand (P) and put it at {tmp_path / 'toys' / 'i.zip'}" in line


def test_what_unpacks_to_something_else_is_not_put_there(run, web, tmp_path):
    status, _, errors = run({"i.zip": (zip_of({"pictures/a.jpg": b"1"}), {"makes": "images"})})
    assert status == 1
    assert "it holds no images, so the source has changed" in errors
    assert not (tmp_path / "toys" / "pictures").exists()
    assert not (tmp_path / "toys" / ".fetch" / "unpacked").exists()
    run({"i.zip": (zip_of({"pictures/a.jpg": b"1"}), {"makes": "images"})})
    assert len(web.seen) == 1  # it was checked: no second download


def test_what_was_half_unpacked_is_unpacked_anew(run, web, tmp_path, monkeypatch):
    files = {"i.zip": (zip_of({"images/a.jpg": b"1", "labels/l.txt": b"2"}), {"makes": "images"})}
    rename = fetch.os.rename

    def stopped(old, new):
        if str(new).endswith("images"):
            raise KeyboardInterrupt
        rename(old, new)

    (tmp_path / "toys" / ".fetch" / "unpacked" / "images").mkdir(parents=True)  # of a start that was killed
    monkeypatch.setattr(fetch.os, "rename", stopped)
    status, _, errors = run(files)
    assert status == 130
    assert "the same command goes on" in errors
    assert (tmp_path / "toys" / "labels").exists()
    assert not (tmp_path / "toys" / "images").exists()  # what says that all is there comes last
    monkeypatch.undo()
    assert run(files)[0] == 0
    assert tree(tmp_path / "toys") == {"images/a.jpg": b"1", "labels/l.txt": b"2"}
    assert len(web.seen) == 1  # the archive was checked and stayed


def test_what_is_needed_by_hand_is_said(run, tmp_path):
    by_hand = [{"what": "split_zhou_Toy.json", "from": "DRIVE"}, {"what": "frames", "from": "CLICK", "needed": True}]
    status, output, _ = run({"l.mat": (b"1", {"makes": "l.mat"})}, by_hand=by_hand)
    assert status == 1
    assert f"toy: by hand: {tmp_path / 'toys' / 'frames'} from CLICK\n" in output
    assert "from DRIVE (a run makes a split of its own without it, which is not the published one)" in output
    (tmp_path / "toys" / "frames").mkdir()
    status, output, _ = run({"l.mat": (b"1", {"makes": "l.mat"})}, by_hand=by_hand)
    assert status == 0
    assert "CLICK" not in output


def test_two_processes_do_not_fetch_the_same(run, tmp_path):
    (work := tmp_path / "toys" / ".fetch").mkdir(parents=True)
    with fetch.FileLock(work / "lock"):
        status, _, errors = run({"l.mat": (b"1", {"makes": "l.mat"})})
    assert status == 1
    assert "another process is fetching" in errors


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["dtd"], "'dtd' is not understood; python -m datamodules.fetch"),
        (["data=nothing"], "data='nothing' is not among what can be fetched: dtd"),
        (["data=dtd", "keep=perhaps"], "keep='perhaps': give true or false"),
    ],
)
def test_mistakes_are_one_sentence(capsys, arguments, said):
    assert fetch.main(arguments) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_the_table_is_well_formed_and_fits_the_datasets(capsys):
    sources = fetch.read_sources()
    assert set(sources) <= set(dataset_names())
    for name, source in sources.items():
        node = dataset_config(name).source.disk
        assert node.folder == source.folder, name
        made = {file.makes for file in source.files} | {item.what for item in source.by_hand}
        for key in ("images", "split"):
            if (wanted := node.get(key)) and "/" not in str(wanted) and name not in ("imagenet", "nocaps", "vqa2"):
                assert str(wanted) in made | {"", "."}, (name, key)
        for file in source.files:
            assert file.url.startswith(("https://", "http://"))
            assert "/" not in file.makes
            assert file.name.endswith(fetch.ARCHIVES) or file.name == file.makes
            if file.checksum:
                assert len(file.checksum.digits) == {"md5": 32, "sha256": 64}[file.checksum.kind]
    assert fetch.main([]) == 0
    assert "stanford_cars    by hand: cars_train, cars_test" in capsys.readouterr().out
