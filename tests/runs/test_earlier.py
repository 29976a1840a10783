"""What an earlier run is: which of its settings a later run is known by, and what is refused before it starts."""

from functools import cache

import pytest
from toys import ROOT, TESTS

from runs import earlier, jobs

DPL = ["clip=toy", "data=toy", "method=dpl"]
STAGES = ["clip=toy", "data=toy", "method=coop", "protocol.train=[base,new]"]


def composed(*overrides):
    return jobs.compose_job([f"hydra.searchpath=[file://{TESTS / 'conf'}]", *overrides], ROOT / "conf")


@cache
def digests(*overrides):
    """Of the later and of the earlier run."""
    cfg, names = composed(*overrides)
    before = earlier.earlier_of(cfg, names)
    return jobs.describe(cfg, names).digest, jobs.describe(before.cfg, before.names).digest


@pytest.mark.parametrize(
    "override",
    [
        "earlier.method.lengths=[0,4]", "earlier.epochs=3", "earlier.data.alternating_batch_size=3", "+earlier.optim.lr=0.5",
        "+earlier.shots=3", "+earlier.trainer.gradient_clip_val=1", "shots=3", "optim.lr=0.5",
    ],
)  # fmt: skip
def test_what_changes_the_earlier_run_changes_the_later_one(override):
    assert all(a != b for a, b in zip(digests(*DPL), digests(*DPL, override), strict=True))


@pytest.mark.parametrize("override", ["+earlier.seed=7", "+earlier.init_from=a/prompts.safetensors"])
def test_what_the_earlier_run_starts_from_changes_the_later_one(override):
    assert digests(*DPL)[0] != digests(*DPL, override)[0]


@pytest.mark.parametrize(
    "override", ["force=true", "workers=1", "output=there", "accumulate=2", "save_every=5", "threads=1", "trainer.devices=1"]
)
def test_how_the_earlier_run_is_done_changes_neither(override):
    assert digests(*DPL) == digests(*DPL, f"+earlier.{override}")


@pytest.mark.parametrize(("line", "instead"), [(DPL, "or give method.prompt_lengths=PATH"), (STAGES, "leave it out.$")])
@pytest.mark.parametrize("cut", ["fast_dev_run=true", "limit_train_batches=1", "max_time='00:00:01:00'"])
def test_an_earlier_run_that_keeps_nothing_is_refused_before_it_starts(line, instead, cut):
    cfg, names = composed(*line, f"+trainer.{cut}")
    with pytest.raises(ValueError, match=f"trainer.{cut.split('=')[0]}=.* runs only a part.*{instead}"):
        earlier.earlier_of(cfg, names)
    cfg, names = composed(*DPL, "method.prompt_lengths=a.json", f"+trainer.{cut}")
    assert earlier.earlier_of(cfg, names) is None


def test_an_earlier_run_has_nothing_otherwise_that_it_cannot_have():
    for entry in ("nope: 1", "fit: false", "earlier: {epochs: 1}", "targets: {a: 1}"):
        with pytest.raises(ValueError, match=rf"earlier\.{entry.split(':')[0]} is nothing that an earlier run can have"):
            composed(*DPL, f"+earlier.{entry.replace(': ', '=', 1)}")
    with pytest.raises(ValueError, match="earlier.gives=epochs names a key that holds no path"):
        composed(*DPL, "earlier.gives=epochs")
    with pytest.raises(ValueError, match="optim.lr=.*: earlier.gives names this key, which takes a path"):
        composed(*DPL, "earlier.gives=optim.lr")


def test_an_earlier_run_on_other_data_has_their_targets():
    """It is then the same run as one of its own on these data, and not done twice."""
    cfg, names = jobs.compose_job(["experiment=aape_retrieval", "+row=retrieval_aape_finetuned"], ROOT / "conf")
    before = earlier.earlier_of(cfg, names)
    assert (list(cfg.targets), list(before.cfg.targets), before.gives) == ([], ["scenes_sketch"], "init_from")
    alone = jobs.compose_job(["experiment=aape_retrieval", "+row=retrieval_aape"], ROOT / "conf")
    assert jobs.describe(before.cfg, before.names).folder == jobs.describe(*alone).folder


@pytest.mark.parametrize("data", ["scenes", "scenes_vqa"])
def test_the_h_of_limber_is_the_run_of_aape_captions(data):
    """On the scenes for questions about them too, without the language model: whatever reads h, it is made once."""
    task = ["task=captioning"] if data == "scenes" else []
    own = digests_of(*composed("data=scenes", "method=aape_captions"))
    for method in ("limber_aape", "limber_aape_finetuned"):
        cfg, names = composed(f"data={data}", f"method={method}", *task)
        before = earlier.earlier_of(cfg, names)
        assert (before.gives, before.names["data"], before.cfg.task.name) == ("method.h", "scenes", "retrieval")
        assert digests_of(before.cfg, before.names) == own
    assert earlier.earlier_of(*composed("data=scenes", "task=captioning", "method=limber")) is None


def digests_of(cfg, names):
    return jobs.describe(cfg, names).digest


def test_a_language_model_is_known_by_its_content_and_only_where_it_speaks(tmp_path):
    line = ["data=scenes", "task=captioning", "method=limber", "lm=hub"]

    def digest(name, tokenizer="{}", weights="1", task="captioning"):
        folder = tmp_path / name
        folder.mkdir(exist_ok=True)
        for file, content in (("model.safetensors", weights), ("config.json", "{}"), ("tokenizer.json", tokenizer)):
            (folder / file).write_text(content)
        return digests_of(*composed(*line, f"lm.model={folder}", f"task={task}"))

    assert digest("a") == digest("b")
    assert len({digest("a"), digest("c", tokenizer="[]"), digest("d", weights="2"), digests_of(*composed(*line[:-1]))}) == 4
    assert digest("a", task="retrieval") == digests_of(*composed("data=scenes", "method=limber"))


def test_the_data_of_an_earlier_run_are_named():
    with pytest.raises(Exception, match="nowhere"):  # noqa: PT011 - Hydra's own
        composed("data=scenes", "task=captioning", "method=limber_aape", "+earlier.data=nowhere")
