"""Random language models of every kind that is known, of two blocks, with a tokenizer made on the spot."""

import json
from functools import cache
from pathlib import Path

import torch
from safetensors.torch import save_file

from prompts.engine.language_model import FrozenLM
from prompts.engine.lm_words import Words

WIDTH, VOCABULARY, POSITIONS, END = 32, 300, 64, "<|endoftext|>"
SIZES = {"hidden_size": WIDTH, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES |= {"max_position_embeddings": POSITIONS, "vocab_size": VOCABULARY}
GROUPED = SIZES | {"num_key_value_heads": 1}
OLD_SIZES = {"n_embd": WIDTH, "n_layer": 2, "n_head": 2, "n_positions": POSITIONS, "vocab_size": VOCABULARY}
OPT = {key: value for key, value in SIZES.items() if key != "intermediate_size"} | {"ffn_dim": 64}
KINDS = {
    "gpt2": OLD_SIZES,
    "gpt_neox": SIZES,
    "gptj": OLD_SIZES | {"rotary_dim": 8},
    "llama": GROUPED,
    "mistral": GROUPED | {"sliding_window": 48},
    "opt": OPT | {"word_embed_proj_dim": 16},
    "qwen2": GROUPED,
}
TEXTS = ["a red ball on the left of a blue box", "Q: what colour is it? A: red", "A picture of two green stars"]


@cache
def core():
    """A byte-level tokenizer of the package tokenizers."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    options = {"initial_alphabet": alphabet, "show_progress": False}
    tokenizer.train_from_iterator(3 * TEXTS, trainers.BpeTrainer(vocab_size=VOCABULARY, special_tokens=[END], **options))
    return tokenizer


def words(**options):
    from transformers import PreTrainedTokenizerFast

    return Words(PreTrainedTokenizerFast(tokenizer_object=core(), **({"eos_token": END} | options)), "digest")


def network(kind):
    """A model of transformers' whose weights are large enough for each part to matter."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(kind, **KINDS[kind], bos_token_id=None, eos_token_id=None, pad_token_id=None)
    model = AutoModelForCausalLM.from_config(config)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator) + (parameter.dim() < 2)
    return model


@cache
def small_lm(kind="gpt2"):
    return FrozenLM(network(kind), words())


def write_lm(folder: Path, kind="gpt2", form="safetensors", **says):
    """A folder in transformers' format; `says`: of its config."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.clone() for name, tensor in network(kind).state_dict().items()}
    if kind in ("gpt2", "opt"):  # tied
        del state["lm_head.weight"]
    if form == "safetensors":
        save_file(state, folder / "model.safetensors")
    elif form == "bin":
        torch.save(state, folder / "pytorch_model.bin")
    else:
        names = sorted(state)
        parts = {f"model-0000{i + 1}-of-00002.safetensors": names[i::2] for i in (0, 1)}
        for file, held in parts.items():
            save_file({name: state[name] for name in held}, folder / file)
        index = {"weight_map": {name: file for file, held in parts.items() for name in held}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps({"model_type": kind, **KINDS[kind]} | says))
    (folder / "tokenizer.json").write_text(core().to_str())
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": END}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
