"""Files of Hugging Face's hub, by open_clip's own download, each failure one sentence."""

from __future__ import annotations

import urllib.error
from pathlib import Path
from typing import Any

from open_clip.pretrained import download_pretrained, download_pretrained_from_hf

from files.untrusted import read_json
from prompts.engine import weight_folder
from prompts.engine.transformers_config import tensor_files

WAYS_OUT = (
    "give a local file (clip.weights=/path/to/weights.safetensors or OpenAI's .pt), or use clip=tiny, which needs no download"
)
MAX_INDEX_BYTES = 16 * 2**20
FAILURES = (OSError, urllib.error.URLError, RuntimeError)


def tag_weights(tag: dict[str, Any], what: str) -> str:
    """The path of the weights of a tag of open_clip's, downloaded at first. ValueError where they cannot be had."""
    try:
        return download_pretrained(tag)
    except FAILURES as error:
        raise ValueError(f"{what} cannot be downloaded, the hub is out of reach: {WAYS_OUT}.") from error


def hub_file(hub_id: str, name: str) -> str:
    """The path of a file of a repository on the hub, downloaded at first. ValueError where it cannot be had."""
    try:
        return download_pretrained_from_hf(hub_id, filename=name)
    except FAILURES as error:
        raise _unreachable(hub_id) from error


def optional_file(hub_id: str, name: str) -> str | None:
    """As `hub_file`, but None where the repository has no such file."""
    try:
        return download_pretrained_from_hf(hub_id, filename=name)
    except FAILURES as error:
        if _is_absent(hub_id, name, error):
            return None
        raise _unreachable(hub_id) from error


def hub_weights(hub_id: str, transformers: bool) -> str:
    """The path of a repository's weights: one file, or the index of several, which are then there too."""
    if not transformers:
        try:
            return download_pretrained_from_hf(hub_id)
        except FAILURES as error:
            raise _unreachable(hub_id) from error
    for name in weight_folder.TRANSFORMERS_WEIGHTS:
        if (path := optional_file(hub_id, name)) is not None:
            if name.endswith(weight_folder.INDEX_END):
                index = read_json(path, "the index of CLIP weights", MAX_INDEX_BYTES)
                for part in tensor_files(index, f"the index of hf-hub:{hub_id}"):
                    hub_file(hub_id, part)
            return path
    raise ValueError(f"the CLIP hf-hub:{hub_id} has no weights named {weight_folder.TRANSFORMERS_WEIGHTS[0]} or the like.")


def _is_absent(hub_id: str, name: str, error: BaseException) -> bool:
    """Whether the hub has said, now or at an earlier download, that a repository has no such file."""
    import huggingface_hub
    from huggingface_hub import errors

    cause = error.__cause__ or error.__context__
    if isinstance(cause, errors.EntryNotFoundError) and not isinstance(cause, errors.LocalEntryNotFoundError):
        return True
    cached = huggingface_hub.try_to_load_from_cache(hub_id, name)
    return cached is not None and not isinstance(cached, str | Path)  # a mark that it does not exist


def _unreachable(hub_id: str) -> ValueError:
    return ValueError(f"the CLIP hf-hub:{hub_id} cannot be downloaded, the hub is out of reach or has no such id: {WAYS_OUT}.")
