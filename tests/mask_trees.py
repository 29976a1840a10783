"""Segmentation datasets in a few files, exactly as the official ones are laid out."""

from pathlib import Path

import numpy as np
import PIL.Image

SIZE = (12, 8)  # width, height of a picture


def put_picture(path: Path, size: tuple[int, int] = SIZE) -> None:
    """A picture of one colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.new("RGB", size, (90, 140, 30)).save(path)


def put_map(path: Path, numbers, size: tuple[int, int] = SIZE, mode: str = "L") -> Path:
    """A label map that has these numbers one after the other, again and again; of mode P with a palette, as VOC's."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.resize(np.asarray(numbers, np.uint8), size[::-1])
    image = PIL.Image.fromarray(pixels)
    if mode == "P":
        image.putpalette([channel for i in range(256) for channel in (i * 37 % 256, i * 11 % 256, 255 - i)])
    image.save(path)
    return path


def put_ade(root: Path, numbers=(0, 1, 150)) -> Path:
    """$DATA/ADEChallengeData2016 with three training and two validation images; the folder."""
    folder = root / "ADEChallengeData2016"
    for split, short, count in (("training", "train", 3), ("validation", "val", 2)):
        for i in range(1, count + 1):
            name = f"ADE_{short}_{i:08d}"
            put_picture(folder / f"images/{split}/{name}.jpg")
            put_map(folder / f"annotations/{split}/{name}.png", numbers)
    (folder / "objectInfo150.txt").write_text("Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.16\t11664\t1172\t1\twall\n")
    return folder


def put_voc(root: Path) -> Path:
    """$DATA/VOCdevkit/VOC2012 with two training and two validation images, and one that SBD alone has a label map of."""
    folder = root / "VOCdevkit/VOC2012"
    names = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2007_000042"]}
    for split, stems in names.items():
        put_list(folder / f"ImageSets/Segmentation/{split}.txt", stems)
        for stem in stems:
            put_picture(folder / f"JPEGImages/{stem}.jpg")
            put_map(folder / f"SegmentationClass/{stem}.png", (0, 5, 20, 255), mode="P")
    put_picture(folder / "JPEGImages/2008_000002.jpg")  # one of the many that have no label map
    return folder


def put_sbd(folder: Path) -> None:
    """The list trainaug, and SegmentationClassAug with a map of an image that VOC has none of."""
    put_list(folder / "ImageSets/Segmentation/trainaug.txt", ["2007_000032", "2007_000039", "2008_000002"])
    for stem in ("2007_000032", "2008_000002"):
        put_map(folder / f"SegmentationClassAug/{stem}.png", (0, 7))


def put_context(root: Path) -> Path:
    """$DATA/VOCdevkit/VOC2010 as mmsegmentation's converter leaves it."""
    folder = root / "VOCdevkit/VOC2010"
    for split, stems in {"train": ["2008_000008", "2008_000015"], "val": ["2008_000002"]}.items():
        put_list(folder / f"ImageSets/SegmentationContext/{split}.txt", stems)
        for stem in stems:
            put_picture(folder / f"JPEGImages/{stem}.jpg")
            put_map(folder / f"SegmentationClassContext/{stem}.png", (0, 1, 59))
    return folder


def put_cityscapes(root: Path) -> Path:
    """$DATA/cityscapes with two cities that train and one that validates, and the other files of gtFine."""
    folder = root / "cityscapes"
    for split, city, count in (("train", "aachen", 2), ("train", "bochum", 1), ("val", "frankfurt", 2)):
        for i in range(count):
            stem = f"{city}_{i:06d}_000019"
            put_picture(folder / f"leftImg8bit/{split}/{city}/{stem}_leftImg8bit.png")
            put_map(folder / f"gtFine/{split}/{city}/{stem}_gtFine_labelIds.png", range(34))
            put_map(folder / f"gtFine/{split}/{city}/{stem}_gtFine_instanceIds.png", (1, 2))
            put_picture(folder / f"gtFine/{split}/{city}/{stem}_gtFine_color.png")
            (folder / f"gtFine/{split}/{city}/{stem}_gtFine_polygons.json").write_text("{}")
    return folder


def put_stuff(root: Path) -> Path:
    """$DATA/coco with the maps of COCO-Stuff."""
    folder = root / "coco"
    for split, names in {"train2017": ["000000000009", "000000000025"], "val2017": ["000000000139"]}.items():
        for name in names:
            put_picture(folder / f"{split}/{name}.jpg")
            put_map(folder / f"stuffthingmaps/{split}/{name}.png", (0, 10, 12, 89, 91, 181, 255))
    return folder


def put_own(folder: Path, splits=("train", "val", "test"), numbers=(0, 1, 2, 255)) -> Path:
    """A folder of one's own with three classes, two images in each split."""
    for split in splits:
        for i in range(2):
            put_picture(folder / f"{split}/images/{split}{i}.jpg")
            put_map(folder / f"{split}/masks/{split}{i}.png", numbers)
    (folder / "classes.txt").write_text("nothing\nroad\nzebra crossing\n")
    return folder


def put_list(path: Path, names) -> None:
    """A text file of names, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{name}\n" for name in names))
