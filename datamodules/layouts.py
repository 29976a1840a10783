"""Facts about each dataset for `tools.doctor`: other names of its folders, other places of its parts, its sizes."""

import re
from pathlib import Path

# Names of the dataset's folder in torchvision, on Kaggle and in archives, in lower case without punctuation.
FOLDER_NAMES = {
    "caltech-101": {"caltech101", "caltech101classification", "caltech101dataset"},
    "oxford_pets": {"oxfordiiitpet", "oxfordiiitpets", "oxfordiiitpetdataset", "oxfordpets", "pets"},
    "stanford_cars": {"stanfordcars", "stanfordcarsdataset", "stanfordcardataset", "cars196", "cars"},
    "oxford_flowers": {"flowers102", "oxfordflowers", "oxfordflowers102", "102flowers", "flowerdata", "dataset"},
    "food-101": {"food101", "food101dataset"},
    "fgvc_aircraft": {"fgvcaircraft2013b", "fgvcaircraft", "aircraft", "data"},
    "sun397": {"sun397", "sun"},
    "dtd": {"dtd", "dtdr101", "describabletextures"},
    "eurosat": {"eurosat", "eurosatrgb", "eurosatdataset"},
    "ucf101": {"ucf101", "ucf"},
    "imagenet": {"imagenet", "imagenet1k", "ilsvrc", "ilsvrc2012", "ilsvrc2012imagenet"},
    "imagenet21k_resized": {"imagenet21kresized", "imagenet21k", "imagenet21kp", "imagenet21kwinter21"},
    "imagenetv2": {"imagenetv2", "imagenetv2matchedfrequency"},
    "imagenet-sketch": {"imagenetsketch", "sketch"},
    "imagenet-adversarial": {"imagenetadversarial", "imageneta"},
    "imagenet-rendition": {"imagenetrendition", "imagenetr"},
    "coco": {"coco", "mscoco", "coco2014", "coco2017", "mscoco2014"},
    "flickr30k": {"flickr30k", "flickr30kimages", "flickr30kentities"},
    "nocaps": {"nocaps"},
    "vqa2": {"vqa2", "vqav2", "vqa"},
    "adechallengedata2016": {"adechallengedata2016", "ade20k", "ade", "adek"},
    "cityscapes": {"cityscapes"},
}

# Other places of a part inside the dataset's folder; "." is for class folders that lie in the folder itself.
PART_NAMES = {
    "101_ObjectCategories": [".", "caltech101"],
    "2750": [".", "EuroSAT", "EuroSAT_RGB"],
    "SUN397": ["."],
    "UCF-101-midframes": ["."],
    "images/train": ["train", "ILSVRC/Data/CLS-LOC/train", "Data/CLS-LOC/train", "ILSVRC2012_img_train"],
    "images/val": ["val", "ILSVRC/Data/CLS-LOC/val", "Data/CLS-LOC/val", "ILSVRC2012_img_val"],
    "imagenetv2-matched-frequency-format-val": ["."],
    "images": ["sketch", "data/sketch", "."],  # the first two: ImageNet-Sketch
    "imagenet-a": ["."],
    "imagenet-r": ["."],
    "devkit/cars_train_annos.mat": ["car_devkit/devkit/cars_train_annos.mat", "cars_train_annos.mat"],
    "devkit/cars_meta.mat": ["car_devkit/devkit/cars_meta.mat", "cars_meta.mat"],
    "dataset_coco.json": ["annotations/dataset_coco.json", "caption_datasets/dataset_coco.json"],
    "dataset_flickr30k.json": ["annotations/dataset_flickr30k.json", "caption_datasets/dataset_flickr30k.json"],
    "flickr30k-images": ["flickr30k_images", "images", "Images"],
    "nocaps_val_4500_captions.json": ["annotations/nocaps_val_4500_captions.json"],
    "cars_test_annos_withlabels.mat": ["devkit/cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat"],
}

# Classes, training, validation and test images of the published splits.
SIZES = {
    "caltech101": (100, 4128, 1649, 2465),
    "oxford_pets": (37, 2944, 736, 3669),
    "stanford_cars": (196, 6509, 1635, 8041),
    "flowers102": (102, 4093, 1633, 2463),
    "food101": (101, 50500, 20200, 30300),
    "fgvc_aircraft": (100, 3334, 3333, 3333),
    "sun397": (397, 15880, 3970, 19850),
    "dtd": (47, 2820, 1128, 1692),
    "eurosat": (10, 13500, 5400, 8100),
    "ucf101": (101, 7639, 1898, 3783),
    "imagenet": (1000, 1281167, 50000, 50000),
    "imagenet21k": (10450, 11060223, 522500, 522500),
    "imagenet_v2": (1000, 0, 0, 10000),
    "imagenet_sketch": (1000, 0, 0, 50889),
    "imagenet_a": (200, 0, 0, 7500),
    "imagenet_r": (200, 0, 0, 30000),
}
# Of captioned images, questions and referring expressions: training, validation and test images, and texts, of the published
# lists.
TEXT_SIZES = {
    "coco": {"images": (113287, 5000, 5000)},
    "coco_captions": {"images": (82783, 0, 40504)},
    "flickr30k": {"images": (29000, 1014, 1000)},
    "nocaps": {"images": (0, 0, 4500)},
    "vqa2": {"images": (82783, 0, 40504), "questions": (443757, 0, 214354)},
    "refcoco": {"expressions": (120624, 10834, 5657), "images": (16994, 1500, 750)},
    "refcoco_testb": {"expressions": (120624, 10834, 5095), "images": (16994, 1500, 750)},
    "refcoco_val": {"expressions": (120624, 0, 10834), "images": (16994, 0, 1500)},
    "refcoco_plus": {"expressions": (120191, 10758, 5726), "images": (16992, 1500, 750)},
    "refcoco_plus_testb": {"expressions": (120191, 10758, 4889), "images": (16992, 1500, 750)},
    "refcoco_plus_val": {"expressions": (120191, 0, 10758), "images": (16992, 0, 1500)},
    "refcocog": {"expressions": (80512, 4896, 9602), "images": (21899, 1300, 2600)},
    "refcocog_val": {"expressions": (80512, 0, 4896), "images": (21899, 0, 1300)},
}
# Of images with label maps: classes, training, validation and test images of the published lists.
MASK_SIZES = {
    "ade20k": (150, 20210, 0, 2000),
    "voc2012": (21, 1464, 0, 1449),
    "pascal_context": (59, 4996, 0, 5104),
    "cityscapes": (19, 2975, 0, 500),
    "coco_stuff": (171, 118287, 0, 5000),
}

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
IMAGES = {".jpg", ".jpeg", ".png"}


def plain_name(name: str) -> str:
    """The name in lower case, letters and digits alone."""
    return re.sub("[^a-z0-9]", "", name.lower())


def subfolders(path: Path) -> list[Path]:
    """The folders in a folder, sorted; none where it does not exist."""
    return sorted(p for p in path.iterdir() if p.is_dir()) if path.is_dir() else []


def holds_classes(path: Path) -> bool:
    """Whether this seems to be a folder of class folders."""
    first = [next(p.iterdir(), None) for p in subfolders(path)[:2]]
    return len(first) == 2 and all(p is not None and p.suffix.lower() in IMAGES for p in first)


def candidates(folder: Path) -> list[Path]:
    """Folders that may hold the dataset instead of `folder`: folders of other names beside it, and those inside each."""
    names = FOLDER_NAMES.get(folder.name, set()) | {plain_name(folder.name)}
    beside = [p for p in subfolders(folder.parent) if p == folder or plain_name(p.name) in names - {"data", "dataset"}]
    inside = [p for outer in beside for p in subfolders(outer) if plain_name(p.name) in names]
    return [p for p in (*beside, *inside) if p != folder]


def elsewhere(folder: Path, part: str) -> Path | None:
    """The place where the missing `folder/part` seems to be, if any."""
    for where in (folder, *candidates(folder)):
        for name in (part, Path(part).name, *PART_NAMES.get(part, [])):
            path = where / name
            if path != folder / part and (holds_classes(path) if name == "." else path.exists()):
                return path
    return None


def archive(folder: Path, part: str) -> Path | None:
    """An archive that was left packed and is named like the dataset or the missing part."""
    names = FOLDER_NAMES.get(folder.name, set()) | {plain_name(folder.name), plain_name(Path(part).name)}
    for where in (folder, folder.parent):
        for path in sorted(where.iterdir()) if where.is_dir() else ():
            suffix = next((s for s in ARCHIVES if path.name.lower().endswith(s)), None)
            if suffix and plain_name(path.name[: -len(suffix)]) in names:
                return path
    return None
