"""Folders of reference prompts."""

import json

import pytest
from test_cupl import PROMPTS
from test_methods import NAMES, make, model_of
from toys import ROOT

from prompts.parts.prompt_folders import PUBLISHED, file_of
from runs.identity import with_digests

# Opened in CuPL's and ProText's repositories.
NAMED = """caltech101 cal, oxford_pets pets, stanford_cars cars, flowers102 flower, food101 food, fgvc_aircraft airplane,
dtd texture, sun397 sun, ucf101 ucf, imagenet imagenet, imagenet_v2 imagenet, imagenet_sketch imagenet, imagenet_a imagenet,
imagenet_r imagenet"""


@pytest.mark.parametrize("line", NAMED.replace("\n", " ").split(", "))
def test_each_dataset_finds_its_file(tmp_path, line):
    dataset, word = line.split()
    for name in ("cal", "pets", "cars", "flower", "food", "airplane", "sun", "texture", "ucf", "imagenet"):
        (tmp_path / f"{name}_prompts_full.json").touch()
    assert file_of(str(tmp_path), dataset) == tmp_path / f"{word}_prompts_full.json"
    assert (ROOT / f"conf/data/{dataset}.yaml").read_text().count(f"\nname: {dataset}\n") == 1


def test_the_two_that_are_named_otherwise(tmp_path):
    for name in ("EuroSAT.json", "CuPL_image_prompts.json"):
        (tmp_path / name).touch()
    assert file_of(tmp_path, "eurosat").name == "EuroSAT.json"
    assert file_of(tmp_path, "imagenet_r").name == "CuPL_image_prompts.json"
    (tmp_path / "imagenet_prompts_full.json").touch()
    assert file_of(tmp_path, "imagenet_r").name == "imagenet_prompts_full.json"


def test_a_file_and_its_content_are_what_they_are(tmp_path):
    for source in (PROMPTS, "nowhere.json", tmp_path / "a.json"):
        assert file_of(source, "dtd") is source


def test_what_is_missing_is_said(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"has no texture_prompts_full.json, the published .* of data=dtd"):
        file_of(tmp_path, "dtd")
    with pytest.raises(ValueError, match="has no imagenet_prompts_full.json nor CuPL_image_prompts.json"):
        file_of(tmp_path, "imagenet_a")
    for dataset in ("shapes", None):
        with pytest.raises(ValueError, match=f"data={dataset} has no published file .*: name a file"):
            file_of(tmp_path, dataset)
    (tmp_path / "cupl").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"write \./cupl"):
        file_of("cupl", "dtd")


def test_the_files_of_a_folder_belong_to_what_a_run_is(tmp_path):
    (tmp_path / "texture_prompts_full.json").write_text("{}")
    before = with_digests(str(tmp_path))
    (tmp_path / "texture_prompts_full.json").write_text('{"a": []}')
    assert len({str(tmp_path), before, with_digests(str(tmp_path))}) == 3


@pytest.mark.parametrize("method", ["cupl", "aape", "aape_residual"])
def test_methods_read_their_datasets_file(small_clip, tmp_path, method):
    (tmp_path / "texture_prompts_full.json").write_text(json.dumps(PROMPTS))
    model_of(small_clip, make(method, prompts=str(tmp_path), dataset="dtd"))
    with pytest.raises(ValueError, match=r"has no EuroSAT\.json"):
        model_of(small_clip, make(method, prompts=str(tmp_path), dataset="eurosat"))


def test_a_folder_serves_the_runs_own_dataset_alone(small_clip, tmp_path):
    (tmp_path / "texture_prompts_full.json").write_text(json.dumps(PROMPTS))
    model = model_of(small_clip, make("cupl", prompts=str(tmp_path), dataset="dtd"))
    with pytest.raises(ValueError, match=r"no entry for 1 classes \(emu\).*another dataset's than data=dtd.*by data=NAME"):
        model.bind(["emu"])
    assert model.classnames == NAMES
    with pytest.raises(ValueError, match=r"no entry for 1 classes \(emu\).*with aliases\.$"):
        model_of(small_clip, make("cupl", prompts=str(tmp_path), dataset="dtd"), ["emu"])


def test_every_dataset_of_the_table_is_one_of_ours():
    assert set(PUBLISHED) <= {path.stem for path in (ROOT / "conf/data").glob("*.yaml")}
