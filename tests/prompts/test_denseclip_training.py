"""DenseCLIP learns: what moves and at which rate, one rank as two, other methods' texts, saved prompts (specification 2.9)."""

import multiprocessing

import pytest
import sizes
import torch
import torch.distributed as dist
from dense_models import NAMES, SMALL, K, check_saved, label_maps, model_of, pictures, step, train
from test_methods import make

from lightning_modules.optimizers import check_gradients, check_groups, make_optimizer
from prompts.denseclip import DenseCLIP
from prompts.engine.clip import FrozenCLIP, build
from prompts.learner import TrainInfo
from prompts.parts.training_draws import Draws, Step
from prompts.prompted_clip import PromptedCLIP

CONFIGS = ["denseclip", "denseclip_pre", "denseclip_text", "clip_fpn"]


@pytest.mark.parametrize("method", CONFIGS)
@pytest.mark.parametrize("kind", ["vit", "resnet"])
def test_2_9_05_only_the_learner_moves_on_a_frozen_clip(small_clip, resnet_clip, method, kind):
    clip = small_clip if kind == "vit" else resnet_clip
    torch.manual_seed(0)
    model = PromptedCLIP(clip, make(method, **SMALL))
    model.setup(TrainInfo(NAMES, 4))
    wanted = {"denseclip": "post", "denseclip_pre": "pre", "denseclip_text": "text", "clip_fpn": "none"}[method]
    assert model.learner.guided.guidance == wanted
    before = {name: t.clone() for name, t in clip.state_dict().items()}
    losses, _ = train(model, clip, 8)
    assert losses[-1] < losses[0] - 0.01
    assert all(torch.equal(t, before[name]) for name, t in clip.state_dict().items())
    assert all(p.grad is not None and p.dtype == torch.float32 for p in model.learner.parameters())
    if method in ("denseclip", "denseclip_text"):  # through the frozen text tower
        assert model.learner.guided.branch.contexts.grad.abs().sum() > 0
    assert model.learner.effective_parameters() == sum(p.numel() for p in model.learner.parameters())


@pytest.mark.parametrize("guidance", ["post", "none"])
@pytest.mark.parametrize("size", ["SMALL", "RESNET"])
def test_2_9_05_the_image_tower_is_fine_tuned_at_a_tenth_of_the_rate(size, guidance):
    clip = FrozenCLIP(build(getattr(sizes, size)), trainable={"image": {"all": 0.1}})
    model = model_of(clip, guidance=guidance)
    before = {name: t.clone() for name, t in clip.model.state_dict().items()}
    _, optimizer = train(model, clip, 1)
    moved = {name for name, t in clip.model.state_dict().items() if not torch.equal(t, before[name])}
    assert moved
    assert all(name.startswith("visual.") for name in moved)
    assert not [name for name in moved if "running" in name]
    assert not model.images_are_frozen
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    head = rates[id(model.learner.head.classifier.conv_seg.weight)]
    assert {rates[id(p)] for p in clip.trained_tensors().values()} == {0.1 * head}
    check_gradients("clip.trainable", clip.trained_tensors().items())


def test_2_9_10_parameter_groups_cover_each_tensor_once(small_clip):
    """The schedule is tested with its task."""
    model = model_of(small_clip, neck_rate=0.1)
    groups = model.learner.parameter_groups()
    check_groups(model.learner, groups)
    tensors = [id(p) for group in groups for p in group["params"]]
    named = dict(model.learner.named_parameters())
    assert sorted(tensors) == sorted(map(id, named.values()))
    optimizer = make_optimizer(lambda groups: torch.optim.AdamW(groups, lr=1e-4, weight_decay=1e-4), groups)
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name, parameter in named.items():
        group = found[id(parameter)]
        assert group["weight_decay"] == (0 if "norm" in name else 1e-4)
        assert group["lr"] == pytest.approx(1e-5 if name.startswith("guided.neck.") else 1e-4)
    assert sum("norm" in name for name in named) == 6 * SMALL["decoder_layers"]


def test_2_9_14_two_pictures_are_learned_by_heart(small_clip):
    """Shapes of one colour on grey: every pixel's class is found again."""
    pixels, masks = torch.full((2, 3, 32, 32), 128, dtype=torch.uint8), torch.zeros(2, 32, 32, dtype=torch.uint8)
    for image, kind, rows, columns in ((0, 1, slice(4, 18), slice(6, 20)), (1, 2, slice(10, 28), slice(12, 26))):
        masks[image, rows, columns] = kind
        pixels[image, :, rows, columns] = torch.tensor([[0, 0, 0], [220, 30, 30], [30, 60, 220]])[kind][:, None, None].byte()
    model = model_of(small_clip, neck_rate=1.0, head_dropout=0.0, channels=32)
    train(model, small_clip, 60, lr=3e-3, pixels=pixels, masks=masks)
    model.eval()
    with torch.no_grad():
        logits = model.learner.segment(small_clip, pixels).logits
    found = torch.nn.functional.interpolate(logits, (32, 32), mode="bilinear").argmax(1)
    ious = [((found == k) & (masks == k)).sum() / ((found == k) | (masks == k)).sum() for k in range(K)]
    assert torch.stack(ious).mean() > 0.95


# ---- one rank is as many


def part_of_two(rank, world):
    """Every second image, filled up with one that does not count."""
    places = list(range(rank, 3, world))
    share = -(-3 // world)
    weight = torch.tensor([1 / 3] * len(places) + [0.0] * (share - len(places)))
    places += [0] * (share - len(places))
    return places, Step(7, torch.tensor(places), weight)


def gradients_of(model, clip, rank=0, world=1):
    places, given = part_of_two(rank, world)
    model.train()
    out = model.learner.segment(clip, pictures(3)[places], given)
    losses = model.learner.dense_losses(out, label_maps(3)[places])
    (world * sum((loss * given.weight).sum() for loss in losses.values())).backward()
    state = {name: p.grad for name, p in model.learner.named_parameters()}
    return state | {name: b for name, b in model.learner.named_buffers() if "running" in name}


def rank_of_two(rank, folder, model, clip, results):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = gradients_of(model, clip, rank, 2)
    for name, tensor in found.items():
        dist.all_reduce(tensor)
        found[name] = (tensor / 2).numpy()
    results.put((rank, found))
    dist.destroy_process_group()


def test_two_ranks_learn_as_one(small_clip, tmp_path):
    """Gradients, through dropout and BatchNorm, and running statistics; an image that fills a share up counts for nothing."""
    model = model_of(small_clip)
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    ranks = [context.Process(target=rank_of_two, args=(r, tmp_path, model, small_clip, results)) for r in range(2)]
    for process in ranks:
        process.start()
    found = dict(results.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(60)
        assert process.exitcode == 0
    whole = gradients_of(model, small_clip)
    assert whole["guided.gamma"].abs().sum() > 0
    for name, expected in whole.items():
        torch.testing.assert_close(torch.from_numpy(found[0][name]), expected.detach(), rtol=1e-3, atol=2e-6, msg=name)


def test_dropout_is_a_function_of_step_and_image():
    x = torch.ones(3, 5, 4, 4)
    draws = Draws(step(3, seed=4), x.device)
    whole, again = draws.dropout(x, 0.5), draws.dropout(x, 0.5)
    alone = Draws(Step(4, torch.tensor([2]), torch.ones(1)), x.device)
    assert torch.equal(alone.dropout(x[:1], 0.5)[0], whole[2])
    assert torch.equal(alone.dropout(x[:1], 0.5)[0], again[2])
    assert not torch.equal(whole[2], again[2])
    assert not torch.equal(whole[0], whole[1])
    assert not torch.equal(Draws(step(3, seed=5), x.device).dropout(x, 0.5), whole)
    assert set(whole.unique().tolist()) == {0.0, 2.0}
    channels = Draws(step(3), x.device).dropout(x, 0.5, channels=True)
    assert torch.equal(channels, channels[..., :1, :1].expand_as(x))


def test_micro_batches_are_refused_where_statistics_are_of_the_batch(small_clip):
    """Before training, and only where something is normalised over the batch."""

    def made(**settings):
        PromptedCLIP(small_clip, DenseCLIP(**SMALL | settings)).setup(TrainInfo(NAMES, 4, accumulate=2))

    with pytest.raises(ValueError, match="which accumulate=2 divides: set method.norm=group or accumulate=1"):
        made()
    made(norm="group")
    made(head="none")
    with pytest.raises(AssertionError, match="a training step is needed in training"):
        model_of(small_clip).train().learner.segment(small_clip, pictures())


@torch.no_grad()
@pytest.mark.parametrize("weight", [[0.5, 0.0], [0.0, 0.0]])
def test_images_that_cannot_be_read_stop_nothing(small_clip, weight):
    """A batch with one has weights that sum up to less than 1, as a micro-batch has."""
    found = model_of(small_clip, head_dropout=0.0).train()
    logits = found.learner.segment(small_clip, pictures(), step(2, weight=torch.tensor(weight))).logits
    assert logits.isfinite().all()
    if weight[0]:
        other = model_of(small_clip, head_dropout=0.0).train()
        changed = torch.cat([pictures()[:1], 255 - pictures()[1:]])
        again = other.learner.segment(small_clip, changed, step(2, weight=torch.tensor(weight))).logits
        torch.testing.assert_close(again[0], logits[0])  # whatever stands in its place


# ---- saved prompts


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"guidance": "pre"},
        {"guidance": "none"},
        {"head": "upernet"},
        {"head": "none"},
        {"text": {"name": "cocoop", "n_ctx": 2}},
    ],
    ids=str,
)
def test_round_trip(small_clip, settings):
    """The settings that are saved are plain data, and with the tensors they give the same logits."""
    check_saved(small_clip, settings)


def test_bf16_is_close(small_clip):
    model = model_of(small_clip)
    with torch.no_grad():
        exact = model.learner.segment(small_clip, pictures()).logits
        with torch.autocast("cpu", torch.bfloat16):
            rounded = model.learner.segment(small_clip, pictures()).logits
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, rtol=0.1, atol=0.05)
