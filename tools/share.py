"""Shares the prompts of a finished run, with a card that describes them.

    python -m tools.share RUN_FOLDER --to my-name/coop-eurosat   # to Hugging Face's hub; log in first (HF_TOKEN)
    python -m tools.share RUN_FOLDER --to ./shared               # the same files in a folder, to look at or to put elsewhere
    python -m tools.share RUN_FOLDER OTHER_SEEDS... --to ...     # the card has the mean over these runs

Others use them by ckpt=hf-hub:my-name/coop-eurosat. Shared are `prompts.safetensors` of the first run and the card `README.md`:
no image, no weights of the CLIP, no path of this machine but those that the method's own settings hold.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from files.hub import PREFIX, repository
from files.whole import write_bytes, write_text
from lightning_modules.checkpoints import PROMPTS, read_prompts
from runs import launch
from runs.jobs import RESULT
from runs.result import Result, load_result

CARD = "README.md"


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.share", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN_FOLDER", help="the first one's prompts are shared")
    parser.add_argument("--to", required=True, metavar="PLACE", help="ORGANISATION/NAME, or a folder: ./NAME, /PATH")
    parser.add_argument("--license", default="apache-2.0", help="of the prompts, as the hub writes it (default: apache-2.0)")
    parser.add_argument("--private", action="store_true", help="a repository that others do not see")
    return parser.parse_args()


def main() -> None:
    """Uploads, or writes, prompts and card. ValueError for a user's mistake."""
    options = arguments()
    results = [_result(folder) for folder in options.runs]
    if len({(result["digest"], result["task"]) for result in results}) > 1:
        raise ValueError("these runs differ in more than the seed, so they have no mean: share each by itself.")
    prompts = options.runs[0] / PROMPTS
    about = read_prompts(prompts).about
    is_folder = options.to.startswith(("/", ".", "~"))
    text = card(about, results, options.license, PREFIX + options.to if not is_folder else f"FOLDER/{PROMPTS}")
    if is_folder:
        folder = Path(options.to).expanduser()
        write_bytes(folder / PROMPTS, prompts.read_bytes())
        write_text(folder / CARD, text)
        print(f"{folder}: {PROMPTS}, {CARD}")
        return
    print(upload(options.to, {PROMPTS: prompts.read_bytes(), CARD: text.encode()}, options.private))


def _result(folder: Path) -> Result:
    if not (folder / RESULT).is_file() or not (folder / PROMPTS).is_file():
        raise ValueError(f"{folder} holds no finished run with prompts: give the folder that the run printed.")
    return load_result(folder / RESULT)


def upload(place: str, files: dict[str, bytes], private: bool) -> str:
    """Makes the repository where there is none and uploads the files in one commit; its address. ValueError where it is
    refused."""
    from huggingface_hub import CommitOperationAdd, HfApi
    from huggingface_hub.errors import HfHubHTTPError

    repo, revision = repository(place)
    if revision:
        raise ValueError(f"--to {place}: leave out the revision; what is shared is the newest one.")
    operations = [CommitOperationAdd(name, content) for name, content in files.items()]
    try:
        api = HfApi()
        address = api.create_repo(repo, private=private, exist_ok=True)
        api.create_commit(repo, operations, commit_message="Prompts of the CLIP prompt suite")
    except (
        OSError,
        ValueError,
        *HfHubHTTPError.__bases__,
    ) as error:  # no connection, too
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"{place} cannot be uploaded ({reason.rstrip('.')}): log in (HF_TOKEN), or give a folder.") from error
    return str(address)


def card(about: dict[str, Any], results: Sequence[Result], licence: str, ckpt: str) -> str:
    """The card, Markdown with the hub's metadata in front.

    Args:
        about: what the prompts file says of itself.
        results: of one configuration over its seeds.
        ckpt: what users give as ckpt.
    """
    first, names = results[0], results[0]["names"]
    figure, backbone = first["figure"], about.get("backbone") or {}
    rows, metrics = [], []
    for evaluation in first["metrics"]:
        values = [result["metrics"][evaluation][figure["key"]] for result in results]
        spread = f" ± {statistics.pstdev(values):.2f}" if len(values) > 1 else ""
        rows.append(f"| {_cell(evaluation)} | {statistics.mean(values):.2f}{spread} |")
        metrics.append({"type": figure["key"], "name": figure["title"], "value": round(statistics.mean(values), 4)})
    head = {
        "license": licence,
        "library_name": "clip-prompt-suite",
        "tags": ["clip", "prompt-learning", names["method"]],
        "model-index": [
            {
                "name": f"{names['method']} on {names['data']}",
                "results": [
                    {"task": {"type": first["task"]}, "dataset": {"name": name, "type": name}, "metrics": [metric]}
                    for name, metric in zip(first["metrics"], metrics, strict=True)
                ],
            }
        ],
    }
    use = f"python run.py method={names['method']} clip={names['clip']} data=NAME fit=false ckpt={ckpt}"
    shots = "all images" if first["shots"] < 1 else f"{first['shots']} images of each class"
    title = f"{figure['title']}, {figure['unit']}" if figure["unit"] else figure["title"]
    return "\n".join(
        [
            "---",
            yaml.safe_dump(head, sort_keys=False, allow_unicode=True).strip(),
            "---",
            f"# {_cell(names['method'])} on {_cell(names['data'])}",
            "",
            f"Prompts for a frozen CLIP, learned by {_cell(names['method'])} from {shots} of {_cell(names['data'])} "
            f"({len(first.get('classnames', []))} classes, protocol {_cell(names['protocol'])}).",
            "",
            f"    {use}",
            "",
            f"| evaluation | {title} |",
            "|---|---:|",
            *rows,
            "",
            f"Seeds: {', '.join(str(result['seed']) for result in results)}; the prompts are those of seed {first['seed']}. "
            f"Configuration {first['digest']}. Trained numbers: {first.get('trainable_parameters', 0):,}.",
            "",
            "The CLIP that they belong to: " + ", ".join(f"{key} {_cell(str(value))}" for key, value in backbone.items()) + ".",
            "",
        ]
    )


def _cell(text: str) -> str:
    """Text within Markdown: no markup, no cell's end."""
    return "".join(f"\\{c}" if c in "\\|*`[]<>" else c for c in text)


if __name__ == "__main__":
    sys.exit(launch.exit_status_of(main))
