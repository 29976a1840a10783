"""The number of shots in words, and the title of a run."""

from pathlib import Path

import pytest

from runs.jobs import Job
from runs.shots import shots_text


@pytest.mark.parametrize(("shots", "text"), [(0, "0 shots"), (1, "1 shot"), (16, "16 shots"), (-1, "all images")])
def test_in_words(shots, text):
    assert shots_text(shots) == text
    job = Job({"method": "mine", "data": "birds"}, {"shots": shots, "seed": 3}, "abc", Path())
    assert job.title == f"mine on birds, {text}, seed 3"
