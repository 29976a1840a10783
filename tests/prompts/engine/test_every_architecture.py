"""Every architecture that open_clip names, built small: its features are open_clip's own, and the methods that it allows train.

docs/towers.md holds the table that comes of it. `make towers` writes it again.
"""

import importlib.util
import os
import re
from copy import deepcopy
from functools import cache

import open_clip
import pytest
import torch
from small_models import SMALL_HF, small_clip, small_config, small_key
from test_methods import METHODS, NAMES, make, model_of
from toys import ROOT

from prompts.engine.hf_text import HFTextTower
from prompts.engine.image_tower import OpaqueImageTower
from prompts.engine.padded_text import PaddedTextTower
from prompts.parts.context import fixed_plan

TABLE = ROOT / "docs" / "towers.md"
START, END = "<!-- the table of tests/prompts/engine/test_every_architecture.py -->", "<!-- end of the table -->"
HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
SETTINGS = {"coop": {"n_ctx": 8}}  # as one text tower has room for 16 tokens only
GROUPS: dict[str, list[str]] = {}
for _name in open_clip.list_models():
    GROUPS.setdefault(small_key(_name), []).append(_name)
ONE_OF_EACH = [names[0] for names in GROUPS.values()]
REFUSALS = ("image tower is .*: use a ViT, or a method that leaves", "takes prompts at its input alone")


def is_hf(name):
    return "hf_model_name" in open_clip.get_model_config(name)["text_cfg"]


def clip_of(name):
    if is_hf(name) and not HAS_TRANSFORMERS:
        pytest.skip("its text tower needs the package transformers")
    return small_clip(name)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_without_prompts_it_is_open_clip(name):
    clip, size = clip_of(name), small_config(name)[0]["vision_cfg"]["image_size"]
    images, template = torch.randn(2, 3, size, size), "a photo of a {}."
    with torch.no_grad():
        theirs = (
            clip.model.encode_image(images, normalize=False),
            clip.model.encode_text(clip.tokenizer([template.format(n) for n in NAMES]), normalize=False),
        )
        ours = clip.encode_image(images), clip.encode_text(fixed_plan(clip, NAMES, template))
    for a, b in zip(ours, theirs, strict=True):
        assert b.std() > 0.1  # not so small that anything would be equal
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
        assert a.shape[1] == clip.embed_dim


@cache
def made(method):
    return make(method, **SETTINGS.get(method, {}))


def learner_of(method):
    """A learner of the method, whose teacher has one template: each is a pass of the text tower."""
    learner = deepcopy(made(method))
    if teacher := getattr(learner, "teacher", None):
        teacher.templates = teacher.templates[:1]
    return learner


def refused(name):
    """The methods that refuse the architecture, having trained each of the others for a step."""
    clip, refusals = small_clip(name), []
    size = clip.image_spec["size"]
    images, labels = torch.randn(4, 3, size, size), torch.arange(4)
    for method in METHODS:
        try:
            model = model_of(clip, learner_of(method))
            out = model(images)
        except ValueError as error:
            why = str(error)
            refusals.append((method, why))
            continue
        if not model.learner.uses_gradients:
            assert out.logits.isfinite().all()
            continue
        optimiser = torch.optim.SGD(model.learner.parameters(), lr=0.01)
        sum(part.mean() for part in model.losses(out, labels, labels).values()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.learner.parameters()), method
        optimiser.step()
        with torch.no_grad():
            assert not torch.equal(model(images).logits, out.logits), method
    assert all(any(re.search(refusal, why) for refusal in REFUSALS) for _, why in refusals), refusals
    return [method for method, _ in refusals]


def without(clip):
    """The methods that cannot be used with the kind of its towers."""
    visual = [method for method in METHODS if made(method).visual_prompts]
    if isinstance(clip.image_tower, OpaqueImageTower):
        return visual
    # those that prompt the text tower's blocks; VPT prompts the other tower
    return [method for method in visual if method != "vpt"] if isinstance(clip.text_tower, HFTextTower) else []


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_every_method_that_it_allows_trains(name):
    clip = clip_of(name)
    assert refused(name) == without(clip)


def kinds(name):
    """A row of the table but for its names: the towers in words, what runs, and the methods that are refused, as the test above
    finds them."""
    clip = small_clip(name)
    text, image = clip.text_tower, clip.image_tower
    if isinstance(text, HFTextTower):
        texts = f"transformers' {small_config_type(name)}"
    elif isinstance(text, PaddedTextTower):
        at = {"last": "the last position", "cls": "a class row", "argmax": "EOT", "eos": "EOT", "first": "the first position"}
        texts = f"{'causal' if text.causal else 'not causal'}, feature at {at[text.pool]}"
    else:
        texts = "causal, feature at EOT"
    if isinstance(image, OpaqueImageTower):
        images = image.kind
    else:
        maker = "timm's" if hasattr(clip.model.visual, "trunk") else "open_clip's"
        images = f"{maker} ViT, feature of {'all rows' if image.reads_all else 'CLS'}"
    runs = "text side only" if isinstance(image, OpaqueImageTower) else "all"
    runs = "all but deep text prompts" if isinstance(text, HFTextTower) else runs
    return texts, images, runs, ", ".join(without(clip)) or "none"


def small_config_type(name):
    return SMALL_HF[open_clip.get_model_config(name)["text_cfg"]["hf_model_name"]]["model_type"]


def read_table():
    """{name of an architecture: the rest of its row}"""
    lines = TABLE.read_text().split(START)[1].split(END)[0].strip().splitlines()[2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name.strip(): tuple(row[:-1]) for row in cells for name in row[-1].split(",")}


def write_table(rows):
    groups = {}
    for name, row in rows.items():
        groups.setdefault(row, []).append(name)
    lines = ["| text tower | image tower | prompts | methods refused | architectures |", "|---|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} | {', '.join(names)} |" for row, names in sorted(groups.items())]
    before, rest = TABLE.read_text().split(START)
    TABLE.write_text(f"{before}{START}\n\n" + "\n".join(lines) + f"\n\n{END}{rest.split(END)[1]}")


def test_the_table_is_what_was_found():
    found = {name: kinds(names[0]) for names in GROUPS.values() if HAS_TRANSFORMERS or not is_hf(names[0]) for name in names}
    if os.environ.get("WRITE_TOWERS"):
        write_table({name: row for name, row in read_table().items() if name not in found} | found)
    table = read_table()
    assert set(table) == set(open_clip.list_models())
    assert {name: table[name] for name in found} == found
