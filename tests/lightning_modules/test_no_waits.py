"""A training step never waits for the GPU, whatever the method. A fake GPU notes what would."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from fake_gpu import CUDA, HOST, fake_gpu, on_gpu
from small_runs import parts
from toys import NAMES, Toy, toy_clip

from prompts.aape import AAPE
from prompts.cocoop import CoCoOp
from prompts.coop import CoOp
from prompts.dpl import DPL
from prompts.dpl_search import DPLSearch
from prompts.kgcoop import KgCoOp
from prompts.maple import MaPLe
from prompts.pomp import POMP
from prompts.promptsrc import PromptSRC
from prompts.rpp import RPP


def teacher():
    clip = toy_clip()
    on_gpu(clip)
    return clip


SAMPLED = {"num_sampled_classes": 2}
LENGTHS = {"text": [2, 1], "image": [1, 2]}
METHODS = {
    "coop": lambda: CoOp(2),
    "coop, a context for each class": lambda: CoOp(2, class_context=True),
    "cocoop": lambda: CoCoOp(2, init=None),
    "kgcoop": lambda: KgCoOp(2, init=None),
    "maple, lengths by block": lambda: MaPLe(prompt_lengths=LENGTHS),
    "promptsrc": lambda: PromptSRC(2, 2, 2, 2),
    "pomp": lambda: POMP(2, local_contrast=SAMPLED),
    "rpp, sampled": lambda: RPP(2, 2, 2, 2, local_contrast=SAMPLED, distillation={"teacher": teacher}),
    "dpl": lambda: DPL(prompt_lengths=LENGTHS),
    "dpl_search": DPLSearch,
    "aape": lambda: AAPE({name: [name, f"a {name} outside"] for name in NAMES}),
}


def ready(learner, device=CUDA, **options):
    """A module whose model is on the fake GPU, or on the CPU, and the batches of an epoch on the host."""
    options["alternating_batch_size"] = 6 if isinstance(learner, DPLSearch) else 0
    data, model, module = parts(learner=learner, tests=[("base", "base")], **options)
    if device == CUDA:
        on_gpu(model)
    module.log = lambda *_, **__: None
    module._device = device
    strategy = SimpleNamespace(reduce=lambda loss, reduce_op: loss)
    counts = {"world_size": 1, "accumulate_grad_batches": 1, "current_epoch": 0, "global_step": 0, "num_training_batches": 99}
    module._trainer = SimpleNamespace(**counts, strategy=strategy, precision="32-true", gradient_clip_val=None)
    module._trained = module.trainable
    module._trainer.optimizers = [module.configure_optimizers()]
    module.step_losses.epochs.append([0.0, 0])
    return module, list(data.train_loader())


def step(module, batch, number):
    """What a step runs of ours, and the backward pass; the update is torch's own."""
    module._trainer.global_step = number
    batch = module.transfer_batch_to_device(batch, module.device, 0)
    module.on_train_batch_start(batch, number)
    loss = module.training_step(batch, number)
    loss.backward()
    module.on_before_optimizer_step(module._trainer.optimizers[0])
    return loss


@pytest.mark.parametrize("name", METHODS)
def test_no_step_waits_for_the_gpu(name):
    module, batches = ready(METHODS[name]())
    for number, batch in enumerate(batches[:2]):  # class lists are laid out and fixed text is encoded once
        with fake_gpu():
            step(module, batch, number)
        module._trainer.optimizers[0].step()
    with fake_gpu() as gpu:
        step(module, batches[0], 2)
    assert not gpu.waits


class Broken(Toy):
    """A learner whose loss is not finite in one step, counted from 0."""

    def __init__(self, when):
        super().__init__()
        self.when, self.steps = when, 0

    def losses(self, out, labels, index):
        factor = float("nan") if self.steps == self.when else 1.0
        self.steps += 1
        return {name: factor * loss for name, loss in super().losses(out, labels, index).items()}


def test_a_loss_is_looked_at_in_the_next_step_and_its_message_names_its_own():
    module, batches = ready(Broken(1))
    message = r"not finite in epoch 0, step 1 \(ce\): the logits are finite"
    for number in range(2):
        with fake_gpu():
            step(module, batches[number], number)
        module._trainer.optimizers[0].step()  # with gradients that are not finite, in the second step
    with fake_gpu(), pytest.raises(ValueError, match=message):
        step(module, batches[0], 2)


@pytest.mark.parametrize("how", ["on_save_checkpoint", "optimizer_step", "losses"])
def test_a_loss_of_the_last_step_is_looked_at_before_anything_is_made_of_it(how, monkeypatch):
    module, batches = ready(Broken(0))
    message = r"not finite in epoch 0, step 0 \(ce\): the logits are finite"
    monkeypatch.setattr("lightning.pytorch.LightningModule.optimizer_step", lambda *_: None)
    with fake_gpu():
        step(module, batches[0], 0)
        module.model.learner.up.data[:] = float("nan")  # by the update
        with pytest.raises(ValueError, match=message):
            {
                "on_save_checkpoint": lambda: module.on_save_checkpoint({}),
                "optimizer_step": lambda: module.optimizer_step(0, 98),
                "losses": lambda: module.losses,
            }[how]()


def test_prompts_that_an_earlier_update_broke_are_named():
    module, batches = ready(Toy())
    with fake_gpu():
        step(module, batches[0], 0)
        module.model.learner.down.data[0, 0] = float("inf")
        step(module, batches[1], 1)
        module.model.learner.up.data[:] = float("nan")  # by the update that follows the broken loss
        with pytest.raises(ValueError, match=r"step 1 \(ce\): the prompts are not finite any more \(learner.down\)"):
            module.step_losses.read()


def test_the_sums_of_an_epoch_are_those_of_a_cpu():
    sums = []
    for device, kind in ((CUDA, fake_gpu), (HOST, nullcontext)):
        module, batches = ready(Toy(), device)
        for number, batch in enumerate(batches):
            with kind():
                step(module, batch, number)
            module._trainer.optimizers[0].step()
        with kind():
            sums.append(module.losses)
    assert sums[0] == sums[1]
    assert sums[0][0][1] == len(batches) > 1
