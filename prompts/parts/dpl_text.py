"""The fixed text of DPL's search and training (arXiv 2501.00457)."""

from __future__ import annotations

# by the names of conf/data, as in trainers/imagenet_templates.py of the released code; they differ from CoOp's
PLAIN = "a photo of a {}."
CUSTOM_TEMPLATES = {
    "caltech101": PLAIN,
    "dtd": "a texture of {}.",
    "eurosat": "a centered satellite photo of {}.",
    "fgvc_aircraft": "a type of aircraft, a photo of a {}.",
    "flowers102": "a type of flower, a photo of a {}.",
    "food101": "a type of food, a photo of {}.",
    "imagenet": PLAIN,
    "imagenet_a": PLAIN,
    "imagenet_r": PLAIN,
    "imagenet_sketch": PLAIN,
    "imagenet_v2": PLAIN,
    "oxford_pets": "a type of pet, a photo of a {}.",
    "stanford_cars": PLAIN,
    "sun397": PLAIN,
    "ucf101": "a photo of a person doing {}.",
}


def text_template(template: str, custom_templates: bool, dataset: str) -> str:
    """The setting `template`, or the released code's for the dataset of this name where `custom_templates` is true.

    Raises:
        ValueError: the released code has none for this dataset.
    """
    if not custom_templates:
        return template
    if dataset not in CUSTOM_TEMPLATES:
        raise ValueError(
            f"method.custom_templates=true takes the text of DPL's released code, which has none for data={dataset}: give "
            'method.template, as in "a photo of a {}.", and leave custom_templates out.'
        )
    return CUSTOM_TEMPLATES[dataset]
