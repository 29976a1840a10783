import json

import pytest
import torch
import torch.nn.functional as F
from test_methods import NAMES, batch, make, model_of

from prompts.engine.clip import FrozenCLIP
from prompts.engine.text_plan import TextPlan, token_lists

PROMPTS = {name: [f"a {name}.", f"some {name} here.", "there it is."][: 1 + i % 3] for i, name in enumerate(NAMES)}


def feature(clip: FrozenCLIP, sentence: str):
    return F.normalize(clip.encode_text(TextPlan(token_lists(clip.tokenizer, [sentence], "{}", 0, "end"))), dim=-1)[0]


@pytest.mark.parametrize("as_file", [True, False])
def test_text_features_are_the_means_of_the_sentences(small_clip, tmp_path, as_file):
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps(PROMPTS))
    model = model_of(small_clip, make("cupl", prompts=str(path) if as_file else PROMPTS))
    text = torch.stack([torch.stack([feature(small_clip, s) for s in PROMPTS[name]]).mean(0) for name in NAMES])
    images = batch()[0]
    torch.testing.assert_close(
        model(images).logits, small_clip.logits(small_clip.encode_image(images), text), rtol=1e-4, atol=1e-4
    )
    assert not list(model.learner.parameters())


def test_classes_without_sentences_are_named_unless_there_is_a_fallback(small_clip):
    settings = {"prompts": PROMPTS}
    model = model_of(small_clip, make("cupl", **settings), NAMES[:2])
    with pytest.raises(ValueError, match="no entry for 1 classes"):
        model.bind([*NAMES, "a quite unknown thing"])
    model_of(small_clip, make("cupl", fallback="a photo of a {}.", **settings), ["a quite unknown thing"])
    with pytest.raises(Exception, match="method.prompts=PATH"):  # noqa: PT011 - wrapped by instantiate
        make("cupl", prompts=None)
