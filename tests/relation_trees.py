"""Visual Genome's file of relations, small."""

import json

from datamodules.visual_genome import VisualGenome


def genome(root, content, **options):
    (root / "vg").mkdir(exist_ok=True)
    (root / "vg/relationships.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return VisualGenome(str(root), "vg", **({"relations": ["on", "in front of"]} | options))


def thing(x, **entries):
    return {"object_id": 7, "x": x, "y": 2, "w": 3, "h": 4, **entries}


def content():
    return [
        {"image_id": 5, "relationships": [
            {"relationship_id": 50, "predicate": "ON", "subject": thing(1, name="cup"), "object": thing(0, names=["table"])},
            {"relationship_id": 51, "predicate": "wears", "subject": thing(1, name="man"), "object": thing(0, name="hat")},
        ]},
        {"image_id": 6, "relationships": [
            {"relationship_id": 60, "predicate": "in  front of", "subject": thing(2, name="a"), "object": thing(3, name="b")},
        ]},
    ]  # fmt: skip
