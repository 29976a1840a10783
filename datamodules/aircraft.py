"""FGVC Aircraft: the official variant split, read from its own text files (CoOp has no split json for it)."""

from datamodules import disk
from datamodules.items import Splits, item_of


class Aircraft(disk.Disk):
    """Lines `<image id> <variant, may hold spaces>`; a label is the variant's line in variants.txt."""

    needs = {
        "variants.txt": "the class list",
        "images_variant_train.txt": "the training list",
        "images_variant_val.txt": "the validation list",
        "images_variant_test.txt": "the test list",
    }

    def splits(self, seed: int) -> Splits:
        """The official lists. ValueError where a list, a variant or an image is missing."""
        disk.require(self.folder, "the dataset's folder (the archive's data/, renamed)")
        disk.require(self.images, "the image folder")
        labels = {name: i for i, name in enumerate(disk.read_text(self.folder / "variants.txt", "the class list"))}
        lists = []
        for split in ("train", "val", "test"):
            path = self.folder / f"images_variant_{split}.txt"
            pairs = [line.partition(" ")[::2] for line in disk.read_text(path, f"the {split} list")]
            unknown = [variant for _, variant in pairs if variant not in labels]
            if unknown:
                raise ValueError(f"{path} names the variant '{unknown[0]}', which variants.txt lacks: download both again")
            rows = [(f"{image}.jpg", labels[variant], variant) for image, variant in pairs]
            lists.append([item_of(row, f"line {i} of {path}") for i, row in enumerate(rows, start=1)])
        disk.check_images(self.images, (item for items in lists for item in items), "images_variant_*.txt")
        return Splits(*lists)  # type: ignore[arg-type]
