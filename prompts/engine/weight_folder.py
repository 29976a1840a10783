"""The files of a folder of CLIP weights, by open_clip's and transformers' names. Imports nothing, as `runs.identity` uses it
without torch."""

CONFIG = "open_clip_config.json"
WEIGHTS = (  # the first one that exists is read
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "open_clip_pytorch_model.pth",
    "model.safetensors",
    "pytorch_model.bin",
    "pytorch_model.pth",
    "model.pth",
)
INDEX_END = ".index.json"  # of a file that names those which hold the tensors
TRANSFORMERS_CONFIG = "config.json"
TRANSFORMERS_WEIGHTS = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
PROCESSORS = ("preprocessor_config.json", "processor_config.json")  # how transformers prepares images
TOKENIZER = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "vocab.txt", "vocab.json")
TOKENIZER_CONFIG = "tokenizer_config.json"
TOKENIZER_EXTRAS = ("merges.txt", "special_tokens_map.json", "added_tokens.json")
# what a folder's digest is made of, in this order, as patterns; the first two were there first
READ = (
    CONFIG,
    *WEIGHTS,
    TRANSFORMERS_CONFIG,
    "*.index.json",
    "*-of-*.safetensors",
    "*-of-*.bin",
    *PROCESSORS,
    TOKENIZER_CONFIG,
    *TOKENIZER,
    *TOKENIZER_EXTRAS,
)
# beside CONFIG alone, as patterns: the config of a text tower of transformers', in a folder of its name
TEXT_TOWERS = (f"*/{TRANSFORMERS_CONFIG}", f"*/*/{TRANSFORMERS_CONFIG}")
