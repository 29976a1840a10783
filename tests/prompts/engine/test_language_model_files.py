"""Language models from folders that anyone may have made: what is read, and what is refused in a sentence."""

import json

import pytest
import torch

pytest.importorskip("transformers")

from small_lms import VOCABULARY, small_lm, write_lm

from prompts.engine import lm_config
from prompts.engine.language_model import Generation, load_language_model

TEXTS = ["a red ball", "two green stars"]
GREEDY = Generation(max_tokens=8)


def contexts(lm):
    return [[torch.ones(5, lm.width), "A picture of"], ["Q:"]]


@pytest.mark.parametrize("form", ["safetensors", "bin", "parts"])
@pytest.mark.parametrize("kind", ["gpt2", "opt", "llama"])
def test_a_folder_is_read(tmp_path, kind, form):
    lm, made = load_language_model(str(write_lm(tmp_path, kind, form))), small_lm(kind)
    asked = contexts(lm)
    assert torch.equal(lm.losses(asked, TEXTS), made.losses(asked, TEXTS))
    assert lm.identity["weights"] == made.identity["weights"]
    assert lm.identity["architecture"] == made.identity["architecture"]


def test_the_folder_says_nothing_about_generation(tmp_path):
    lm, folder = small_lm(), write_lm(tmp_path, max_length=1, do_sample=True, suppress_tokens=list(range(VOCABULARY)))
    (folder / "generation_config.json").write_text(json.dumps({"max_new_tokens": 1, "do_sample": True, "temperature": 9.0}))
    assert load_language_model(str(folder)).generate(contexts(lm), GREEDY) == lm.generate(contexts(lm), GREEDY)


def test_identity_is_of_weights_tokenizer_and_architecture(tmp_path):
    def identity(name, kind="gpt2", change=lambda folder: None, **says):
        folder = write_lm(tmp_path / name, kind, **says)
        change(folder)
        return load_language_model(str(folder)).identity

    def other_tokenizer(folder):
        (folder / "tokenizer.json").write_text((folder / "tokenizer.json").read_text() + " ")

    first = identity("a")
    assert identity("b") == first
    differ = {key for key, value in identity("c", change=other_tokenizer).items() if value != first[key]}
    assert differ == {"tokenizer"}
    differ = {key for key, value in identity("d", activation_function="relu").items() if value != first[key]}
    assert differ == {"architecture"}
    assert identity("e", "llama")["weights"] != first["weights"]


def test_weights_that_do_not_fit_are_a_sentence(tmp_path):
    folder = write_lm(tmp_path, n_layer=3)
    with pytest.raises(ValueError, match=r"12 tensors are missing, first transformer\.h\.2"):
        load_language_model(str(folder))
    write_lm(folder, n_layer=1)
    with pytest.raises(ValueError, match="1[12] tensors are too many"):
        load_language_model(str(folder))
    write_lm(folder, n_inner=96)
    with pytest.raises(ValueError, match="cannot be built|of another size"):
        load_language_model(str(folder))
    write_lm(folder, vocab_size=2**20)
    with pytest.raises(ValueError, match="its config describes .* numbers, its weights are"):
        load_language_model(str(folder))


def test_what_is_no_language_model_is_a_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(lm_config, "hub_file", lambda *_: (_ for _ in ()).throw(ValueError("no net")))
    for name in ("nowhere/at_all", "gpt2"):
        with pytest.raises(ValueError, match=f"lm.model={name}: there is no such folder, and on the hub"):
            load_language_model(name)
    with pytest.raises(ValueError, match="an id on the hub is NAME or ORGANISATION/NAME"):
        load_language_model("../up/../there")
    with pytest.raises(ValueError, match="the folder has no weights named model.safetensors"):
        load_language_model(str(tmp_path))
    folder = write_lm(tmp_path / "a")
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match="holds no tokenizer .*: copy it there"):
        load_language_model(str(folder))
