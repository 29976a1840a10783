"""Prompts on Hugging Face's hub: `hf-hub:ORGANISATION/NAME`, perhaps with `@REVISION`. What comes from there is data alone."""

from __future__ import annotations

import re

PREFIX = "hf-hub:"
PROMPTS = "prompts.safetensors"
NAME = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}(@[\w./-]{1,100})?", re.ASCII)


def repository(given: str) -> tuple[str, str | None]:
    """The repository and the revision, if it has one. ValueError where it is no such id."""
    name = given.removeprefix(PREFIX)
    if not NAME.fullmatch(name) or ".." in name:
        raise ValueError(f"{given!r:.120} is no repository: write {PREFIX}ORGANISATION/NAME, perhaps with @REVISION behind it.")
    repo, _, revision = name.partition("@")
    return repo, revision or None


def fetched(given: str) -> str:
    """The path of the prompts, downloaded at first; a path on this disk as it is. ValueError where they cannot be had."""
    if not given.startswith(PREFIX):
        return given
    repo, revision = repository(given)
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    try:
        return hf_hub_download(repo, PROMPTS, revision=revision)
    except EntryNotFoundError as error:
        if not isinstance(error, LocalEntryNotFoundError):
            raise ValueError(f"{given} has no {PROMPTS}: it was not shared by `python -m tools.share`.") from error
        raise ValueError(_out_of_reach(given)) from error
    except (OSError, ValueError) as error:  # no network, no such repository, no right to read it
        raise ValueError(_out_of_reach(given)) from error


def _out_of_reach(given: str) -> str:
    return (
        f"{given} cannot be downloaded: the hub is out of reach, has no such repository or revision, or wants a login "
        "(HF_TOKEN)."
    )
