"""A published figure stands beside the runs of its recipe, and beside no others."""

import pytest
from fakes import blocks, of_recipe, put
from toys import ROOT

from reports.collect import read
from reports.groups import Group, Run
from reports.published import has_value, is_of_recipe, published, recipe_settings
from reports.tables import tables
from runs import jobs

KNOWN = published()
DATASETS = KNOWN["datasets"][:11]
B2N = "base_to_new"
REAL = {"clip": "vit_b16"}


def rows(folder):
    (table,) = tables(read([folder]))
    return {row.label: row for row in table.rows}


def composed(protocol, recipe, data):
    """The settings that the command line of a recipe has on a dataset."""
    entry, where = KNOWN["recipes"][recipe], KNOWN["protocols"][protocol]
    line = [f"method={entry['method']}", f"protocol={protocol}", f"data={data}", f"clip={where['clip']}"]
    cfg, names = jobs.compose_job([*line, f"shots={where['shots']}", *entry["overrides"].split()], ROOT / "conf")
    return Group("", {1: Run(ROOT, {"config": jobs.resolve(cfg), "names": names})}, {}, "").flat_config


def places():
    """(protocol, recipe, dataset trained on) of every published figure; all eleven datasets for an average."""
    found = {}
    for protocol, known in KNOWN["protocols"].items():
        for block in known["blocks"]:
            for data in block["figures"]:
                found |= dict.fromkeys((protocol, block["recipe"], d) for d in (DATASETS if data == "average" else [data]))
    return sorted(found)


@pytest.mark.parametrize(("protocol", "recipe"), sorted({place[:2] for place in places()}))
def test_the_recipe_is_what_the_command_line_gives(protocol, recipe):
    """On every dataset that has a figure: each setting is as composed, and none of the closed groups is left out."""
    for data in (place[2] for place in places() if place[:2] == (protocol, recipe)):
        settings, wanted = composed(protocol, recipe, data), recipe_settings(protocol, recipe, data)
        assert [key for key, value in wanted.items() if not has_value(settings, key, value)] == [], data
        closed = {key for key in settings if key.split(".")[0] in KNOWN["closed"]}
        assert closed <= wanted.keys(), data
        assert is_of_recipe(settings, wanted)


def test_every_recipe_says_how_it_trains_and_every_block_where_it_is_from():
    for name, recipe in KNOWN["recipes"].items():
        assert {"epochs", "batch_size", "optim.lr"} <= recipe["settings"].keys() or recipe["method"] == "zeroshot", name
    for known in KNOWN["protocols"].values():
        for block in known["blocks"]:
            assert block["source"]
            assert ("memory" in block["source"]) == block.get("unverified", False)


@pytest.mark.parametrize(
    ("recipe", "average"),
    [
        ("IVLP, 2+2 tokens", (82.15, 74.07, 77.90)),
        ("IVLP, 4+4 tokens", (84.21, 71.79, 77.51)),
        ("deep language, 4 tokens", (81.72, 73.81, 77.56)),
        ("CoOp, 4 tokens", (82.69, 63.22, 71.66)),
    ],
)
def test_each_recipe_of_a_method_has_its_own_average(tmp_path, recipe, average):
    for data in DATASETS:
        where = {"protocol": B2N, "data": data, "config": of_recipe(B2N, recipe, data)}
        put(tmp_path, KNOWN["recipes"][recipe]["method"], metrics={"base": 80.0, "new": 70.0}, **where, **REAL)
    (row,) = tables(read([tmp_path]))[0].rows
    assert tuple(row.published[column].value for column in ("base", "new", "H")) == average


def test_no_average_where_one_dataset_has_another_recipe(tmp_path):
    """CoOp trains 50 epochs on ImageNet."""
    for data in DATASETS:
        config = of_recipe(B2N, "CoOp, 4 tokens", data, epochs=200, trainer__max_epochs=200)
        put(tmp_path, metrics={"base": 80.0, "new": 70.0}, protocol=B2N, data=data, config=config, **REAL)
    average, imagenet, caltech, *_ = tables(read([tmp_path]))
    assert average.rows[0].published == imagenet.rows[0].published == {}
    assert caltech.rows[0].published["base"].value == 98.0


@pytest.mark.parametrize(
    "change",
    [
        {"method__class_context": True},
        {"method__position": "middle"},
        {"method__n_ctx": 16},
        {"method__added": 1},
        {"epochs": 50},
        {"batch_size": 8},
        {"optim__lr": 0.02},
        {"optim__nesterov": True},
        {"optim._target_": "torch.optim.AdamW"},
        {"precision": "bf16-mixed"},
        {"select": "best_val"},
        {"init_from": "/somewhere/prompts.safetensors"},
        {"earlier": {"epochs": 1}},
        {"source": "hub"},
        {"clip__weights": "random"},
        {"clip__model": "ViT-B-16"},
        {"data__views": 2},
        {"data__augmentation": "randaug2"},
        {"data__sampler": "numpy"},
        {"data__train_transform": {"_target_": "mine"}},
        {"trainer__gradient_clip_val": 1.0},
        {"callbacks": {"mine": {"_target_": "mine.Stop"}}},
        {"protocol__train": "all"},
    ],
    ids=str,
)
def test_a_run_with_another_setting_has_no_figure(tmp_path, change):
    where = {"protocol": B2N, "data": "dtd", "metrics": {"base": 80.0, "new": 50.0}, **REAL}
    put(tmp_path / "its", config=of_recipe(B2N, "CoOp, 4 tokens", "dtd"), **where)
    assert rows(tmp_path / "its")["coop"].difference("base") == pytest.approx(80 - 79.44)
    put(tmp_path / "other", config=of_recipe(B2N, "CoOp, 4 tokens", "dtd", **change), **where)
    assert rows(tmp_path / "other")["coop"].published == {}


@pytest.mark.parametrize(
    "change",
    [
        {"precision": "16-true", "trainer__precision": "16-true"},
        {"workers": 8, "eval_batch_size": 500, "data_root": "/elsewhere", "logger": {"_target_": "mine"}},
        {"clip__weights": "/elsewhere/ViT-B-16.pt"},
        {"trainer__devices": 4, "trainer__strategy": "ddp"},
    ],
    ids=str,
)
def test_what_says_nothing_about_the_figures_takes_none_away(tmp_path, change):
    config = of_recipe(B2N, "CoOp, 4 tokens", "dtd", **change)
    put(tmp_path, protocol=B2N, data="dtd", metrics={"base": 80.0, "new": 50.0}, config=config, **REAL)
    assert rows(tmp_path)["coop"].published["new"].value == 41.18


def test_figures_belong_to_their_backbone_shots_and_last_stage(tmp_path):
    where = {"protocol": B2N, "data": "dtd", "metrics": {"base": 80.0, "new": 50.0}}
    config = of_recipe(B2N, "MaPLe, depth 9", "dtd")
    put(tmp_path, "maple", config=config, **where, clip="tiny")
    put(tmp_path, "maple", shots=4, config=config, **where, **REAL)
    put(tmp_path, "maple", config=config, stages=[{"base": 1.0, "new": 1.0}], **where, **REAL)
    assert not any(table.has_published for table in tables(read([tmp_path])))


def test_a_result_that_does_not_say_its_settings_has_no_figure(tmp_path):
    put(tmp_path, protocol=B2N, data="dtd", metrics={"base": 80.0, "new": 50.0}, **REAL)
    assert rows(tmp_path)["coop"].published == {}


def test_few_shot_figures_stand_at_their_shots(tmp_path):
    config = of_recipe("few_shot", "CoOp, 16 tokens", "caltech101")
    for shots in (1, 16):
        put(tmp_path, shots=shots, data="caltech101", clip="rn50", config=config)
    assert {column: figure.value for column, figure in rows(tmp_path)["coop"].published.items()} == {"16 shots": 92.0}


def test_transfer_averages_belong_to_their_source_and_targets(tmp_path):
    protocol, four = "domain_generalization", dict.fromkeys(KNOWN["datasets"][11:], 60.0)
    for recipe in ("POMP, 4 tokens", "POMP, 16 tokens"):
        config = of_recipe(protocol, recipe, "imagenet21k")
        where = {"data": "imagenet21k", "config": config, "digest": recipe[-9:].strip(), "protocol": protocol}
        put(tmp_path / "a", "pomp", metrics={"imagenet21k": 25.0, **four}, targets=four, **where, **REAL)
    averages = [row.published["average"].value for row in rows(tmp_path / "a").values()]
    assert sorted(averages) == [60.0, 60.4]
    where = {"data": "imagenet", "config": of_recipe(protocol, "CoOp, 4 tokens", "imagenet"), "protocol": protocol}
    put(tmp_path / "b", metrics={"imagenet": 70.0, "imagenet_v2": 60.0}, targets=["imagenet_v2"], **where, **REAL)
    row = rows(tmp_path / "b")["coop"]
    assert row.difference("imagenet_v2") == pytest.approx(60.0 - 64.2)
    assert row.difference("average") is None


def test_the_datasets_of_memory_average_to_the_figures_of_the_readme_files():
    checked = 0
    for method, recipe, average in blocks(B2N, "average"):
        of = [figures for data in DATASETS for _, other, figures in blocks(B2N, data) if other == recipe]
        for column in ("base", "new") if of else ():
            assert sum(figures[column] for figures in of) / 11 == pytest.approx(average[column], abs=0.006), method
            checked += 1
    assert checked == 10
