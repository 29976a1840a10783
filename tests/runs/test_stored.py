"""What a result or saved prompts say about a config is taken as plain values of our keys' types."""

import pytest
from omegaconf import OmegaConf

from runs.stored import take_over


def test_stored_values_leave_alone_what_follows_another_key():
    cfg = OmegaConf.create({"root": "a", "path": "${root}/x", "kept": [1], "other": "${missing}", "part": {"_target_": "good"}})
    stored = {"root": "b", "path": "b/x", "kept": [1, 2], "other": 5, "new": 1, "part": {"_target_": "bad"}}
    assert take_over(cfg, stored, "a result") == {}
    cfg.root = "c"
    assert cfg == {"root": "c", "path": "c/x", "kept": [1, 2], "other": 5, "part": {"_target_": "good"}}
    assert take_over(cfg, {"path": "/elsewhere"}, "a result") == {"path": "/elsewhere"}
    assert cfg.path == "/elsewhere"


@pytest.mark.parametrize(
    "stored", [{"kept": 1}, {"kept": [1, "a"]}, {"root": 5}, {"root": None, "kept": {}}, {"part": 5}, {"n": True}, {"n": 1.5}]
)
def test_stored_values_have_our_types(stored):
    cfg = OmegaConf.create({"root": "a", "kept": [1], "n": 2, "part": {"_target_": "good"}})
    with pytest.raises(ValueError, match="a result says"):
        take_over(cfg, stored, "a result")
