"""Damaged files of CLIP weights and prompts, of every kind, and weights that no CLIP has: a sentence or a state."""

import io
import os
import zipfile

import pytest
import torch
from archive_files import script, zipped
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn
from toys import ROOT

from prompts.engine.clip import load_clip
from prompts.engine.weights import read_weights
from prompts.parts.published import read_published

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*:FutureWarning", "ignore:.torch.jit.*:DeprecationWarning")
TINY = ROOT / "prompts/engine/tiny_clip"


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
            tensors = read(path)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 - either end is right
        else:
            state = tensors if isinstance(tensors, dict) else tensors.state
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


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_kind_of_number(tmp_path, dtype):
    state = load_file(TINY / "weights.safetensors")
    state["ln_final.weight"] = state["ln_final.weight"].to(dtype)
    save_file(state, tmp_path / "x.safetensors")
    with pytest.raises(
        ValueError,
        match=r"do not fit the architecture .*: a tensor differs: ln_final.weight, which holds numbers of type \w+\.$",
    ):
        load_clip(str(TINY / "config.json"), str(tmp_path / "x.safetensors"))
