"""Tensors from PyTorch's own file formats, read as data: nothing in a file is run, and every size in it is checked.

A pickle is a program that may call any function, and TorchScript holds code that runs while it is loaded, so neither
`torch.load` nor `torch.jit.load` sees such a file: `files.pickles` computes what its pickle describes.

Formats: zip (torch 1.6 and later), TorchScript (a zip with code) and the legacy one (a sequence of pickles, then storages).
"""

from __future__ import annotations

import io
import re
import struct
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import torch
from torch import Tensor

from files.pickles import Node
from prompts.engine.tensor_pickles import Storage, View, check_values, checked_numel, evaluate

MAX_PICKLE = 8 * 2**20  # bytes; a checkpoint of a thousand tensors has 0.3 MiB
MAX_CODE = 64 * 2**20  # bytes of a TorchScript archive's code, unpacked
MAX_ATTRIBUTES, MAX_DEPTH, MAX_NAME = 1_000_000, 64, 200  # of a module's tree
LEGACY_MAGIC, LEGACY_PROTOCOL = 0x1950A86A20F9469CFC6C, 1001


class TensorFile(NamedTuple):
    """A state dict (names -> tensors), and whether the file is a TorchScript archive."""

    tensors: dict[str, Tensor]
    is_script: bool


def read_tensors(path: Path) -> TensorFile:
    """The tensors of a state dict: of a dict, of the dict under "state_dict" in it, or of a TorchScript module.

    ValueError (a phrase, for the caller's sentence) where the file is none of these, is damaged, or claims more than it holds.
    """
    try:
        with path.open("rb") as file:
            archive = _ZipArchive(file) if _is_zip(file) else _LegacyArchive(file)
            return TensorFile(archive.tensors(), archive.is_script)
    except Exception as error:  # a damaged or hostile file can raise any error
        raise ValueError(_phrase(error)) from error


def check_state(path: Path) -> None:
    """ValueError (a phrase) unless this is a zip file of plain data (text and integers as keys) and tensors within their
    storages, which `torch.load(weights_only=True)` reads in the time and memory that its size is worth."""
    try:
        with path.open("rb") as file:
            if not _is_zip(file):
                raise ValueError("it is no zip archive of PyTorch")
            archive = _ZipArchive(file, strict=True)
            if archive.is_script:
                raise ValueError("it is TorchScript")
            for key, storage in archive.seen.items():
                if archive.zip.getinfo(f"{archive.root}data/{key}").file_size != storage.numel * storage.dtype.itemsize:
                    raise ValueError(f"the storage {key[:80]!r} has another size than it claims")
            check_values(archive.content)
    except Exception as error:  # as in read_tensors
        raise ValueError(_phrase(error)) from error


def _phrase(error: BaseException) -> str:
    """An error in a few printable words."""
    text = str(error) if isinstance(error, ValueError | zipfile.BadZipFile | EOFError) else type(error).__name__
    text = "".join(c if c.isprintable() else " " for c in text[:300])
    return " ".join(text.split())[:200].rstrip(". ") or type(error).__name__


def _is_zip(file: BinaryIO) -> bool:
    start = file.read(4)
    file.seek(0)
    return start == b"PK\x03\x04"


# ---------------------------------------------------------------- the two containers


class _Archive:
    """The evaluated pickle of a file, and its storages by key."""

    is_script = False
    content: Any
    size: int  # of the file, in bytes
    big_endian = False

    def storage_bytes(self, key: str, size: int) -> bytes:
        """The bytes of a storage, which claims to have `size` of them."""
        raise NotImplementedError

    def views(self) -> dict[str, View]:
        """The tensors of the state dict, unread."""
        state = self.content.get("state_dict", self.content) if isinstance(self.content, dict) else None
        views = {name: value for name, value in state.items() if isinstance(value, View)} if isinstance(state, dict) else {}
        if not views:
            raise ValueError("it holds no state dict")
        return views

    def tensors(self) -> dict[str, Tensor]:
        """The tensors of the state dict, after the sizes that they claim were compared with the file's."""
        views = self.views()
        shapes = {name: checked_numel(view, name) for name, view in views.items()}
        total = sum(numel * views[name].storage.dtype.itemsize for name, numel in shapes.items())
        if total > 4 * self.size + 2**20:  # tensors may share a storage, but rarely do
            raise ValueError(f"its tensors claim {total:,} bytes, the file has {self.size:,}")
        flat: dict[str, Tensor] = {}
        tensors = {}
        for name, (storage, offset, size, stride) in views.items():
            if storage.key not in flat:
                flat[storage.key] = self._flat(storage)
            whole = flat[storage.key].view(storage.dtype)
            if len(whole) != storage.numel:
                raise ValueError(f"the tensor {name!r} disagrees with others about the size of its storage")
            tensors[name] = whole.as_strided(size, stride, offset).contiguous()
        return tensors

    def _flat(self, storage: Storage) -> Tensor:
        """The storage's bytes."""
        size = storage.numel * storage.dtype.itemsize
        content = self.storage_bytes(storage.key, size)
        if len(content) != size:
            raise ValueError(f"the storage {storage.key[:80]!r} has {len(content):,} bytes where {size:,} are claimed")
        flat = torch.frombuffer(bytearray(content), dtype=torch.uint8) if size else torch.empty(0, dtype=torch.uint8)
        if self.big_endian != (sys.byteorder == "big"):
            flat.untyped_storage().byteswap(storage.dtype)
        return flat


class _ZipArchive(_Archive):
    """The format of torch 1.6 and later, and TorchScript. `strict`: as of `evaluate`."""

    def __init__(self, file: BinaryIO, strict: bool = False) -> None:
        self.size = file.seek(0, io.SEEK_END)
        self.zip = zipfile.ZipFile(file)
        names = self.zip.namelist()
        roots = [name.removesuffix("data.pkl") for name in names if re.fullmatch(r"[^/]+/data\.pkl", name)]
        if len(roots) != 1:
            raise ValueError("it is a zip archive, but not one of tensors")
        self.root = roots[0]
        self.is_script = any(name.startswith(f"{self.root}code/") for name in names)
        storages = sum(info.file_size for info in self.zip.infolist() if info.filename.startswith(f"{self.root}data/"))
        if storages > self.size:  # torch packs code, never tensors
            raise ValueError(f"its tensors claim {storages:,} bytes, the file has {self.size:,}")
        if f"{self.root}byteorder" in names:
            self.big_endian = self._member("byteorder", 16) == b"big"
        self.seen: dict[str, Storage] = {}
        self.content = evaluate(io.BytesIO(self._member("data.pkl", MAX_PICKLE)), seen=self.seen, strict=strict)

    def _member(self, name: str, most: int) -> bytes:
        try:
            info = self.zip.getinfo(self.root + name)
        except KeyError:
            raise ValueError(f"it lacks {name[:80]!r}") from None
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile unpacks others without bounds
            raise ValueError(f"its {name[:80]!r} is packed in a way that PyTorch does not use")
        if info.file_size > most:
            raise ValueError(f"its {name[:80]!r} claims {info.file_size:,} bytes, more than {most:,}")
        with self.zip.open(info) as member:
            return member.read(info.file_size)  # with a size, so that a packed member cannot unpack to more

    def storage_bytes(self, key: str, size: int) -> bytes:
        """One member of the archive."""
        return self._member(f"data/{key}", size)

    def views(self) -> dict[str, View]:
        """The tensors of the state dict, unread; for TorchScript those of its module."""
        if not self.is_script:
            return super().views()
        if not isinstance(self.content, Node):
            raise ValueError("it is a TorchScript archive without a module")
        return _module_state(self.content, self._registered())

    def _registered(self) -> dict[str, set[str] | None]:
        """Per TorchScript module class the names of its parameters and buffers (None: it does not say), out of the text of
        the archive's code: beside them a module may have tensors that are no part of its state dict."""
        prefix = f"{self.root}code/"
        code = [i for i in self.zip.infolist() if i.filename.startswith(prefix) and i.filename.endswith(".py")]
        if sum(info.file_size for info in code) > MAX_CODE:
            raise ValueError(f"its code claims more than {MAX_CODE:,} bytes")
        registered: dict[str, set[str] | None] = {}
        for info in code:
            text = self._member(info.filename.removeprefix(self.root), MAX_CODE).decode(errors="replace")
            module = info.filename.removeprefix(prefix).removesuffix(".py").replace("/", ".")
            for name, head in re.findall(r"^class (\w+)\(Module\):\n((?:  __\w+__ = \[.*\]\n)*)", text, re.MULTILINE):
                says = "__parameters__" in head and "__buffers__" in head
                registered[f"{module}.{name}"] = set(re.findall(r'"([^"]*)"', head)) if says else None
        return registered


class _LegacyArchive(_Archive):
    """The format before torch 1.6."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.size = file, file.seek(0, io.SEEK_END)
        file.seek(0)
        pickles = io.BytesIO(file.read(MAX_PICKLE))
        if evaluate(pickles, 100) != LEGACY_MAGIC or evaluate(pickles) != LEGACY_PROTOCOL:
            raise ValueError("it is no file of PyTorch")
        evaluate(pickles)  # the sizes of C types on the machine that wrote it
        self.storages: dict[str, Storage] = {}
        self.content = evaluate(pickles, seen=self.storages)
        self.spans: dict[str, tuple[int, int]] = {}  # (first byte, bytes)
        keys, start = evaluate(pickles), pickles.tell()
        for key in keys if isinstance(keys, list) else []:
            if not isinstance(key, str) or key not in self.storages or key in self.spans:
                raise ValueError("its list of storages does not fit its tensors")
            file.seek(start)
            (numel,) = struct.unpack("<q", file.read(8))
            size = numel * self.storages[key].dtype.itemsize
            if not 0 <= size <= self.size - start - 8:
                raise ValueError(f"its storages claim {size:,} bytes, the file has {self.size:,}")
            self.spans[key] = start + 8, size
            start += 8 + size

    def storage_bytes(self, key: str, size: int) -> bytes:
        """One span of the file, of those listed behind its pickles."""
        start, stored = self.spans.get(key, (0, -1))
        if stored != size:
            raise ValueError(f"the storage {key[:80]!r} does not have the {size:,} bytes that are claimed")
        self.file.seek(start)
        return self.file.read(size)


def _module_state(module: Node, registered: dict[str, set[str] | None]) -> dict[str, View]:
    """The state dict of a TorchScript module: the tensors among its attributes and, below their names, those of its modules."""
    count = 0

    def walk(node: Node, prefix: str, depth: int) -> Iterator[tuple[str, View]]:
        nonlocal count
        if (registered and node.kind not in registered) or not isinstance(node.state, dict):
            return
        count += len(node.state)
        if count > MAX_ATTRIBUTES or depth > MAX_DEPTH:
            raise ValueError("its modules are nested without end")
        names = registered.get(node.kind)
        for key, value in node.state.items():
            if len(prefix) + len(key) > MAX_NAME:  # of all modules around it: a long one would be copied for each tensor
                raise ValueError(f"a name in it has {len(prefix) + len(key):,} characters")
            if isinstance(value, View) and (names is None or key in names):
                yield prefix + key, value
            elif isinstance(value, Node) and value.kind.startswith("__torch__."):
                yield from walk(value, f"{prefix}{key}.", depth + 1)

    return dict(walk(module, "", 0))
