from pathlib import Path

import pytest
from toys import ROOT, TESTS

from lightning_modules import jobs

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
        "trainer=ddp_cpu", "trainer.devices=2", "workers=3", "threads=2", "logger=none",
        "callbacks=none", "data_root=/elsewhere",
        "output=elsewhere", "accumulate=2", "eval_batch_size=7", "save_every=1", "save_steps=5", "force=true", "seed=5",
    ],
)  # fmt: skip
def test_the_machine_is_no_part_of_what_is_run(override):
    assert describe(override).digest == describe().digest


@pytest.mark.parametrize(
    "override", ["method.rank=3", "epochs=7", "optim.lr=1", "precision=bf16-mixed", "shots=2", "eval_every=1", "optim=adamw"]
)
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


def test_epochs_by_shots():
    table = "epochs='${by_shots:{1:50,16:200},${shots}}'"
    assert describe(table, "shots=1").config["epochs"] == 50
    with pytest.raises(ValueError, match="no recipe for shots=3, only for 1, 16: choose one of these, or give epochs=N"):
        describe(table, "shots=3")


def test_composing_leaves_hydra_as_it_was():
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    describe()
    assert not GlobalHydra.instance().is_initialized()
    assert not HydraConfig.initialized()
