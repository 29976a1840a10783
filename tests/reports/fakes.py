"""Folders of results as runs leave them, with figures that the test chooses."""

from __future__ import annotations

import json

import numpy as np

from reports.published import published, recipe_settings

ACCURACY = {"key": "accuracy", "title": "accuracy", "unit": "%", "higher_is_better": True}


def put(folder, method="coop", seed=1, shots=16, metrics=None, config=None, predictions=None, targets=(), **about):
    """One result.

    Args:
        metrics: the main figure, or the metrics, by evaluation.
        targets: those that are on other datasets.
        about: data, clip, protocol, digest and what else result.json has, such as a task and its figure.
    """
    names = {"method": method} | {
        key: about.pop(key, default) for key, default in (("data", "shapes"), ("clip", "tiny"), ("protocol", "few_shot"))
    }
    leaf = "-".join([*names.values(), str(shots)])
    digest = about.pop("digest", leaf)
    path = folder / leaf / digest / f"seed{seed}" / "result.json"
    path.parent.mkdir(parents=True)
    figure = about.pop("figure", ACCURACY)
    metrics = {
        name: value if isinstance(value, dict) else {figure["key"]: value}
        for name, value in (metrics or {"test": 50.0}).items()
    }
    result = {
        "version": 1,
        "task": "classification",
        "digest": digest,
        "names": names,
        "seed": seed,
        "shots": shots,
        "figure": figure,
        "metrics": metrics,
        "summary": summaries(metrics, targets),
        "stages": [],
        "config": (config or {}) | ({"targets": {name: {} for name in targets}} if targets else {}),
    }
    path.write_text(json.dumps(result | about))
    if predictions:
        arrays = {
            f"{name}/{part}": array
            for name, parts in predictions.items()
            for part, array in zip(("pred", "label", "confidence"), parts, strict=True)
        }
        np.savez_compressed(path.with_name("predictions.npz"), **arrays)
    return path


def of_recipe(protocol, recipe, data, **changes):
    """The config of a run of a recipe of published.json, with these changes (dotted keys, __ for the dot)."""
    flat = recipe_settings(protocol, recipe, data) | {"data.name": data}
    changes = {key.replace("__", "."): value for key, value in changes.items()}
    plain = {"one_of": lambda values: values[0], "not": lambda _: "openai", "any": lambda _: 1}
    config = {}
    for key, value in (flat | changes).items():
        if key not in changes and isinstance(value, dict) and value:
            ((condition, of),) = value.items()
            if condition == "absent":
                continue
            value = plain[condition](of)
        if isinstance(value, str) and value.startswith("${"):
            value = flat[value[2:-1]]
            value = plain[next(iter(value))](next(iter(value.values()))) if isinstance(value, dict) else value
        *above, name = key.split(".")
        node = config
        for part in above:
            node = node.setdefault(part, {})
        node[name] = value
    return config


def blocks(protocol, data):
    """(method, recipe, figures) of each block of published figures on a dataset; those of one recipe are joined."""
    joined = {}
    for block in published()["protocols"][protocol]["blocks"]:
        joined.setdefault(block["recipe"], {}).update(block["figures"].get(data, {}))
    recipes = published()["recipes"]
    return [(recipes[recipe]["method"], recipe, figures) for recipe, figures in joined.items() if figures]


def summaries(metrics, targets):
    """H and the average, as the project's protocols have them."""
    wanted = {}
    if {"base", "new"} <= set(metrics):
        wanted["H"] = ("harmonic_mean", ["base", "new"])
    if targets:
        wanted["average"] = ("mean", list(targets))
    return {name: {"function": f, "evaluations": of, "value": 0.0} for name, (f, of) in wanted.items()}


def guessed(skill, classes=5, images=200, seed=0):
    """Predictions and the metrics that they have: a share `skill` is right, the others are spread."""
    rng = np.random.default_rng(seed)
    label = np.arange(images) % classes
    predicted = np.where(rng.random(images) < skill, label, rng.integers(0, classes, images))
    confidence = rng.uniform(0.2, 1.0, images).astype(np.float16)
    right = predicted == label
    per_class = [
        {"class": f"class {c}", "accuracy": 100 * float(right[label == c].mean()), "images": int((label == c).sum())}
        for c in range(classes)
    ]
    metrics = {"accuracy": 100 * float(right.mean()), "macro_f1": 50.0, "images": images, "per_class": per_class}
    return metrics, (predicted.astype(np.uint16), label.astype(np.uint16), confidence)


def full_set(folder):
    """Results of every kind that a report has a section for: three methods, two seeds, four protocols."""
    skills = {"zeroshot": (0.5, 0), "coop": (0.6, 512), "maple": (0.7, 70_000)}
    for method, (skill, parameters) in skills.items():
        for seed in (1, 2):
            for shots in (1, 4, 16):
                for data in ("shapes", "digits"):
                    metrics, arrays = guessed(skill + 0.01 * shots, seed=seed * 7 + shots)
                    epochs = 0 if method == "zeroshot" else 6
                    put(
                        *(folder, method, seed, shots, {"test": metrics}),
                        data=data,
                        predictions={"test": arrays},
                        trainable_parameters=parameters,
                        seconds=3.0 + parameters / 2000 + shots,
                        train_loss=[1.5 / (epoch + 1) + 0.1 * seed for epoch in range(epochs)],
                        history=[{"epoch": e, "test": {"accuracy": 40.0 + e + seed, "macro_f1": 0.0}} for e in range(epochs)],
                        versions={"python": "3.11", "torch": "2.6"},
                    )
            halves = {name: 100 * skill + shift + seed for name, shift in (("base", 10), ("new", -5 * (method == "coop")))}
            put(folder, method, seed, 16, halves, protocol="base_to_new")
            shifted = {"imagenet": 71.0, "imagenet_v2": 64.0, "imagenet_sketch": 48.0, "imagenet_a": 50.0, "imagenet_r": 76.0}
            where = {"protocol": "domain_generalization", "data": "imagenet", "clip": "vit_b16"}
            put(folder, method, seed, 16, shifted, targets=list(shifted)[1:], **where)
    return folder
