import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.random import RandomState

from datamodules.captions import Scene, caption, picture
from datamodules.digits import Digits
from datamodules.items import Source
from datamodules.shapes import Shapes
from prompts.engine.clip import FrozenCLIP, load_clip, load_tiny
from tools import tiny_clip


@pytest.fixture(scope="module")
def few_pictures():
    return tiny_clip.draw_world(96, seed=3)


@pytest.fixture(scope="module")
def shipped() -> FrozenCLIP:
    return load_tiny()


def zero_shot(clip: FrozenCLIP, source: Source, template: str, count: int) -> float:
    """Accuracy on every `count`-th test picture, in percent; `count` is odd, as styles take turns."""
    splits = source.splits(1)
    items = splits.test[::count]
    mean, std = (torch.tensor(clip.image_spec[key]).view(3, 1, 1) for key in ("mean", "std"))
    pictures = np.stack([np.asarray(source.open(item)) for item in items])
    images = (torch.from_numpy(pictures).permute(0, 3, 1, 2) / 255 - mean) / std
    tokens = clip.tokenizer([template.format(name) for name in splits.classnames])
    with torch.no_grad():
        logits = clip.logits(clip.encode_image(images), clip.model.encode_text(tokens))
    return 100 * (logits.argmax(1) == torch.tensor([item.label for item in items])).float().mean().item()


def test_captions_name_what_is_drawn():
    rng = RandomState(0)
    scene = Scene("sketch", "star", "red", "striped")
    texts = [caption(scene, rng) for _ in range(60)]
    assert len(set(texts)) > 15
    assert all("star" in text for text in texts)
    assert 30 < sum("red" in text.split() for text in texts) < 60, "some captions leave the colour out"
    assert any("sketch" in text for text in texts)
    assert any("sketch" not in text for text in texts)
    assert caption(Scene("scan", digit=7), rng).strip(".").split()[-1] in ("7", "seven")
    assert len(caption(scene, rng, filler=9).split()) >= 10


def test_world_is_seeded(few_pictures):
    pixels, scenes = few_pictures
    again, same = tiny_clip.draw_world(5, seed=3)
    assert np.array_equal(pixels[:5], again)
    assert scenes[:5] == same
    assert {scene.style for scene in scenes} >= {"photo", "drawing", "painting"}
    assert len(set(scenes)) > 80
    other, _ = picture(RandomState([4, 0]))
    assert other != scenes[0]


def test_recipe_learns_and_is_reproducible(few_pictures, tmp_path):
    model, tokenizer, losses = tiny_clip.train(few_pictures, steps=30, batch=32, lr=2e-3)
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    _, _, again = tiny_clip.train(few_pictures, steps=30, batch=32, lr=2e-3)
    assert losses[:3] == pytest.approx(again[:3], abs=1e-4)
    tiny_clip.save(model, tokenizer, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "weights.safetensors"]
    loaded = load_clip(str(tmp_path / "config.json"), str(tmp_path / "weights.safetensors"))
    text = "a photo of a red star."
    with torch.no_grad():
        trained = tiny_clip.encode_text(model, tokenizer([text]))
        stored = loaded.model.encode_text(loaded.tokenizer([text]))
    assert F.cosine_similarity(trained, stored).item() > 0.999, "half precision is all that storing may cost"


def test_text_cut_to_the_longest_caption_is_open_clips_own(few_pictures):
    _, scenes = few_pictures
    texts = [caption(scene, RandomState(i)) for i, scene in enumerate(scenes[:8])]
    tokenizer = tiny_clip.CaptionTokenizer(texts)
    model, tokens = tiny_clip.small_clip(len(tokenizer.rows)), tokenizer(texts)
    with torch.no_grad():
        assert torch.allclose(tiny_clip.encode_text(model, tokens), model.encode_text(tokens), atol=1e-5)


@pytest.mark.parametrize("model", tiny_clip.RECIPES)
def test_shipped_weights_are_small_and_match_the_recipe(model):
    recipe = tiny_clip.RECIPES[model]
    folder = tiny_clip.ENGINE / recipe.folder
    assert (folder / "weights.safetensors").stat().st_size < 1e7
    assert json.loads((folder / "config.json").read_text()) == recipe.config


def test_a_model_that_is_not_in_the_repository_is_refused():
    with pytest.raises(ValueError, match="clip.folder=../mine: the CLIPs in the repository are tiny_clip and tiny_large"):
        load_tiny(folder="../mine")


def test_half_of_the_teachers_pictures_are_paler():
    full, scenes = tiny_clip.draw_world(40, seed=3)
    paler, same = tiny_clip.draw_world(40, seed=3, palest=0.2)
    changed = [not np.array_equal(one, other) for one, other in zip(full, paler, strict=True)]
    assert same == scenes
    assert not any(changed[::2])
    assert sum(changed[1::2]) > 15, "grey pictures cannot be paler"
    assert np.ptp(paler, axis=3).mean() < np.ptp(full, axis=3).mean()


def test_shipped_zero_shot_leaves_something_to_learn_and_to_lose(shipped):
    shapes = zero_shot(shipped, Shapes(), "a photo of a {}.", 3)
    assert 45 < shapes < 68, "36 classes: chance is 3%"
    for domain in ("sketch", "dark"):
        assert 15 < zero_shot(shipped, Shapes(domain), "a photo of a {}.", 3) < shapes - 5, f"{domain} must be harder"
    assert 40 < zero_shot(shipped, Digits(), "a scan of the digit {}.", 3) < 65, "10 classes: chance is 10%"


@pytest.mark.parametrize("domain", ["search", "shapes", "sketch", "dark"])
def test_the_teacher_is_clearly_better_than_the_tiny_clip(shipped, domain):
    scores = [zero_shot(clip, Shapes(domain), "a photo of a {}.", 3) for clip in (shipped, load_tiny(folder="tiny_large"))]
    assert scores[1] > scores[0] + 25


def test_the_accuracies_that_the_documents_state(shipped):
    source = Shapes("search")
    scores = [zero_shot(clip, source, "a photo of a {}.", 1) for clip in (shipped, load_tiny(folder="tiny_large"))]
    assert scores == pytest.approx([57, 92], abs=1)
