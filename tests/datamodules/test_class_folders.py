"""A dataset of a user's own in class folders, through conf/data/folder.yaml and the loaders of a run."""

import numpy as np
import PIL.Image
import pytest
from hydra.utils import instantiate
from toys import IMAGE_SPEC, ROOT

from datamodules.class_folders import SplitFolders
from datamodules.few_shot import select
from datamodules.identity import data_digest
from runs import jobs
from tools import doctor

COUNTS = {"train": 5, "val": 2, "test": 3}
CLASSES = ["house_sparrow", "robin", "Sea gull"]
NAMES = ["Sea gull", "house sparrow", "robin"]  # by label: capital letters come first


def put_image(path, seed=0, colour=(90, 120, 160)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(-40, 40, (20, 24, 3))
    PIL.Image.fromarray((np.array(colour) + noise).astype(np.uint8)).save(path)


@pytest.fixture
def birds(tmp_path):
    for split, count in COUNTS.items():
        for label, name in enumerate(CLASSES):
            for i in range(count):
                put_image(tmp_path / "birds" / split / name / f"{i}.jpg", [label, i, count], (60 * label + 50, 100, 150))
    return tmp_path / "birds"


def make(*overrides):
    cfg, names = jobs.compose_job(["data=folder", "clip=tiny", *overrides], ROOT / "conf")
    return instantiate(jobs.resolve(cfg)["data"], image_spec=IMAGE_SPEC, _convert_="all"), names


def test_the_images_of_each_split_are_those_of_its_folder(birds):
    source = SplitFolders(str(birds))
    splits = source.splits(1)
    assert splits.classnames == NAMES
    for split, count in COUNTS.items():
        folders = [folder for folder in sorted(CLASSES) for _ in range(count)]
        items = getattr(splits, split)
        assert [item.path for item in items] == [f"{split}/{folder}/{i % count}.jpg" for i, folder in enumerate(folders)]
        assert [item.classname for item in items] == [NAMES[item.label] for item in items]
    assert source.splits(2) == splits
    assert splits.fixed == frozenset()
    assert (np.asarray(source.open(splits.test[4])) == np.asarray(PIL.Image.open(birds / "test/house_sparrow/1.jpg"))).all()


def test_a_command_line_is_enough(birds):
    """The selection and the pixels of a run, through the yaml."""
    data, _ = make("data.name=birds", f"data_root={birds.parent}", "shots=2", "batch_size=6")
    assert (data.name, data.classnames) == ("birds", NAMES)
    assert data.train_items == select(SplitFolders(str(birds)).splits(1), 2, 1).train
    batch = next(iter(data.train_loader()))
    assert batch["image"].shape == (6, 3, 32, 32)
    assert sorted(batch["label"].tolist()) == [0, 0, 1, 1, 2, 2]
    tested = [label for batch in data.eval_loader("test") for label in batch["label"].tolist()]
    assert tested == [0] * 3 + [1] * 3 + [2] * 3
    assert make(f"data.source.root={birds}")[0].source.splits(1) == data.source.splits(1)


def test_it_brings_the_real_backbone():
    cfg, names = jobs.compose_job(["data=folder"], ROOT / "conf")
    assert names["clip"] == "vit_b16"
    assert jobs.resolve(cfg)["data"]["source"]["root"] == "data/folder"


def test_a_dataset_that_stays_is_a_yaml_of_three_lines(birds, tmp_path, put_text):
    lines = "defaults: [folder, _self_]\nname: birds\nsource: {rename: {robin: European robin}}\n"
    put_text(tmp_path / "conf/data/garden.yaml", lines)
    overrides = [f"hydra.searchpath=[file://{tmp_path / 'conf'}]", "data=garden", f"data_root={tmp_path}"]
    cfg, names = jobs.compose_job(overrides, ROOT / "conf")
    assert (names["data"], names["clip"]) == ("garden", "vit_b16")
    assert instantiate(cfg.data.source, _convert_="all").splits(1).classnames == ["Sea gull", "house sparrow", "European robin"]


def test_a_run_from_a_folder_alone(birds, run_here):
    """Trained and evaluated on each half of the classes; the result lists the images that were drawn."""
    result = run_here(
        "data=folder",
        "data.name=birds",
        f"data_root={birds.parent}",
        "clip=toy",
        "protocol=base_to_new",
        "recipe=none",
        "shots=2",
    )
    assert (result["metrics"]["base"]["images"], result["metrics"]["new"]["images"]) == (6, 3)
    drawn = select(SplitFolders(str(birds)).splits(1), 2, 1).train
    assert result["selected"]["train"] == [item.path for item in drawn if item.label < 2]


def test_a_folder_named_by_a_number_is_renamed_though_yaml_reads_a_number(tmp_path):
    for name in ("0", "10", "2"):
        for split in ("train", "test"):
            put_image(tmp_path / split / name / "a.png")
    data, _ = make(f"data.source.root={tmp_path}", "data.source.rename={0: zero, 10: ten}")
    assert data.source.splits(1).classnames == ["zero", "ten", "2"]


def test_without_a_validation_folder(birds):
    (birds / "val").rename(birds / "kept back")
    splits = SplitFolders(str(birds)).splits(1)
    assert (len(splits.train), len(splits.val), len(splits.test)) == (15, 0, 9)
    data, _ = make(f"data.source.root={birds}", "shots=2")
    with pytest.raises(ValueError, match="has no validation images in subset=all"):
        data.evaluation("val", "val", "all")


def test_for_evaluation_alone(birds):
    splits = SplitFolders(str(birds), train=None, val=None, test="val").splits(1)
    assert (splits.train, splits.val, len(splits.test)) == ([], [], 6)
    assert splits.classnames == NAMES


def test_a_class_may_have_no_test_images_if_its_folder_says_so(birds):
    for path in (birds / "test/robin").iterdir():
        path.unlink()
    splits = SplitFolders(str(birds)).splits(1)
    assert {item.classname for item in splits.test} == {"Sea gull", "house sparrow"}


def remove(path):
    for file in path.iterdir():
        file.unlink()
    path.rmdir()


def test_a_missing_train_folder(birds):
    (birds / "train").rename(birds / "Training")
    with pytest.raises(
        ValueError, match=r"birds has no folder train for the train images, only Training, test, val: put them "
    ):
        SplitFolders(str(birds)).splits(1)
    assert SplitFolders(str(birds), train="Training").splits(1).classnames == NAMES


def test_a_validation_folder_of_another_name_is_not_passed_over(birds):
    (birds / "val").rename(birds / "Validation")
    with pytest.raises(ValueError, match="birds has no folder val for the val images, only Validation, test, train"):
        SplitFolders(str(birds)).splits(1)
    assert len(SplitFolders(str(birds), val="Validation").splits(1).val) == 6
    assert not SplitFolders(str(birds), val=None).splits(1).val


def empty_class(birds):
    remove(birds / "train/robin")
    (birds / "train/robin").mkdir()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda b: put_image(b / "test/wren/0.jpg"), r"test has the class folder wren, which .*train lacks \(1 such\)"),
        (lambda b: remove(b / "test/robin"), r"test has no class folder robin, which .*train has \(1 such\)"),
        (empty_class, r"the class folder .*train/robin is empty: put images there, or remove it"),
        (lambda b: put_image(b / "train/robin/more/0.jpg"), r"train/robin holds the folder more: images belong directly in"),
        (lambda b: put_image(b / "val/loose.JPG"), r"val/loose.JPG is in no class folder \(1 such images\)"),
        (lambda b: (b / "val/robin/Thumbs.db").touch(), r"robin/Thumbs.db is not named like an image \(.avif, .bmp"),
        (lambda b: (b / "val/robin/a\x1b[2J\n.txt").touch(), r"robin/a.\[2J..txt is not named like an image"),
        (lambda b: put_image(b / "val/robin/a\x1b.jpg"), r"holds the control character '\\x1b'"),
        (lambda b: [put_image(b / s / "Sea_gull/0.jpg") for s in COUNTS], "'Sea gull' and 'Sea_gull' .* the same class name"),
        (lambda b: [put_image(b / s / "a\nb/0.jpg") for s in COUNTS], "holds the control character"),
    ],
)
def test_what_is_refused_in_one_sentence(birds, change, message):
    change(birds)
    for ask in (lambda source: source.splits(1), lambda source: data_digest(source, 1)):
        with pytest.raises(ValueError, match=message) as refused:
            ask(SplitFolders(str(birds)))
        assert str(refused.value).isprintable()


def test_no_class_folders_and_no_dataset(tmp_path):
    with pytest.raises(ValueError, match="the dataset's folder is missing"):
        SplitFolders(str(tmp_path / "birds")).splits(1)
    for split in COUNTS:
        put_image(tmp_path / split / "0.jpg")
    with pytest.raises(ValueError, match="train has no class folders: each image belongs in a folder named by its class"):
        SplitFolders(str(tmp_path)).splits(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"val": "test"}, "must be different folders"),
        ({"train": "../train"}, "leads out of its folder"),
        ({"test": ""}, "is empty"),
        ({"rename": {"wren": "wren"}}, "rename names the class folder 'wren', which .*train lacks"),
        ({"rename": {"robin": "sea\x1b[2J"}}, "control character"),
        ({"rename": {"robin": "Sea gull"}}, "the same class name 'Sea gull'"),
    ],
)
def test_wrong_arguments(birds, arguments, message):
    with pytest.raises(ValueError, match=message):
        SplitFolders(str(birds), **arguments).splits(1)


def test_two_classes_may_share_a_name_on_purpose(birds):
    rename = {"robin": "bird", "Sea gull": "bird"}
    assert SplitFolders(str(birds), rename=rename).splits(1).classnames == ["bird", "house sparrow", "bird"]


def test_an_image_that_is_none_is_named_when_it_is_opened(birds):
    (birds / "test/robin/0.jpg").write_bytes(b"no image")
    source = SplitFolders(str(birds))
    with pytest.raises(ValueError, match="test/robin/0.jpg cannot be decoded"):
        source.open(source.splits(1).test[6])


def test_the_digest_is_of_the_images_and_not_of_their_place(birds, tmp_path):
    before = data_digest(SplitFolders(str(birds)), 1)
    assert data_digest(SplitFolders(str(birds)), 2) == before
    assert data_digest(SplitFolders(str(birds), rename={"robin": "European robin"}), 1) != before
    birds.rename(tmp_path / "moved")
    moved = SplitFolders(str(tmp_path / "moved"))
    assert data_digest(moved, 1) == before
    put_image(tmp_path / "moved/val/robin/0.jpg", 99, (10, 240, 70))
    assert data_digest(moved, 1) != before


def test_a_run_keeps_its_folder_when_the_data_move(birds, tmp_path):
    def folder(root):
        return jobs.describe(
            *jobs.compose_job(["data=folder", "data.name=birds", "clip=tiny", f"data_root={root}"], ROOT / "conf")
        ).folder

    before = folder(tmp_path)
    (tmp_path / "other").mkdir()
    birds.rename(tmp_path / "other/birds")
    assert folder(tmp_path / "other") == before


def test_the_doctor_looks_at_it(birds, capsys):
    command = ["data=folder", "data.name=birds", f"data_root={birds.parent}"]
    assert doctor.main([*command, "images=true"]) == 0
    assert doctor.main(["data=folder", f"data.source.root={birds}"]) == 0
    remarks = "3 classes, 15 / 6 / 9 training / validation / test images"
    assert capsys.readouterr().out == f"ok   folder in {birds}\n     {remarks}\n" * 2
    (birds / "test").rename(birds / "Test")
    assert doctor.main(command) == 1
    assert f"the test images {birds / 'test'} is missing" in capsys.readouterr().out
