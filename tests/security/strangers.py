"""Valid files, of which a test changes some values to play an attacker."""

import json
from functools import cache

from fakes import ACCURACY, guessed, put  # noqa: F401 - for the tests
from toys import NAMES, ROOT, TESTS, toy_clip

from lightning_modules.checkpoints import PROMPTS, save_prompts
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.learner import TrainInfo
from prompts.maple import MaPLe
from prompts.prompted_clip import PromptedCLIP
from prompts.promptsrc import PromptSRC
from prompts.rpp import RPP
from runs import jobs

SCRIPT = "<script>alert(1)</script>"
MARKUP = "<img src=x onerror=alert(1)>"
ESCAPE = "\x1b[2J\x1b]0;owned\x07"


CLASS = "metrics.test.per_class.0"
SECRET = "open-sesame-4711"
LENGTHS = {"text": [1, 1], "image": [1, 0]}
DEEP = {"n_text": 2, "n_image": 2, "depth_text": 2, "depth_image": 2, "init": None}
MADE = {  # method -> a learner, its settings, and the keys whose texts could be resolved
    "coop": (lambda: CoOp(n_ctx=2), {"n_ctx": 2, "init": None}, ("init", "position")),
    "maple": (lambda: MaPLe(n_ctx=2, depth=2), {"n_ctx": 2, "depth": 2, "init": None}, ("init", "prompt_lengths")),
    "dpl": (lambda: DPL(LENGTHS), {"prompt_lengths": LENGTHS}, ("template", "teacher_templates")),
    "dpl_search": (lambda: DPLSearch([0, 1]), {"lengths": [0, 1]}, ("template", "lengths")),
    "promptsrc": (lambda: PromptSRC(2, 2, 2, 2), DEEP, ("init", "prompt_lengths")),
    "rpp": (lambda: RPP(2, 2, 2, 2), DEEP, ("distillation", "init")),
}


# ---------------------------------------------------------------- prompts.safetensors


def payloads(harm):
    call = f"${{oc.create:{{_target_: os.mkdir, path: {harm}}}}}"
    yield from (call, [call], {"text": call}, {"text": [call], call: 1})
    yield from ("${oc.env:SECRET}", ["${oc.env:SECRET}"], {"image": "a ${oc.env:SECRET}"})


@cache
def model_of(method):
    model = PromptedCLIP(toy_clip(), MADE[method][0]())
    model.setup(TrainInfo(NAMES, 4, fit=False))
    return model


def save(folder, method, settings, **about):
    own = MADE[method][1] | settings
    about = {"method": method, "clip": "toy", "settings": own, "shots": 4, "seed": 1, **about}
    save_prompts(folder / PROMPTS, model_of(method), about)
    return folder


@cache
def composed(method):
    groups = ["clip=toy", "data=toy", "trainer=cpu", "callbacks=none", "logger=none", "fit=false", "shots=4", "ckpt=x"]
    search = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
    return jobs.compose_job([search, *groups, f"method={method}"], ROOT / "conf")


# ---------------------------------------------------------------- result.json


def valid():
    metrics, _ = guessed(0.5)
    names = {"method": "coop", "data": "shapes", "clip": "tiny", "protocol": "few_shot"}
    return {
        "version": 1,
        "task": "classification",
        "digest": "d1",
        "names": names,
        "seed": 1,
        "shots": 16,
        "figure": dict(ACCURACY),
        "metrics": {"test": metrics},
        "summary": {"S": {"function": "mean", "evaluations": ["test"], "value": 50.0}},
        "stages": [{"test": 40.0}],
        "epoch": 5,
        "config": {"fit": True, "method": {"n_ctx": 4}},
        "train_loss": [1.0, 0.5],
        "seconds": 3.5,
        "versions": {"torch": "2"},
        "history": [{"epoch": 4, "test": {"accuracy": 50.0, "macro_f1": 49.0}}],
        "trainable_parameters": 512,
    }


def with_(path, value):
    """The valid result with another value at a dotted path; "" replaces all of it."""
    result = valid()
    node, keys = result, path.split(".")
    for key in keys[:-1]:
        node = node[int(key) if isinstance(node, list) else key]
    node[int(keys[-1]) if isinstance(node, list) else keys[-1]] = value
    return json.dumps(result)


def stranger(folder, content):
    path = folder / "stranger" / "result.json"
    path.parent.mkdir()
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path
