"""The checkpoint in a folder of Dassl."""

import pytest

from files.dassl import checkpoint_of


@pytest.fixture
def folder(tmp_path):
    """Makes files in a run's folder -> its path."""

    def make(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/").replace("_pth_", ".pth.")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    return make


def test_the_newest_of_a_model_or_of_a_run(folder, tmp_path):
    run = folder(**{"prompt_learner__model_pth_tar-5": "", "prompt_learner__model_pth_tar-50": "", "log.txt": ""})
    newest = str(run / "prompt_learner" / "model.pth.tar-50")
    assert checkpoint_of(str(run)) == checkpoint_of(str(run / "prompt_learner")) == checkpoint_of(newest) == newest
    folder(prompt_learner__checkpoint="model.pth.tar-5\n")
    assert checkpoint_of(str(run)).endswith("model.pth.tar-5")


def test_other_paths_stay(folder, tmp_path):
    assert checkpoint_of(str(tmp_path)) == str(tmp_path)
    assert checkpoint_of("nothing/here") == "nothing/here"
    folder(**{"model_pth_tar-5": "", "prompts.safetensors": ""})
    assert checkpoint_of(str(tmp_path)) == str(tmp_path)


@pytest.mark.parametrize("name", ["../secret", "model.pth.tar-7", "/etc/passwd", "", "\x00"])
def test_a_name_that_is_no_checkpoint_there(folder, name):
    with pytest.raises(ValueError, match="which is no checkpoint in that folder"):
        checkpoint_of(str(folder(**{"prompt_learner__model_pth_tar-5": "", "prompt_learner__checkpoint": name})))


def test_two_models_are_not_chosen_from(folder):
    with pytest.raises(ValueError, match="checkpoints in prompt_learner, VLPromptLearner: name one"):
        checkpoint_of(str(folder(**{"prompt_learner__model_pth_tar-5": "", "VLPromptLearner__model_pth_tar-5": ""})))
