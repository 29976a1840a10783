"""The pictures of the drawn scenes, and how well a CLIP that never saw two things at once finds their captions."""

import hashlib

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from datamodules import scenes
from datamodules.captioned import CaptionedData
from datamodules.drawn_scenes import DrawnQuestions, DrawnScenes, ManyThings, draw_scene


def test_pictures_follow_from_the_key_alone():
    pictures = [np.asarray(draw_scene(f"{domain}/test/{i}")) for domain in scenes.DOMAINS for i in range(4)]
    assert {picture.shape for picture in pictures} == {(32, 32, 3)}
    again = [np.asarray(draw_scene(f"{domain}/test/{i}")) for domain in scenes.DOMAINS for i in range(4)]
    assert all((a == b).all() for a, b in zip(pictures, again, strict=True))
    assert len({hashlib.sha256(picture.tobytes()).digest() for picture in pictures}) == len(pictures)


def test_things_lie_within_the_picture_and_apart():
    """Every thing has its part of the mask: as many pieces as things, seldom touching."""
    from scipy.ndimage import label

    apart = 0
    for key in scenes.keys("scenes", "test")[:60]:
        content = scenes.scene(key)
        drawn = ManyThings(content, scenes.generator(key, "picture"))
        assert [drawn.mask.shape, drawn.pattern.shape, drawn.rgb.shape] == [(32, 32, 1), (32, 32, 1), (32, 32, 3)]
        assert 25 * content.count < drawn.mask.sum() < 700
        pieces, count = label(drawn.mask[..., 0] > 0.3, np.ones((3, 3)))
        apart += count >= content.count
    assert apart > 50


def test_the_splits_are_apart_and_a_question_brings_its_captions():
    captioned, asked = DrawnScenes().splits(1), DrawnQuestions().splits(7)
    for split, size in scenes.SIZES.items():
        images, questions = getattr(captioned, split), getattr(asked, split)
        assert [len(images), len(questions)] == [size, 4 * size]
        assert [image.path for image in images] == list(dict.fromkeys(question.path for question in questions))
        assert questions[-1].captions == images[-1].captions
        assert len({question.question_id for question in questions}) == len(questions)
    paths = [image.path for split in scenes.SIZES for image in getattr(captioned, split)]
    assert len(set(paths)) == len(paths)
    assert DrawnScenes("scenes").digest(1) != DrawnScenes("sketch").digest(1)
    test = captioned.test
    assert DrawnScenes().content_digest(test) == DrawnScenes().content_digest(test) != DrawnScenes().content_digest(test[:9])
    with pytest.raises(ValueError, match="domain='photos'"):
        DrawnScenes("photos")


@torch.no_grad()
def test_the_tiny_clip_finds_captions_far_above_chance_and_far_from_perfectly():
    from prompts.engine.clip import load_tiny
    from prompts.parts.teacher import fixed_plan

    clip = load_tiny()
    data = CaptionedData("scenes", DrawnScenes(), clip.image_spec, -1, 1, eval_batch_size=60)
    items = data.test_items[:60]
    images = clip.encode_image(next(iter(data.eval_loader("test")))["image"])[:60]
    captions = [caption for item in items for caption in item.captions]
    texts = clip.encode_text(fixed_plan(clip, captions, "{}"))
    found = (F.normalize(images, dim=-1) @ F.normalize(texts, dim=-1).T).argmax(1) // 5
    recall = (found == torch.arange(60)).float().mean().item()
    assert 0.2 < recall < 0.7  # chance: 1 / 60; 0.24 among all 500 images
