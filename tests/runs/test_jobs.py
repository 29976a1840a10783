import json
import re
from pathlib import Path

import pytest
from toys import ROOT, TESTS

from runs import jobs

CONF = ROOT / "conf"
SEARCH = f"hydra.searchpath=[file://{TESTS / 'conf'}]"
TOY = ["clip=toy", "data=toy", "method=toy"]


def describe(*overrides):
    return jobs.describe(*jobs.compose_job([SEARCH, *TOY, *overrides], CONF))


def test_the_folder_says_what_is_run():
    job = describe("shots=4", "seed=2", "output=there")
    assert job.folder == Path("there/few_shot/toy/toy/toy", f"shots4-{job.digest}", "seed2")
    assert job.names == {"method": "toy", "data": "toy", "clip": "toy", "protocol": "few_shot"}
    assert describe("shots=4", "seed=2", "output=there") == job


@pytest.mark.parametrize(
    "override",
    [
        "trainer=ddp_cpu", "trainer.devices=2", "workers=3", "decoded_mb=0", "threads=2", "logger=none",
        "callbacks=none", "data_root=/elsewhere",
        "output=elsewhere", "accumulate=2", "eval_batch_size=7", "save_every=1", "save_steps=5", "force=true", "seed=5",
        "+trainer.enable_progress_bar=false", "trainer.log_every_n_steps=1", "trainer.accelerator=cpu",
    ],
)  # fmt: skip
def test_the_machine_is_no_part_of_what_is_run(override):
    assert describe(override).digest == describe().digest


@pytest.mark.parametrize(
    "override",
    [
        "method.rank=3", "epochs=7", "optim.lr=1", "precision=bf16-mixed", "shots=2", "eval_every=1", "optim=adamw",
        "+trainer.gradient_clip_val=0.5", "+trainer.max_steps=3", "+trainer.fast_dev_run=true",
        "+trainer.limit_train_batches=2", "+trainer.deterministic=true", "+trainer.some_new_argument=1",
        "+callbacks.average={_target_: lightning.pytorch.callbacks.StochasticWeightAveraging, swa_lrs: 0.1}",
    ],
)  # fmt: skip
def test_what_changes_the_result_changes_the_folder(override):
    assert describe(override).digest != describe().digest


def test_an_evaluation_is_named_by_the_content_of_the_prompts(tmp_path):
    for name, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "prompts.safetensors").write_bytes(content)
    a, b, c = (describe("fit=false", f"ckpt={tmp_path / name}") for name in "abc")
    direct = describe("fit=false", f"ckpt={tmp_path / 'a' / 'prompts.safetensors'}")
    assert a.folder == b.folder == direct.folder != c.folder
    assert a.folder != describe().folder


def test_a_file_that_a_method_reads_is_known_by_its_content(tmp_path):
    digests = []
    for name, content in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).write_text(content)
        digests.append(describe("method=ivlp", f"method.prompt_lengths={tmp_path / name}").digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_text_is_no_path():
    assert describe("method=coop", f"method.init='./{'b' * 300}'").digest != describe("method=coop").digest


def test_epochs_by_shots():
    table = "epochs='${by_shots:{1:50,16:200},${shots}}'"
    assert describe(table, "shots=1").config["epochs"] == 50
    with pytest.raises(ValueError, match="no recipe for shots=3, only for 1, 16: choose one of these, or give epochs=N"):
        describe(table, "shots=3")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("trainer.max_epochs=3", "trainer.max_epochs=3 contradicts epochs=50: set epochs alone"),
        ("trainer.precision=bf16-mixed", "trainer.precision=bf16-mixed contradicts precision=32-true"),
        ("trainer.accumulate_grad_batches=4", "contradicts accumulate=1"),
        ("~trainer.max_epochs", "the trainer has no max_epochs"),
        ("ckpt=somewhere", "add fit=false, or give init_from=PATH"),
        ("protocol.evaluate=null", "protocol.evaluate names no evaluation"),
    ],
)
def test_keys_that_contradict_each_other_are_refused(override, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        describe(override)


@pytest.mark.parametrize(
    ("override", "cut"),
    [
        ("+trainer.fast_dev_run=true", True), ("+trainer.fast_dev_run=2", True), ("+trainer.fast_dev_run=false", False),
        ("+trainer.limit_train_batches=1", True), ("+trainer.limit_train_batches=1.0", False),
        ("+trainer.limit_val_batches=0", True), ("+trainer.limit_test_batches=0.5", True),
        ("+trainer.overfit_batches=1", True), ("+trainer.overfit_batches=0.0", False), ("+trainer.max_steps=5", False),
    ],
)  # fmt: skip
def test_a_run_that_is_cut_short_on_purpose(override, cut):
    assert describe(override).cuts == ([override.lstrip("+")] if cut else [])


def test_prompts_that_are_not_there_are_not_the_same_as_none(tmp_path):
    """A finished run from scratch is no result of a run whose init_from leads nowhere."""
    plain = describe().digest
    for path in (tmp_path, tmp_path / "nowhere"):
        assert describe(f"init_from={path}").digest != plain


def test_the_recipes_of_a_run_are_known():
    used = describe("method=coop", "clip=tiny", "data=digits").config["recipes"]["used"]
    assert [name for name in used if not name.startswith("found/")] == ["coop-few_shot", "coop-tiny", "coop-digits"]
    recipes = describe("method=toy", "protocol=open").config["recipes"]
    assert recipes == {"used": ["toy-base_to_new"], "missing": None}
    assert describe("recipe=maple-base_to_new", "~method.rank", "+method.rank=4").config["recipes"]["used"] == [
        "maple-base_to_new"
    ]


@pytest.mark.parametrize("override", ["recipe=foo", "recipe_data=coop-nothing", "recipe_clip=tiny"])
def test_a_recipe_that_is_not_there_is_refused(override):
    with pytest.raises(ValueError, match=f"{override} is not known: choose one of .*coop-"):
        describe(override)


def split_tree(root, put, names=("cat", "dog"), images="img"):
    """A dataset of 12 images with a split json, as the published files are laid out."""
    lists = {
        split: [[f"{label}/{split}{i}.jpg", label, name] for label, name in enumerate(names) for i in range(2)]
        for split in ("train", "val", "test")
    }
    put(root / "eurosat" / "2750", [path for rows in lists.values() for path, _, _ in rows])
    (root / "eurosat" / "split_zhou_EuroSAT.json").write_text(json.dumps(lists))


def test_the_data_are_a_part_of_what_is_run(tmp_path, put_images):
    def digest(root):
        return describe("data=eurosat", f"data_root={root}").digest

    for name in ("here", "there"):
        split_tree(tmp_path / name, put_images)
    assert digest(tmp_path / "here") == digest(tmp_path / "there")
    split_tree(tmp_path / "there", put_images, names=("cat", "wolf"))
    assert digest(tmp_path / "here") != digest(tmp_path / "there")
    other = tmp_path / "here" / "eurosat" / "2750"
    before = digest(tmp_path / "here")
    for image in other.rglob("*.jpg"):
        image.write_bytes(image.read_bytes() + b"another picture")
    assert digest(tmp_path / "here") != before
    with pytest.raises(ValueError, match="nowhere"):
        digest(tmp_path / "nowhere")


def test_weights_are_known_by_their_content(tmp_path):
    digests = []
    for name, content in (("a.safetensors", "1"), ("b.safetensors", "1"), ("c.safetensors", "2")):
        (tmp_path / name).write_text(content)
        digests.append(describe("clip=vit_b16", f"clip.weights={tmp_path / name}").digest)
    assert digests[0] == digests[1] != digests[2]


def test_composing_leaves_hydra_as_it_was():
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    describe()
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
