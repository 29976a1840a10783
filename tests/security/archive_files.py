"""Files of tensors for the tests of archives: TorchScript, and zip archives whose pickle claims what a test wants."""

import io
import pickle
import struct
import warnings
import zipfile
from collections import OrderedDict

import torch


def script(module, path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(module).save(path)
    return path


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
        entry = content.rfind(b"PK\x01\x02")
        content[entry + 20 : entry + 28] = struct.pack("<II", size, size)
        path.write_bytes(content)
    return path
