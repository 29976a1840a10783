"""Files of reference prompts: which classes of a dataset they serve, and how to have one written by a language model.

python -m tools.prompt_bank check PATH data=NAME [data_root=PATH] [limit=20]
python -m tools.prompt_bank ask data=NAME endpoint=URL model=NAME out=PATH [yes=true]
    [completions=10] [temperature=0.99] [max_tokens=50] [per_minute=60] [price_in=] [price_out=]
    [questions=FILE] [key_env=API_KEY]
python -m tools.prompt_bank shapes PATH

`check` says which classes have no prompts and which names were matched how; its exit status is 1 where some have none. PATH is
a file, or a folder of the published files.
`ask` prints the number of requests, the time and the cost, and asks only with yes=true; interrupted, the same command goes on.
The key to the endpoint is read from the environment variable that key_env names. `shapes` writes the sentences that come with
data=shapes. docs/aape.md says more.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from datamodules.descriptions import shape_descriptions
from datamodules.disk import Disk
from files.whole import write_json
from prompts.parts.prompt_folders import file_of
from prompts.parts.reference_prompts import match_names, read_prompt_file
from tools.ask_prompts import Bank, Endpoint, questions_of
from tools.dataset_config import dataset_config, default_options

COMMON = ("data", "data_root")
CHECK = (*COMMON, "limit")
ASKED = ("completions", "temperature", "max_tokens", "per_minute")
ASK = (*COMMON, "endpoint", "model", "out", "yes", "price_in", "price_out", "questions", "key_env", *ASKED)


def data_of(options: dict[str, Any]) -> DictConfig:
    """The config of options["data"]. ValueError where none is named, or it is not known."""
    if not options.get("data"):
        raise ValueError("say which dataset with data=NAME.")
    given = {key: options[key] for key in COMMON if key in options}
    return OmegaConf.merge(default_options(), given, {"data": dataset_config(options["data"])}).data


def class_names(data: DictConfig) -> list[str]:
    """The class names of a dataset's config, in the order of its labels. ValueError where its files are not there."""
    node = data.source
    source = instantiate(node.get("disk", node), _convert_="all")
    return (source.preview() if isinstance(source, Disk) else source.splits(1)).classnames


def check(path: str, options: dict[str, Any]) -> int:
    """Prints which classes the file, or the dataset's file in a folder, serves, and how their names were matched. 1 where a
    class has no prompts, else 0."""
    data = data_of(options)
    path = str(file_of(Path(path), data.name))
    names, content = list(dict.fromkeys(class_names(data))), read_prompt_file(path)
    matches, limit = match_names(names, list(content)), int(options.get("limit", 20)) or None
    ways: dict[str, list[str]] = {}
    for name, (key, how) in matches.items():
        ways.setdefault(how, []).append(f"{name!r} is {key!r} there")
    used = {key for key, _ in matches.values()}
    counts = [len(content[key]) for key in used if content[key]]
    repeated = sum(len(content[key]) - len(set(content[key])) for key in used)
    missing = [name for name in names if name not in matches or not content[matches[name][0]]]
    print(f"{'BAD ' if missing else 'ok  '} {path}: {len(names) - len(missing)} of {len(names)} classes have prompts")
    if counts:
        print(f"     {min(counts)} to {max(counts)} prompts a class, {repeated} of {sum(counts)} are repeats")

    def print_list(title: str, lines: list[str]) -> None:
        more = f", ... (limit=0 lists all {len(lines)})" if limit and len(lines) > limit else ""
        print(f"     {title}: {', '.join(lines[:limit])}{more}" if lines else f"     {title}: none")

    print(f"     matched as it is: {len(ways.pop('as it is', []))}")
    for how, lines in ways.items():
        print_list(f"matched {how} ({len(lines)})", lines)
    print_list("entries that no class uses", sorted(set(content) - used))
    print_list("classes without prompts", missing)
    return 1 if missing else 0


def ask(options: dict[str, Any]) -> int:
    """Prints the number of requests, the time and the cost, and with yes=true asks and writes the file. Returns the exit
    status.

    Raises:
        ValueError: an option is missing or out of range, or the endpoint fails.
    """
    absent = [key for key in ("data", "endpoint", "model", "out") if not options.get(key)]
    if absent:
        raise ValueError(f"ask needs {' '.join(f'{key}=...' for key in absent)}; see python -m tools.prompt_bank")
    endpoint = Endpoint(
        str(options["endpoint"]),
        str(options["model"]),
        os.environ.get(options.get("key_env", "API_KEY"), ""),
        **{key: options[key] for key in ASKED if key in options},
    )
    if not endpoint.url.startswith(("http://", "https://")) or endpoint.per_minute <= 0 or endpoint.completions < 1:
        raise ValueError(
            "ask needs an endpoint= that starts with http:// or https://, per_minute above 0, completions of 1 or more."
        )
    bank = Bank(
        options["out"], class_names(data_of(options)), questions_of(options["data"], options.get("questions")), endpoint
    )
    print(bank.estimate(options.get("price_in"), options.get("price_out")))
    if not options.get("yes"):
        print("nothing was asked: add yes=true")
        return 0
    bank.fill()
    print(f"wrote {bank.path}; python run.py method=aape data={options['data']} method.prompts={bank.path}")
    return 0


def main(arguments: list[str]) -> int:
    """The command; its exit status."""
    try:
        match arguments:
            case ["check", path, *rest] if "=" not in path:
                return check(path, parsed(rest, CHECK))
            case ["ask", *rest]:
                return ask(parsed(rest, ASK))
            case ["shapes", path]:
                write_json(path, shape_descriptions(), indent=1)
                return 0
        print(__doc__)
        return 0 if arguments in ([], ["-h"], ["--help"]) else 1
    except (ValueError, OSError) as error:
        print(error, file=sys.stderr)
        return 1


def parsed(arguments: list[str], known: tuple[str, ...]) -> dict[str, Any]:
    """Options by key. ValueError for an argument that is no KEY=VALUE with a known key."""
    for argument in arguments:
        if "=" not in argument or argument.partition("=")[0] not in known:
            raise ValueError(f"{argument} is not understood; keys here: {', '.join(known)}")
    return OmegaConf.to_container(OmegaConf.from_dotlist(arguments))  # type: ignore[return-value]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
