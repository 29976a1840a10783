"""The published implementations' numbers: logits, loss and gradients of every case in the folder GOLDEN_DIR (default: `golden`
beside this file). A new case is a file there; `golden_cases.py` reads it."""

import pytest
import torch
import torch.nn.functional as F
from golden_cases import FOLDER, case_names, learner_of, read_case

from prompts.learner import TrainInfo
from prompts.parts.context import fixed_plan
from prompts.parts.local_contrast import class_sample
from prompts.prompted_clip import PromptedCLIP

TOLERANCE = 1e-4  # max|a-b| / max|b|, float32 on a CPU


def released_layout(learner, out, labels, sampled):
    """POMP's logits in the layout of its code: the true class, then the sampled ones; and where these are the true class."""
    logits = learner.local_contrast.corrected(out.logits, out.sample, len(learner.plan))
    columns = [out.sample.targets[:, None], torch.searchsorted(out.sample.ids, sampled).expand(len(labels), -1)]
    padding = torch.zeros(len(labels), 1, dtype=torch.bool)
    return logits.gather(1, torch.cat(columns, 1)), torch.cat([padding, sampled == labels[:, None]], 1)


def agrees(name, ours, golden):
    ours, golden = ours.detach().flatten().float(), golden.flatten().float()
    error = (ours[: len(golden)] - golden).abs().max() / golden.abs().max()
    assert error < TOLERANCE, f"{name}: off by {error:.1e} of its largest entry"


@pytest.mark.parametrize(("file", "case"), [pytest.param(*names, id="-".join(names)) for names in case_names()])
def test_case(file, case):
    check_case(read_case(FOLDER, file, case))


def check_case(case):
    """Checks that our learner gives all numbers of the case."""
    golden, classnames = case.golden, case.inputs["classnames"]
    learner, ours = learner_of(case)
    model = PromptedCLIP(case.clip, learner)
    model.setup(TrainInfo(classnames, num_images=0, alternating=True))
    if case.name != "coop_init":  # which must start where the published code starts
        model.load_prompt_state({ours.get(k, k): v for k, v in case.params.items()}, classnames)
    labels = torch.tensor(case.inputs["labels"])
    sampled = golden["sampled"].long() if "sampled" in golden else None
    sample = None if sampled is None else class_sample(labels, sampled[None], torch.zeros_like(labels))
    out = model(case.images, sample)
    if sampled is None:
        agrees("logits", out.logits, golden["logits"])
    else:
        logits, masked = released_layout(learner, out, labels, sampled)
        assert ((golden["logits"] < -1e5) == masked).all()
        agrees("logits", logits[~masked], golden["logits"][~masked])
    read = {"logits", "sampled"} & golden.keys()
    read |= check_zeroshot(case, learner, out) if case.name == "zeroshot" else check_training(case, model, out, labels, ours)
    assert golden.keys() == read, f"{case.name} holds tensors that no check read: {golden.keys() - read}"


def check_zeroshot(case, learner, out):
    """Features and token ids -> the names of the outputs that were read."""
    golden, classnames = case.golden, case.inputs["classnames"]
    agrees("image_features", F.normalize(out.image_features, dim=-1), golden["image_features"])
    agrees("text_features", F.normalize(out.text_features, dim=-1), golden["text_features"])
    (plan,) = [fixed_plan(case.clip, classnames, template) for template in learner.templates]
    for row, tokens in enumerate(golden["tokens"]):
        n = len(plan.prefix) + int(plan.lengths[row])
        assert [*plan.prefix.tolist(), *plan.rows[row].tolist()][:n] == tokens[:n].tolist()
        assert not tokens[n:].any()
    return {"image_features", "text_features", "tokens"}


def check_training(case, model, out, labels, ours):
    """The loss, its parts and all gradients -> the names of the outputs that were read."""
    golden, learner = case.golden, model.learner
    terms = {name: t.mean() for name, t in model.losses(out, labels, torch.arange(len(labels))).items()}
    loss = sum(terms.values())
    loss.backward()
    agrees("loss", loss, golden["loss"])
    tensors = dict(learner.named_parameters())
    for name in case.params:
        gradient = tensors[ours.get(name, name)].grad
        agrees(f"gradient of {name}", gradient, golden[f"grad|{name}"])
        agrees(f"gradient norm of {name}", gradient.norm(), golden[f"grad_norm|{name}"])
    assert not any(golden[f"grad|{name}"].numel() or golden[f"grad_norm|{name}"] for name in case.empty)
    assert {n for n, p in tensors.items() if p.grad is not None} == {ours.get(n, n) for n in case.params}
    read = {"loss"} | {f"{kind}|{name}" for kind in ("param", "grad", "grad_norm") for name in (*case.params, *case.empty)}
    if case.name == "kgcoop":
        for name, part in {"ce": "ce", "knowledge": "kg"}.items():
            agrees(f"loss part {part}", terms[name], golden[f"part|{part}"])
        agrees("anchor_text_features", learner.teacher.text(), golden["anchor_text_features"])
        read |= {"part|ce", "part|kg", "anchor_text_features"}
    if case.name.startswith("promptsrc"):
        for name, term in terms.items():
            agrees(f"loss part {name}", term, golden[f"part|{name}"])
        agrees("teacher_text_features", learner.teacher.text(), golden["teacher_text_features"])
        agrees("teacher_logits", learner.teacher.logits(learner.teacher.image(out.pixels)), golden["teacher_logits"])
        read |= {f"part|{name}" for name in terms} | {"teacher_text_features", "teacher_logits"}
    return read
