"""The yaml of each real dataset, composed and instantiated as a run does."""

import json

import pytest
from hydra import compose, initialize_config_dir
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from toys import IMAGE_SPEC

from datamodules.few_shot import select
from datamodules.hub import HubSource
from tools.dataset_config import CONF

TEMPLATES = {
    "imagenet": "a photo of a {}.",
    "caltech101": "a photo of a {}.",
    "oxford_pets": "a photo of a {}, a type of pet.",
    "stanford_cars": "a photo of a {}.",
    "flowers102": "a photo of a {}, a type of flower.",
    "food101": "a photo of {}, a type of food.",
    "fgvc_aircraft": "a photo of a {}, a type of aircraft.",
    "sun397": "a photo of a {}.",
    "dtd": "{} texture.",
    "eurosat": "a centered satellite photo of {}.",
    "ucf101": "a photo of a person doing {}.",
    "imagenet_v2": "a photo of a {}.",
    "imagenet_sketch": "a photo of a {}.",
    "imagenet_a": "a photo of a {}.",
    "imagenet_r": "a photo of a {}.",
}
FOLDERS = {
    "imagenet": "imagenet/images",
    "caltech101": "caltech-101/101_ObjectCategories",
    "oxford_pets": "oxford_pets/images",
    "stanford_cars": "stanford_cars",
    "flowers102": "oxford_flowers/jpg",
    "food101": "food-101/images",
    "fgvc_aircraft": "fgvc_aircraft/images",
    "sun397": "sun397/SUN397",
    "dtd": "dtd/images",
    "eurosat": "eurosat/2750",
    "ucf101": "ucf101/UCF-101-midframes",
    "imagenet_v2": "imagenetv2/imagenetv2-matched-frequency-format-val",
    "imagenet_sketch": "imagenet-sketch/images",
    "imagenet_a": "imagenet-adversarial/imagenet-a",
    "imagenet_r": "imagenet-rendition/imagenet-r",
}


def compose_with(*overrides: str):
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("config", overrides=list(overrides))


def source_of(*overrides: str):
    return instantiate(compose_with(*overrides).data.source, _convert_="all")


@pytest.mark.parametrize("name", TEMPLATES)
def test_on_disk_and_from_the_hub(name):
    cfg = compose_with(f"data={name}", "data_root=/data", "data.source.hub.repo=somewhere/else")
    assert (cfg.data.name, cfg.data.templates) == (name, [TEMPLATES[name]])
    assert instantiate(cfg.data.source, _convert_="all").images.as_posix() == f"/data/{FOLDERS[name]}"
    assert (CONF / "data" / f"{name}.yaml").read_text().startswith("# ")
    cfg.source = "hub"
    source = instantiate(cfg.data.source, _convert_="all")
    assert isinstance(source, HubSource)
    assert source.repo == "somewhere/else"
    assert len(source.classnames or range(1000)) in (10, 1000)


def test_real_data_choose_the_real_clip_and_the_command_line_another():
    assert compose_with("data=dtd").clip == compose_with("clip=vit_b16").clip
    assert compose_with("data=dtd", "clip=tiny").clip == compose_with("data=shapes").clip


def test_cars_from_the_hub_have_the_year_in_front():
    assert source_of("data=stanford_cars", "source=hub").clean("Acura RL Sedan 2012") == "2012 Acura RL Sedan"


def test_a_source_that_does_not_exist():
    with pytest.raises(InstantiationException, match="source=net is not offered by this dataset: use source=disk or"):
        source_of("data=dtd", "source=net")


def test_a_new_dataset_with_a_split_json_is_a_yaml_alone(tmp_path, put_images, put_text):
    put_text(
        tmp_path / "conf/data/mine.yaml",
        "defaults: [_real, _self_]\n"
        "name: mine\n"
        "templates: ['a scan of {}.']\n"
        "source: {_target_: datamodules.split_json.SplitJson, root: '${data_root}', folder: mine, split: split.json}\n",
    )
    rows = [[f"{i}.jpg", i % 2, ("cat", "dog")[i % 2]] for i in range(8)]
    put_text(tmp_path / "data/mine/split.json", json.dumps({"train": rows, "val": rows, "test": rows}))
    put_images(tmp_path / "data/mine", [row[0] for row in rows])
    search = f"hydra.searchpath=[file://{tmp_path / 'conf'}]"
    cfg = compose_with(search, "data=mine", f"data_root={tmp_path / 'data'}", "shots=2")
    data = instantiate(cfg.data, image_spec=IMAGE_SPEC, _convert_="all")
    assert data.classnames == ["cat", "dog"]
    assert data.train_items == select(data.source.splits(1), 2, 1).train
    assert len(data.train_items) == 4
