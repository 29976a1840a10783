"""Captioned datasets and questions in a few files, exactly as the official ones are laid out."""

import json
from pathlib import Path

import PIL.Image

FIVE = ("a man rides a horse", "A horse and its rider.\n", "someone  on a horse", "a person riding", "a brown horse runs")


def put_images(root: Path, paths) -> None:
    """Pictures of 8 px, each of another colour."""
    for i, path in enumerate(paths):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("RGB", (8, 8), (20 * i % 256, 200, 10)).save(root / path)


def put_json(path: Path, content) -> Path:
    """The content as a json file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_name(number: int, split: str) -> str:
    """The file's name of one of COCO's images."""
    return f"COCO_{split}_{number:012d}.jpg"


def sentences(number: int, count: int = 5) -> list[dict]:
    """The sentences of an image as Karpathy's files have them."""
    return [
        {"tokens": ["a", "b"], "raw": f"{FIVE[i % 5]} {number}", "imgid": number, "sentid": 10 * number + i}
        for i in range(count)
    ]


def karpathy_coco(splits=("train", "train", "restval", "val", "test", "test"), count: int = 6) -> dict:
    """The content of dataset_coco.json; image i has id 100 + i, and `count` captions."""
    images = []
    for i, split in enumerate(splits):
        folder = "train2014" if split == "train" else "val2014"
        images.append(
            {"filepath": folder, "sentids": [10 * i + k for k in range(count)], "filename": coco_name(100 + i, folder),
             "imgid": i, "split": split, "sentences": sentences(i, count), "cocoid": 100 + i}
        )  # fmt: skip
    return {"images": images, "dataset": "coco"}


def put_coco(root: Path, content: dict | None = None) -> Path:
    """$DATA/coco with Karpathy's split; the file."""
    content = content or karpathy_coco()
    put_images(root / "coco", [f"{image['filepath']}/{image['filename']}" for image in content["images"]])
    return put_json(root / "coco/dataset_coco.json", content)


def put_flickr(root: Path, splits=("train", "train", "val", "test", "test")) -> Path:
    """$DATA/flickr30k; the file."""
    images = [
        {"sentids": [10 * i + k for k in range(5)], "imgid": i, "sentences": sentences(i), "split": split,
         "filename": f"{1000 + i}.jpg"} for i, split in enumerate(splits)
    ]  # fmt: skip
    put_images(root / "flickr30k/flickr30k-images", [image["filename"] for image in images])
    return put_json(root / "flickr30k/dataset_flickr30k.json", {"images": images, "dataset": "flickr30k"})


def caption_file(split: str, numbers, each: int = 5) -> dict:
    """The content of captions_SPLIT.json."""
    annotations = [
        {"image_id": number, "id": 10 * number + k, "caption": f"{FIVE[k % 5]} {number}"}
        for number in numbers
        for k in range(each)
    ]
    images = [
        {"license": 5, "file_name": coco_name(number, split), "coco_url": "", "height": 8, "width": 8, "id": number}
        for number in numbers
    ]
    return {"info": {"year": 2014}, "images": images, "licenses": [], "annotations": annotations}


def put_caption_files(root: Path) -> Path:
    """$DATA/coco with the official files of captions of 2014: images 9, 25, 30, 34 train, 42 and 73 are tested."""
    for split, numbers in (("train2014", (9, 25, 30, 34)), ("val2014", (42, 73))):
        put_images(root / "coco" / split, [coco_name(number, split) for number in numbers])
        put_json(root / f"coco/annotations/captions_{split}.json", caption_file(split, numbers))
    return root / "coco"


def nocaps_content() -> dict:
    """The content of nocaps_val_4500_captions.json, of six images."""
    domains = ("in-domain", "near-domain", "out-domain")
    images = [
        {"open_images_id": f"00{i}ea", "coco_url": "https://", "width": 8, "date_captured": "2018-11-06 11:04:33",
         "file_name": f"00{i}ea.jpg", "license": 0, "id": i, "domain": domains[i % 3], "height": 8} for i in range(6)
    ]  # fmt: skip
    annotations = [{"image_id": i, "id": 10 * i + k, "caption": f"{FIVE[k % 5]} {i} {k}"} for i in range(6) for k in range(10)]
    return {"licenses": [], "info": {}, "images": images, "annotations": annotations}


def put_nocaps(root: Path) -> Path:
    """$DATA/nocaps; the file."""
    content = nocaps_content()
    put_images(root / "nocaps/images", [image["file_name"] for image in content["images"]])
    return put_json(root / "nocaps/nocaps_val_4500_captions.json", content)


def put_vqa(root: Path) -> Path:
    """$DATA/vqa2 and its images and captions in $DATA/coco: three questions about each of the images 9, 25, 30, 34 (train2014)
    and 42, 73 (val2014), and one about the images 1 and 2 of test2015, without answers."""
    put_caption_files(root)
    folder = root / "vqa2"
    for split, numbers in (("train2014", (9, 25, 30, 34)), ("val2014", (42, 73))):
        questions, annotations = [], []
        for number in numbers:
            asked = (
                ("Is it red?", "yes/no", "is it", "yes"),
                ("How many?", "number", "how many", "2"),
                ("What?", "other", "what", "net"),
            )
            for k, (question, answer_type, question_type, answer) in enumerate(asked):
                question_id = 1000 * number + k
                questions.append({"image_id": number, "question": question, "question_id": question_id})
                given = [answer] * 8 + ["no", ""]
                answers = [{"answer": text, "answer_confidence": "yes", "answer_id": n + 1} for n, text in enumerate(given)]
                annotations.append(
                    {"question_type": question_type, "multiple_choice_answer": answer, "answers": answers, "image_id": number,
                     "answer_type": answer_type, "question_id": question_id}
                )  # fmt: skip
        about = {"info": {}, "license": {}, "data_subtype": split, "data_type": "mscoco"}
        put_json(
            folder / f"v2_OpenEnded_mscoco_{split}_questions.json", about | {"task_type": "Open-Ended", "questions": questions}
        )
        put_json(folder / f"v2_mscoco_{split}_annotations.json", about | {"annotations": annotations})
    put_images(root / "coco/test2015", [coco_name(number, "test2015") for number in (1, 2)])
    hidden = [{"image_id": number, "question": "Who?", "question_id": 1000 * number} for number in (1, 2)]
    put_json(folder / "v2_OpenEnded_mscoco_test-dev2015_questions.json", {"questions": hidden})
    return folder
